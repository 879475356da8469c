"""`.splatz`: splat's own container, small, checksummed, coarse to fine. docs/splatz.md describes every byte."""

import struct
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas, logits, prepare, unit_quats, without_zero_bands
from splat.coding.limits import check_claim
from splat.coding.rans import Damaged
from splat.errors import InputError
from splat.files import write_bytes
from splat.formats.splatz.layers import read_layer, write_layer
from splat.formats.splatz.quantizer import (
    COLOUR,
    DETAIL,
    MIN_LOG_SCALE,
    Frame,
    Rows,
    Steps,
    canonical,
    cells_of,
    levels_of,
    visibility,
)

MAGIC = b"SPLATZ\x1a\n"
VERSIONS = (3, 4)  # that can be read; the last is written
# magic, version, SH degree, flags, count, layers, SH components, visibility reference, origin, side, six steps
HEADER = struct.Struct("<8sHBBIBBxxq4d6f")
LAYER = struct.Struct("<IIHxx")  # Gaussians, bytes of the streams, streams
CHECK = struct.Struct("<I")
ANTIALIASED, DETAILED = 1, 2  # flags
# No stream codes more rows in fewer bytes: a lane of four bytes serves 512 rows.
LEAST_BYTES_PER_ROW = 1 / 128
# Quality at which the steps are those of `Steps`; ten more halve them.
USUAL_QUALITY = 50.0
# Clouds below this many Gaussians are one layer; others have their most visible eighth first.
LAYERED = 16384
LARGE = 1024  # Gaussians above which a basis of its own pays for view-dependent colour


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
    return decode(Path(path).read_bytes(), Path(path), layers)


def antialiased(path: Path) -> bool:
    """Whether the file is marked as trained with the antialiased (mip) blur."""
    with open(path, "rb") as file:
        start = file.read(HEADER.size)
    return _unpack_header(start, Path(path))[3] & ANTIALIASED != 0


def encode(
    table: GaussianArrays,
    path: Path | str = "cloud.splatz",
    *,
    quality: float = USUAL_QUALITY,
    layers: int | None = None,
    antialiased: bool = False,
    steps: Steps | None = None,
    frame: Frame | None = None,
    detail: np.ndarray | None = None,
) -> bytes:
    """The bytes of the file.

    Args beyond those of `write`: steps replaces what ``quality`` says, and frame both: that of another cloud that this
    one was trained on. detail: (N,) binary digits by which place and shape of each Gaussian are finer than usual.
    """
    path = Path(path)
    if not -50 <= quality <= 150:
        raise InputError(f"{path}: the quality is {quality:g}, expected -50 to 150 (50 is usual)")
    if layers is not None and not 1 <= layers <= 8:
        raise InputError(f"{path}: {layers} layers were asked for, expected 1 to 8")
    table = without_zero_bands(prepare(table, path))
    rows = rows_of(table, detail)
    if frame is None or (len(frame.basis) and frame.basis.shape[1] != 3 * (rows.sh.shape[1] - 1)):
        frame = frame_of(rows, usable(steps) if steps else steps_of(quality))
    frame = replace(frame, detailed=bool(rows.detail.any()))
    parts = _split(visibility(*cells_of(canonical(rows.log_scales, rows.quats)[0], rows.alphas)), layers)
    flags = (ANTIALIASED if antialiased else 0) | (DETAILED if frame.detailed else 0)
    header = HEADER.pack(
        MAGIC, VERSIONS[-1], table.sh_degree, flags, len(table), len(parts), len(frame.basis),
        frame.reference, *frame.origin, frame.side, *vars(frame.steps).values(),
    ) + _pack_basis(frame.basis)  # fmt: skip
    out = [header, CHECK.pack(zlib.crc32(header))]
    for part in parts:
        streams = write_layer(rows.take(part), frame)
        body = b"".join(len(stream).to_bytes(4, "little") + stream for stream in streams)
        block = LAYER.pack(len(part), len(body), len(streams)) + body
        out += [block, CHECK.pack(zlib.crc32(block))]
    return b"".join(out)


