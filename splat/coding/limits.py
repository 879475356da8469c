"""Guards that readers share: claims are checked before memory is taken; inflating stops where the claim ends."""

import io
import os
import zlib
from pathlib import Path

from splat.errors import InputError

# Deflate cannot expand more than 1032:1; Zstandard's and WebP's constant runs can, but no real attribute does.
MAX_EXPANSION = 1032


def check_claim(path: Path, count: int, sh_degree: int, bytes_per_row: float, have: int) -> None:
    """Refuse ``count`` Gaussians that ``have`` bytes cannot hold or this machine's memory cannot.

    Args:
        bytes_per_row: the least number of stored bytes a row can take (after compression).
        have: bytes that are there.
    Raises InputError.
    """
    if not 0 <= count < 2**31 or not 0 <= sh_degree <= 4:
        raise InputError(
            f"{path}: the header claims {count} Gaussians of SH degree {sh_degree}; it is damaged, get it again"
        )
    if count * bytes_per_row > have:
        raise InputError(
            f"{path}: the header claims {count:,} Gaussians, which need at least {int(count * bytes_per_row):,} bytes, "
            f"but {have:,} are there; the file is truncated or damaged, make or copy it again"
        )
    size = count * 4 * (11 + 3 * (sh_degree + 1) ** 2)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size > memory:
        raise InputError(
            f"{path}: the header claims {count:,} Gaussians, {size / 1e9:.0f} GB in memory, but this machine has "
            f"{memory / 1e9:.0f} GB; use a larger machine, or get the file again if it is smaller than that"
        )


def inflate_gzip(path: Path, data: bytes, size: int, at_least: int, whole: bool = True) -> bytes:
    """The first ``size`` bytes of the gzip stream ``data``; all of it is never inflated.

    Raises InputError when the stream is damaged or ends before ``at_least`` bytes, or without its checksum if ``data``
    is ``whole``.
    """
    inflater = zlib.decompressobj(wbits=31)
    try:
        out = inflater.decompress(data, size)
        # One byte more: either there is one, or the checksum comes, or the file ends too soon.
        more = b"" if inflater.eof else inflater.decompress(inflater.unconsumed_tail, 1)
    except zlib.error as error:
        raise InputError(f"{path}: the gzip data is damaged ({error}); make or copy the file again") from error
    if len(out) < at_least or (whole and not more and not inflater.eof):
        raise InputError(
            f"{path}: the gzip data ends after {len(out):,} bytes, expected {at_least:,} and a checksum; "
            "the file is truncated, make or copy it again"
        )
    return out


def inflate_zstd(path: Path, data: bytes, size: int) -> bytes:
    """Exactly ``size`` bytes from the Zstandard stream ``data``. Raises InputError when it holds more or fewer."""
    import zstandard

    try:
        # 2^27 is the largest window a compliant encoder uses without the user asking for more.
        reader = zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(data))
        out = reader.read(size)
        rest = reader.read(1)
    except zstandard.ZstdError as error:
        raise InputError(f"{path}: the zstd data is damaged ({error}); make or copy the file again") from error
    if len(out) != size or rest:
        raise InputError(
            f"{path}: a zstd stream holds {'more than ' if rest else ''}{len(out):,} bytes, expected {size:,}; "
            "the file is damaged, make or copy it again"
        )
    return out
