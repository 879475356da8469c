"""What commands check of their arguments, and how whole words are read as numbers."""

from pathlib import Path

from splat.errors import InputError


def whole_number(text: str) -> int:
    """The integer that ``text`` says, with an optional factor k (thousand) or M (million)."""
    factor = {"k": 1_000, "m": 1_000_000}.get(text[-1:].lower(), 1)
    try:
        value = float(text[:-1] if factor > 1 else text) * factor
        if value == int(value):
            return int(value)
    except (ValueError, OverflowError):
        pass  # said below, in the same words as for a fraction
    raise ValueError(f"'{text}' is not a whole number such as 30000, 300k or 1.5M")


READERS = {int: whole_number, float: float, str: str, Path: Path}
NAMES = {int: "INT", float: "FLOAT", str: "NAME", Path: "PATH"}  # of values, in the help


def require(path: Path, what: str) -> Path:
    """``path`` if it exists; InputError otherwise."""
    try:
        exists = path.exists()
    except OSError as error:  # such as a name that is too long
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    if not exists:
        raise InputError(f"{path}: no such {what}; check the path")
    return path
