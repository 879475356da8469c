"""SPZ (Niantic), versions 1 to 4: attribute by attribute, quantized, gzip (1 to 3) or Zstandard streams (4).

Layout (nianticlabs/spz, README and 2026 header): 24-bit fixed-point centres, 8-bit opacity, base colour, ln-scale and
SH, and quaternions of 3 bytes (to version 2) or of 2+10+10+10 bits. Frame: the documentation says right-up-back, but
files made from `.ply` by the official tool, splat-transform and Spark hold the `.ply` frame unchanged; so does this
module unless told otherwise. A file that names its frame (Adobe's extension 0xADBE0003) is read as named.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import prepare
from splat.coding.deflate import gzip, with_padding
from splat.coding.limits import MAX_EXPANSION, check_claim, inflate_gzip, inflate_zstd, padding
from splat.coding.morton import morton
from splat.errors import InputError
from splat.files import write_bytes
from splat.formats import axes
from splat.formats.spz import quantizer
from splat.machine import usable_cores
from splat.reading import read_bytes

MAGIC = 0x5053474E
HEADER = struct.Struct("<IIIBBBB")  # magic, version, points, SH degree, fractional bits, flags, streams
ANTIALIASED, EXTENDED = 1, 2
FRAME_EXTENSION = 0xADBE0003
# Adobe's numbering of frames.
FRAMES = ("", *"LDB RDB LUB RUB LDF RDF LUF RUF LFD RFD LFU RFU LBD RBD LBU RBU".split())
MAX_EXTENSIONS = 1 << 20  # bytes of extensions we are ready to skip
VERSIONS = (2, 3, 4)
# Spark 2.2, Babylon, Cesium and PlayCanvas's tools read version 3; many do not read 4 yet, and 2 rotates coarsely.
DEFAULT_VERSION = 3
GZIP_LEVEL = 6  # 9 takes five times as long for 1.5 %
ZSTD_LEVEL = 12  # the reference encoder's


@dataclass(frozen=True)
class Header:
    """The first 16 bytes. ``frame`` is "" unless the file names its axes."""

    version: int
    count: int
    degree: int
    fraction: int
    flags: int
    streams: int
    frame: str = ""


def read(path: Path, frame: str | None = None, max_degree: int = 4) -> GaussianArrays:
    """Read ``path``.

    Args:
        frame: axes the numbers are in, such as "RUB"; if None what the file says, else "RDF".
        max_degree: higher SH bands are left out.
    """
    return decode(read_bytes(path), path, frame, max_degree)


def decode(data: bytes, path: Path, frame: str | None = None, max_degree: int = 4) -> GaussianArrays:
    """The cloud in the SPZ file ``data``; ``path`` is for messages."""
    if data[:2] == b"\x1f\x8b":
        header, blocks = _open_gzip(path, data)
    elif len(data) >= HEADER.size and struct.unpack_from("<I", data)[0] == MAGIC:
        header, blocks = (
            _open_streams(path, data) if struct.unpack_from("<I", data, 4)[0] >= 4 else _open_plain(path, data)
        )
    else:
        raise InputError(f"{path}: it starts with neither gzip data nor 'NGSP', so it is no .spz file; check the file")
    table = quantizer.decode(blocks, header.version, header.count, header.degree, header.fraction, max_degree)
    return axes.convert(table, frame or header.frame or axes.HOME, axes.HOME)


def _parse(path: Path, data: bytes, have: int) -> Header:
    """Read and check the header; ``have`` is the stored size that its claim must fit."""
    magic, version, count, degree, fraction, flags, streams = HEADER.unpack_from(data)
    if magic != MAGIC or version not in (1, 2, 3, 4):
        raise InputError(
            f"{path}: SPZ version {version} (magic {magic:#x}) is unknown, expected 1 to 4; convert it anew"
        )
    if fraction > 23 and version > 1:
        raise InputError(
            f"{path}: the header claims {fraction} fractional bits, expected at most 23; the file is damaged"
        )
    if degree > 4:
        raise InputError(f"{path}: the header claims SH degree {degree}, expected 0 to 4; the file is damaged")
    # Zstandard's runs may be longer than deflate's, so that the general limit alone holds for them.
    least = sum(quantizer.sizes(version, degree)) / MAX_EXPANSION if version < 4 else 0
    check_claim(path, count, degree, least, have)
    return Header(version, count, degree, fraction, flags, streams)


def _open_gzip(path: Path, data: bytes) -> tuple[Header, list[bytes]]:
    header = _parse(path, inflate_gzip(path, data, HEADER.size, HEADER.size), len(data))
    if header.version > 3:
        raise InputError(f"{path}: version {header.version} inside gzip is unknown; expected version 1 to 3")
    sizes = [size * header.count for size in quantizer.sizes(header.version, header.degree)]
    need = HEADER.size + sum(sizes)
    more = MAX_EXTENSIONS if header.flags & EXTENDED else 0
    return _split(path, inflate_gzip(path, data, need + more, need), header, sizes)


def _open_plain(path: Path, data: bytes) -> tuple[Header, list[bytes]]:
    """Versions 1 to 3 that somebody unpacked without converting."""
    header = _parse(path, data, len(data))
    sizes = [size * header.count for size in quantizer.sizes(header.version, header.degree)]
    if len(data) < HEADER.size + sum(sizes):
        raise InputError(
            f"{path}: {len(data):,} bytes, expected {HEADER.size + sum(sizes):,}; the file is truncated, copy it again"
        )
    return _split(path, data, header, sizes)


def _split(path: Path, data: bytes, header: Header, sizes: list[int]) -> tuple[Header, list[bytes]]:
    view, at, blocks = memoryview(data), HEADER.size, []
    for size in sizes:
        blocks.append(view[at : at + size])
        at += size
    return _with_frame(header, data[at:] if header.flags & EXTENDED else b""), blocks


def _open_streams(path: Path, data: bytes) -> tuple[Header, list[bytes]]:
    """Version 4: a 32-byte header, extensions, a table of sizes, and one Zstandard stream per attribute."""
    if len(data) < 32:
        raise InputError(
            f"{path}: {len(data)} bytes is less than the 32-byte header; the file is truncated, copy it again"
        )
    header = _parse(path, data, len(data))
    table = struct.unpack_from("<I", data, 16)[0]
    sizes = [size * header.count for size in quantizer.sizes(header.version, header.degree)]
    sizes = sizes if header.degree else sizes[:5]
    at = table + 16 * header.streams
    if header.streams != len(sizes) or not 32 <= table <= len(data) or at > len(data):
        raise InputError(
            f"{path}: the header names {header.streams} streams at byte {table:,} of {len(data):,}, expected "
            f"{len(sizes)}; the file is truncated or damaged, copy it again"
        )
    blocks = []
    for i, size in enumerate(sizes):
        stored, claimed = struct.unpack_from("<QQ", data, table + 16 * i)
        if claimed != size or at + stored > len(data):
            raise InputError(
                f"{path}: stream {i} claims {claimed:,} bytes in {stored:,}, expected {size:,} in at most "
                f"{len(data) - at:,}; the file is truncated or damaged, copy it again"
            )
        blocks.append(inflate_zstd(path, data[at : at + stored], size))
        at += stored
    blocks += [b""] * (6 - len(blocks))
    records = data[32 : min(table, 32 + MAX_EXTENSIONS)]
    return _with_frame(header, records if header.flags & EXTENDED else b""), blocks


def _with_frame(header: Header, records: bytes) -> Header:
    """``header`` with the frame that the extension records name; records we do not know are skipped."""
    at, frame = 0, ""
    while at + 8 <= len(records):
        kind, size = struct.unpack_from("<II", records, at)
        if kind == FRAME_EXTENSION and size == 4 and at + 12 <= len(records):
            number = struct.unpack_from("<I", records, at + 8)[0]
            frame = FRAMES[number] if number < len(FRAMES) else ""
        at += 8 + size
    return Header(header.version, header.count, header.degree, header.fraction, header.flags, header.streams, frame)


def write(
    table: GaussianArrays,
    path: Path,
    *,
    version: int = DEFAULT_VERSION,
    antialiased: bool = False,
    frame: str = axes.HOME,
    reorder: bool = True,
) -> None:
    """Write ``table``.

    Args:
        version: 2 (oldest readers; coarse rotations), 3 (most viewers today) or 4 (Zstandard; newest).
        antialiased: mark the cloud as trained with the antialiased (mip) blur.
        frame: axes to store the numbers in; "RDF" as other tools do with a `.ply`, or "RUB" as SPZ's README says.
        reorder: sort along a space-filling curve, which compresses better.
    """
    write_bytes(path, encode(table, path, version=version, antialiased=antialiased, frame=frame, reorder=reorder))


def encode(table: GaussianArrays, path: Path, *, version: int, antialiased: bool, frame: str, reorder: bool) -> bytes:
    """The SPZ file of ``table`` as bytes; ``path`` is for messages."""
    if version not in VERSIONS:
        raise InputError(f"{path}: SPZ version {version} cannot be written; choose 2, 3 or 4")
    if frame not in FRAMES[1:]:
        raise InputError(f"{path}: the frame '{frame}' is unknown; choose one of {', '.join(FRAMES[1:])}")
    table = axes.convert(prepare(table, path), axes.HOME, frame)
    order = morton(table.means) if reorder else np.arange(len(table))
    fraction = quantizer.fraction_bits(table, path)
    blocks = quantizer.encode(table, order, version, fraction)
    head = [MAGIC, version, len(table), table.sh_degree, fraction, ANTIALIASED if antialiased else 0]
    if version < 4:
        data = gzip([HEADER.pack(*head, 0), *blocks], GZIP_LEVEL)
        return with_padding(data, padding(len(table), table.sh_degree, len(data)))
    import zstandard

    # At level 12 more threads do not change the bytes, as long as there are threads at all.
    packer = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=usable_cores())
    packed = [packer.compress(block.data if block.size else b"") for block in blocks[: 6 if table.sh_degree else 5]]
    sizes = b"".join(struct.pack("<QQ", len(part), block.nbytes) for part, block in zip(packed, blocks, strict=False))
    # A cloud of equal Gaussians shrinks so far that readers would not believe it; the table may begin later.
    gap = padding(len(table), table.sh_degree, 32 + len(sizes) + sum(map(len, packed)))
    return HEADER.pack(*head, len(packed)) + struct.pack("<I12x", 32 + gap) + bytes(gap) + sizes + b"".join(packed)


def antialiased(path: Path) -> bool:
    """Whether the file is marked as trained with the antialiased (mip) blur."""
    with open(path, "rb") as file:
        start = file.read(4096)
    if start[:2] == b"\x1f\x8b":
        start = inflate_gzip(path, start, HEADER.size, HEADER.size, whole=False)
    return len(start) >= HEADER.size and bool(HEADER.unpack_from(start)[5] & ANTIALIASED)
