"""`.splatz`: splat's own container, small, checksummed, coarse to fine. docs/splatz.md describes every byte."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import logits, prepare, without_zero_bands
from splat.coding.limits import check_claim, padding
from splat.coordinates import AT_ZERO, Georeference
from splat.errors import InputError
from splat.files import write_bytes
from splat.formats.splatz.basis import pack_basis, unpack_basis
from splat.formats.splatz.layers import read_layer, write_layer
from splat.formats.splatz.quantizer import USUAL_QUALITY, QuantizationGrid, QuantizationSteps
from splat.formats.splatz.rows import Rows
from splat.reading import DAMAGE, read_bytes, reason_of

MAGIC = b"SPLATZ\x1a\n"
VERSIONS = (3, 4)  # that can be read; the last is written
# magic, version, SH degree, flags, count, layers, SH components, visibility reference, origin, side, six steps
HEADER = struct.Struct("<8sHBBIBBxxq4d6f")
FLAGS_AT = 11  # byte of the header
LAYER = struct.Struct("<IIHxx")  # Gaussians, bytes of the streams, streams
CHECK = struct.Struct("<I")
ANTIALIASED, DETAILED, PADDED, PLACED = 1, 2, 4, 8  # flags
PLACE = struct.Struct("<3dI")  # after the header of a cloud with a georeference: its origin, EPSG code or 0
# No stream codes more rows in fewer bytes: a lane of four bytes serves 512 rows.
LEAST_BYTES_PER_ROW = 1 / 128
# Clouds below this many Gaussians are one layer; others have their most visible eighth first.
LAYERED = 16384


def write(
    table: GaussianArrays,
    path: Path,
    *,
    quality: float = USUAL_QUALITY,
    layers: int | None = None,
    antialiased: bool = False,
) -> None:
    """Write ``table`` (any SH degree, extras left out).

    Args:
        quality: ten more halve every quantization step; 50 is for viewing.
        layers: 1 to 8 parts, most visible Gaussians first, that a viewer can show as they arrive; None chooses.
        antialiased: mark the cloud as trained with the antialiased (mip) blur.

    Raises InputError for Gaussians that are not finite, or a quality or number of layers out of range.
    """
    write_bytes(path, encode(table, path, quality=quality, layers=layers, antialiased=antialiased))


def read(path: Path, layers: int | None = None) -> GaussianArrays:
    """Read a cloud, or its first ``layers`` layers. Every damaged byte is noticed. Raises InputError."""
    return decode(read_bytes(path), Path(path), layers)


def antialiased(path: Path) -> bool:
    """Whether the file is marked as trained with the antialiased (mip) blur."""
    with open(path, "rb") as file:
        start = file.read(HEADER.size)
    return _unpack_header(start, Path(path))[3] & ANTIALIASED != 0


def encode(
    table: GaussianArrays,
    path: Path | str = "cloud.splatz",
    *,
    quality: float | QuantizationSteps = USUAL_QUALITY,
    layers: int | None = None,
    antialiased: bool = False,
    grid: QuantizationGrid | None = None,
    detail: np.ndarray | None = None,
) -> bytes:
    """The bytes of the file.

    Args beyond those of `write`: quality may be steps; grid, in its place, is that of another cloud that this one was
    trained on. detail: (N,) binary digits by which position and shape of each Gaussian are finer than usual.
    """
    path = Path(path)
    if not isinstance(quality, QuantizationSteps) and not -50 <= quality <= 150:
        raise InputError(f"{path}: the quality is {quality:g}, expected -50 to 150 (50 is usual)")
    if layers is not None and not 1 <= layers <= 8:
        raise InputError(f"{path}: {layers} layers were asked for, expected 1 to 8")
    table = without_zero_bands(prepare(table, path))
    rows = Rows.of(table, detail)
    if grid is None or (len(grid.basis) and grid.basis.shape[1] != 3 * (rows.sh.shape[1] - 1)):
        grid = QuantizationGrid.fit(rows, QuantizationSteps.of(quality))
    grid = replace(grid, detailed=bool(rows.detail.any()))
    parts = _split(rows.ordered().visibility(), layers)
    flags = (ANTIALIASED if antialiased else 0) | (DETAILED if grid.detailed else 0)
    place = table.georeference
    flags |= PLACED if place != AT_ZERO else 0
    header = HEADER.pack(
        MAGIC, VERSIONS[-1], table.sh_degree, flags, len(table), len(parts), len(grid.basis),
        grid.reference, *grid.origin, grid.side, *vars(grid.steps).values(),
    ) + (PLACE.pack(*place.origin, place.epsg or 0) if flags & PLACED else b"") + pack_basis(grid.basis)  # fmt: skip
    out = [b""]
    for part in parts:
        streams = write_layer(rows.take(part), grid)
        body = b"".join(len(stream).to_bytes(4, "little") + stream for stream in streams)
        block = LAYER.pack(len(part), len(body), len(streams)) + body
        out += [block, CHECK.pack(zlib.crc32(block))]
    # A cloud of equal Gaussians shrinks so far that readers would not believe it.
    gap = padding(len(table), table.sh_degree, len(header) + CHECK.size + sum(map(len, out)))
    if gap:
        header = header[:FLAGS_AT] + bytes([flags | PADDED]) + header[FLAGS_AT + 1 :]
    return b"".join([header, CHECK.pack(zlib.crc32(header)), *out, bytes(gap)])


def decode(data: bytes, path: Path, layers: int | None = None) -> GaussianArrays:
    """The cloud in the bytes of a file; with ``layers`` they may end after that many layers."""
    fields = _unpack_header(data, path)
    _, _, degree, flags, count, stored, components, reference = fields[:8]
    wide = 3 * ((degree + 1) ** 2 - 1)
    at = HEADER.size + (PLACE.size if flags & PLACED else 0)
    end = at + components * (wide + 4)
    if components > wide or stored > 8 or (count > 0) != (stored > 0):
        raise _damaged(path, "the header contradicts itself")
    _check(data[:end], data[end : end + 4], path, "the header")
    if flags & ~(ANTIALIASED | DETAILED | PADDED | PLACED):
        raise _damaged(path, f"the flags {flags:#x} are not known")
    numbers = np.array(fields[8:])
    if not np.isfinite(numbers).all() or not (numbers[3:] > 0).all():
        raise _damaged(path, "the header holds a size that is no positive number")
    place = _place(data, path) if flags & PLACED else AT_ZERO
    basis = unpack_basis(data[at:end], components, wide)
    if not (np.abs(basis) < 1e6).all():
        raise _damaged(path, "the basis of colours is no directions")
    steps, detailed = QuantizationSteps(*numbers[4:].tolist()), flags & DETAILED != 0
    grid = QuantizationGrid(numbers[:3], float(numbers[3]), steps, basis, reference, detailed)
    at, blocks, wanted = end + 4, [], stored if layers is None else min(layers, stored)
    for number in range(wanted):  # all checksums before any decoding
        blocks.append((at, f"layer {number + 1} of {stored}"))
        at = _check_block(data, at, degree, path, blocks[-1][1])
    total = sum(LAYER.unpack_from(data, start)[0] for start, _ in blocks)
    check_claim(path, total, degree, LEAST_BYTES_PER_ROW, len(data))
    if wanted == stored and flags & PADDED and not any(data[at:]):
        at = len(data)
    if wanted == stored and (at != len(data) or total != count):
        raise _damaged(path, f"{total:,} Gaussians in {at:,} bytes were found, expected {count:,} in {len(data):,}")
    table = _table([_read_block(data, start, grid, degree, path, name) for start, name in blocks], degree)
    return table.replace(georeference=place)


def _place(data: bytes, path: Path) -> Georeference:
    """The georeference behind the header."""
    *origin, epsg = PLACE.unpack_from(data, HEADER.size)
    try:
        return Georeference.of_json({"origin": origin, "epsg": epsg or None})
    except ValueError as error:
        raise _damaged(path, f"the header's georeference is wrong: {error}") from error


# What the streams of a layer hold, in order; all further ones are view-dependent colour. One more if DETAILED.
DETAIL_STREAM = 8
STREAMS = ["position"] * 3 + ["size"] * 4 + ["opacity", "position", "size", "opacity", "rotation", "colour"]


def sizes(data: bytes, path: Path | str = "cloud.splatz") -> dict[str, int]:
    """Bytes of a file by attribute. Raises InputError."""
    fields = _unpack_header(data, Path(path))
    at = HEADER.size + (PLACE.size if fields[3] & PLACED else 0) + fields[6] * (3 * ((fields[2] + 1) ** 2 - 1) + 4) + 4
    names = [*STREAMS]
    if fields[3] & DETAILED:
        names.insert(DETAIL_STREAM, "detail")
    total = dict.fromkeys([*dict.fromkeys(names), "view-dependent colour"], 0)
    for number in range(fields[5]):
        end = _check_block(data, at, fields[2], Path(path), f"layer {number + 1}")
        at += LAYER.size
        for index in range(LAYER.unpack_from(data, at - LAYER.size)[2]):
            length = 4 + int.from_bytes(data[at : at + 4], "little")
            total[names[index] if index < len(names) else "view-dependent colour"] += length
            at += length
        at = end
    return total | {"headers and checksums": len(data) - sum(total.values())}


def _check_block(data: bytes, at: int, degree: int, path: Path, name: str) -> int:
    """Where the layer that begins at ``at`` ends, if its bytes are all there and right."""
    if at + LAYER.size > len(data):
        raise _damaged(path, f"{name} is missing; the file is truncated")
    count, size, _ = LAYER.unpack_from(data, at)
    end = at + LAYER.size + size
    _check(data[at:end], data[end : end + 4], path, name)
    if count * LEAST_BYTES_PER_ROW > size:
        raise _damaged(path, f"{name} claims {count:,} Gaussians in {size:,} bytes")
    return end + 4


def _read_block(data: bytes, at: int, grid: QuantizationGrid, degree: int, path: Path, name: str) -> Rows:
    """One layer whose bytes are right."""
    count, size, streams = LAYER.unpack_from(data, at)
    pieces, offset, end = [], at + LAYER.size, at + LAYER.size + size
    for _ in range(streams):
        length = int.from_bytes(data[offset : offset + 4], "little")
        pieces.append(data[offset + 4 : offset + 4 + length])
        offset += 4 + length
    if offset != end:
        raise _damaged(path, f"{name} has streams of wrong lengths")
    try:
        return read_layer(pieces, count, grid, degree)
    except (*DAMAGE, MemoryError) as error:
        raise _damaged(path, f"{name} cannot be decoded ({reason_of(error)})") from error


def _split(shown: np.ndarray, layers: int | None) -> list[np.ndarray]:
    """Rows of each layer: the last holds about two thirds, the one before it a quarter of that, and so on."""
    count = len(shown)
    if layers is None:
        layers = 1 if count < LAYERED else 2
    layers = min(layers, count)
    if layers == 0:
        return []
    shares = np.cumsum(4.0 ** np.arange(layers))
    ends = np.maximum(np.rint(count * shares / shares[-1]), np.arange(1, layers + 1)).astype(np.int64)
    return np.split(np.argsort(-shown, kind="stable"), ends[:-1])


def _table(layers: list[Rows], degree: int) -> GaussianArrays:
    if not layers:
        return GaussianArrays.empty(degree)

    @np.errstate(over="ignore")  # of a damaged file
    def joined(name: str) -> np.ndarray:
        return np.concatenate([getattr(rows, name) for rows in layers]).astype(np.float32)

    opacities = np.concatenate([rows.alphas for rows in layers])
    return GaussianArrays(joined("means"), joined("log_scales"), joined("quats"), logits(opacities), joined("sh"))


def _unpack_header(data: bytes, path: Path) -> tuple:
    if not data.startswith(MAGIC):
        raise InputError(f"{path}: the file does not begin as .splatz does; check what it is with `splat info`")
    if len(data) < HEADER.size:
        raise _damaged(path, f"only {len(data):,} bytes are there; the file is truncated")
    fields = HEADER.unpack_from(data)
    if fields[1] not in VERSIONS:
        raise InputError(f"{path}: .splatz version {fields[1]} is not known, expected 3 or 4; update splat")
    if fields[2] > 4:
        raise _damaged(path, f"the header says SH degree {fields[2]}, expected 0 to 4")
    return fields


def _check(block: bytes, stored: bytes, path: Path, name: str) -> None:
    if len(stored) != 4 or CHECK.unpack(stored)[0] != zlib.crc32(block):
        raise _damaged(path, f"the checksum of {name} does not fit, so that bytes are wrong or missing")


def _damaged(path: Path, what: str) -> InputError:
    return InputError(f"{path}: {what}; make or copy the file again")
