"""Numbers as people read them, and texts of strangers as they may be printed."""

import math
import unicodedata


def count(value: float) -> str:
    """12345 → '12 345' (with thin spaces)."""
    return f"{round(value):,}".replace(",", "\u2009")


def short(value: float) -> str:
    """12345 → '12.3k', for axes."""
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{unit}"
    return f"{value:.3g}"


def size(value: float) -> tuple[str, str]:
    """Bytes → number and unit (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return (f"{value:.0f}" if unit == "B" else f"{value:.3g}" if value < 100 else f"{value:.0f}"), unit
        value /= 1000
    return f"{value:.3g}", "TB"


def duration(seconds: float) -> str:
    """75 → '1 min 15 s'."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def clock(seconds: float) -> str:
    """75 → '1:15', for axes."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def score(value: float | None, digits: int) -> str:
    """A number with fixed digits, or a dash."""
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if math.isfinite(value) else "∞" if value > 0 else "–"


def amount(value: float) -> str:
    """Bytes for people: 1536 → '1.5 kB' (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def printable(text: str) -> str:
    """``text`` of a file, or a file's name, without power over the terminal: what is no plain sign is spelled out.

    Control characters (escape sequences, line ends), marks that turn the direction of writing, and bytes of file names
    that are no Unicode become \\x1b and the like.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        sign.encode("unicode_escape").decode() if unicodedata.category(sign) in _SILENT else sign for sign in text
    )


_SILENT = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