def decode(data: bytes, path: Path, layers: int | None = None) -> GaussianArrays:
    """The cloud in the bytes of a file; with ``layers`` they may end after that many layers."""
    fields = _unpack_header(data, path)
    _, _, degree, flags, count, stored, components, reference = fields[:8]
    wide = 3 * ((degree + 1) ** 2 - 1)
    end = HEADER.size + components * (wide + 4)
    if components > wide or stored > 8 or (count > 0) != (stored > 0):
        raise _damaged(path, "the header contradicts itself")
    _check(data[:end], data[end : end + 4], path, "the header")
    check_claim(path, count, degree, LEAST_BYTES_PER_ROW, len(data))
    numbers = np.array(fields[8:])
    if not np.isfinite(numbers).all() or not (numbers[3:] > 0).all():
        raise _damaged(path, "the header holds a size that is no positive number")
    basis = _unpack_basis(data[HEADER.size : end], components, wide)
    if not (np.abs(basis) < 1e6).all():
        raise _damaged(path, "the basis of colours is no directions")
    steps, detailed = Steps(*numbers[4:].tolist()), flags & DETAILED != 0
    frame = Frame(numbers[:3], float(numbers[3]), steps, basis, reference, detailed)
    at, blocks, wanted = end + 4, [], stored if layers is None else min(layers, stored)
    for number in range(wanted):  # all checksums before any decoding
        blocks.append((at, f"layer {number + 1} of {stored}"))
        at = _check_block(data, at, degree, path, blocks[-1][1])
    total = sum(LAYER.unpack_from(data, start)[0] for start, _ in blocks)
    if wanted == stored and (at != len(data) or total != count):
        raise _damaged(path, f"{total:,} Gaussians in {at:,} bytes were found, expected {count:,} in {len(data):,}")
    return _table([_read_block(data, start, frame, degree, path, name) for start, name in blocks], degree)


# What the streams of a layer hold, in order; all further ones are view-dependent colour. One more if DETAILED.
DETAIL_STREAM = 8
STREAMS = ["position"] * 3 + ["size"] * 4 + ["opacity", "position", "size", "opacity", "rotation", "colour"]


def sizes(data: bytes, path: Path | str = "cloud.splatz") -> dict[str, int]:
    """Bytes of a file by attribute. Raises InputError."""
    fields = _unpack_header(data, Path(path))
    at = HEADER.size + fields[6] * (3 * ((fields[2] + 1) ** 2 - 1) + 4) + 4
    names = [*STREAMS]
    if fields[3] & DETAILED:
        names.insert(DETAIL_STREAM, "detail")
    found = dict.fromkeys([*dict.fromkeys(names), "view-dependent colour"], 0)
    for number in range(fields[5]):
        end = _check_block(data, at, fields[2], Path(path), f"layer {number + 1}")
        at += LAYER.size
        for index in range(LAYER.unpack_from(data, at - LAYER.size)[2]):
            length = 4 + int.from_bytes(data[at : at + 4], "little")
            found[names[index] if index < len(names) else "view-dependent colour"] += length
            at += length
        at = end
    return found | {"headers and checksums": len(data) - sum(found.values())}


def _check_block(data: bytes, at: int, degree: int, path: Path, name: str) -> int:
    """Where the layer that begins at ``at`` ends, if its bytes are all there and right."""
    if at + LAYER.size > len(data):
        raise _damaged(path, f"{name} is missing; the file is truncated")
    count, size, _ = LAYER.unpack_from(data, at)
    end = at + LAYER.size + size
    _check(data[at:end], data[end : end + 4], path, name)
    check_claim(path, count, degree, LEAST_BYTES_PER_ROW, size)
    return end + 4


def _read_block(data: bytes, at: int, frame: Frame, degree: int, path: Path, name: str) -> Rows:
    """One layer whose bytes are right."""
    count, size, streams = LAYER.unpack_from(data, at)
    pieces, place, end = [], at + LAYER.size, at + LAYER.size + size
    for _ in range(streams):
        length = int.from_bytes(data[place : place + 4], "little")
        pieces.append(data[place + 4 : place + 4 + length])
        place += 4 + length
    if place != end:
        raise _damaged(path, f"{name} has streams of wrong lengths")
    try:
        return read_layer(pieces, count, frame, degree)
    except (Damaged, ValueError, IndexError, OverflowError) as error:
        raise _damaged(path, f"{name} cannot be decoded ({error})") from error


