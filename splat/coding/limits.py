"""Guards that readers share: claims are checked before memory is taken; inflating stops where the claim ends."""

import io
import os
import zlib
from pathlib import Path

from splat.errors import InputError

# Deflate cannot expand more than 1032:1; Zstandard's and WebP's constant runs can, but no real attribute does.
MAX_EXPANSION = 1032
# A cloud may be larger in memory than its file by this factor. Real files stay below 100; writers add bytes that say
# nothing to clouds so uniform that theirs would not (`padding`).
AMPLIFICATION = 256
# No entropy coded stream holds more rows in fewer bytes: a lane of four bytes serves at most 2048 symbols.
LEAST_BYTES_PER_ROW = 1 / 512
BELIEVED = 32 << 20  # bytes in memory of clouds that a file of any size may hold


def memory_bytes(count: int, sh_degree: int) -> int:
    """Bytes of ``count`` Gaussians in memory."""
    return count * 4 * (11 + 3 * (sh_degree + 1) ** 2)


def padding(count: int, sh_degree: int, have: int) -> int:
    """How many bytes a file of ``have`` bytes lacks for readers to believe that it holds ``count`` Gaussians."""
    size = memory_bytes(count, sh_degree)
    return max(0, -(-size // AMPLIFICATION) - have) if size > BELIEVED else 0


def check_claim(path: Path, count: int, sh_degree: int, bytes_per_row: float, have: int) -> None:
    """Refuse ``count`` Gaussians that ``have`` bytes cannot hold, or should not, or this machine's memory cannot.

    Args:
        bytes_per_row: the least number of stored bytes a row can take (after compression).
        have: bytes that are there, of all files that make the cloud.
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
    size = memory_bytes(count, sh_degree)
    if padding(count, sh_degree, have):
        raise InputError(
            f"{path}: {count:,} Gaussians are claimed, {size / 1e6:,.0f} MB in memory, but the file has {have:,} "
            f"bytes; more than {AMPLIFICATION} times a file's size is not believed, make or copy it again"
        )
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