def steps_of(quality: float) -> Steps:
    """The steps of a file of ``quality``."""
    return usable(Steps().scaled(2.0 ** ((USUAL_QUALITY - quality) / 10)))


def usable(steps: Steps) -> Steps:
    """``steps`` within range, as the file stores them."""
    # An eighth of the range is the coarsest that decodes sensibly, whatever the quality.
    steps = Steps(**vars(steps) | {"opacity": min(steps.opacity, 0.125), "rotation": min(steps.rotation, 0.2)})
    return Steps(*np.array(list(vars(steps).values()), np.float32).astype(np.float64).tolist())


def rows_of(table: GaussianArrays, detail: np.ndarray | None = None) -> Rows:
    """The numbers that are coded; without ``detail`` (N,) it is 0."""
    return Rows(
        table.means.astype(np.float64),
        np.maximum(table.log_scales, MIN_LOG_SCALE).astype(np.float64),
        unit_quats(table).astype(np.float64),
        alphas(table).astype(np.float64),
        table.sh.astype(np.float64),
        np.zeros(len(table), np.int64) if detail is None else np.clip(detail, *DETAIL).astype(np.int64),
    )


def frame_of(rows: Rows, steps: Steps) -> Frame:
    """What the layers share."""
    if not len(rows.means):
        return Frame(np.zeros(3), 1.0, steps, np.zeros((0, 0), np.float32), 0)
    low, high = rows.means.min(0), rows.means.max(0)
    side = max(float((high - low).max()) * (1 + 1e-9), float(np.abs(rows.means).max()) * 1e-12, 1e-12)
    log_scales = canonical(rows.log_scales, rows.quats)[0]
    scale, opacity = cells_of(log_scales, rows.alphas)
    shown = visibility(scale, opacity)
    world = np.float32(steps.position * np.exp(np.median(log_scales[:, 1])))
    steps = replace(steps, position=float(max(world, np.float32(side * 2.0**-30))))
    frame = Frame(low, side, steps, np.zeros((0, 0), np.float32), int(np.median(shown)))
    return replace(frame, basis=_basis(rows, levels_of(scale, opacity, frame, rows.detail).colour, steps))


def _basis(rows: Rows, exponents: np.ndarray, steps: Steps) -> np.ndarray:
    """(J, D) directions in which view-dependent colour varies, those that some code can reach, rounded to bytes."""
    if rows.sh.shape[1] == 1:
        return np.zeros((0, 0), np.float32)
    rest = (rows.sh[:, 1:] @ COLOUR.T).reshape(len(rows.sh), -1)
    if len(rest) < LARGE:
        basis = np.eye(rest.shape[1])
    else:
        weight = np.exp2(-2.0 * exponents)
        _, vectors = np.linalg.eigh((rest * weight[:, None]).T @ rest / weight.sum())
        basis = vectors.T[::-1]
    reach = (np.abs(rest @ basis.T) * np.exp2(-exponents)[:, None]).max(0) > 0.6 * steps.sh
    basis = basis[: int(np.flatnonzero(reach)[-1]) + 1 if reach.any() else 0]
    return _unpack_basis(_pack_basis(basis), len(basis), rest.shape[1])


def _pack_basis(basis: np.ndarray) -> bytes:
    """A float32 scale and signed bytes, row by row."""
    scale = (np.abs(basis).max(1) / 127 if len(basis) else np.zeros(0)).astype("<f4")
    return scale.tobytes() + np.rint(basis / np.maximum(scale, 1e-30)[:, None]).astype(np.int8).tobytes()


def _unpack_basis(data: bytes, components: int, wide: int) -> np.ndarray:
    scale = np.frombuffer(data, "<f4", components)
    with np.errstate(over="ignore", invalid="ignore"):  # of a damaged file
        return (
            np.frombuffer(data, np.int8, components * wide, 4 * components).reshape(components, wide) * scale[:, None]
        )


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
