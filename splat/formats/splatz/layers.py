"""Layers of `.splatz`: the entropy coded streams of a cloud's rows. docs/splatz.md describes every byte."""

from collections.abc import Iterator

import numpy as np

from splat.coding import rans as entropy
from splat.coding.morton import spread_bits
from splat.coding.octree import DEEPEST, read_tree, write_tree
from splat.coding.rans import Damaged
from splat.formats.splatz.quantizer import FINEST, HALF, ROTATION, Codes, QuantizationGrid, bits_below
from splat.formats.splatz.rows import CELLS, DETAIL, Rows

OPACITY_GROUPS = 8
LARGEST = 512  # cells of sizes: beyond any number that float32 holds
RUNS = (0, 1, 3, 7, 15, 31, 63, 127)  # SH components that are coded in one go; each run knows the ones before
ROTATION_CONTEXTS, COLOUR_CONTEXTS = ROTATION[1] - ROTATION[0] + 1, HALF[1] - HALF[0] + 1


def write_layer(rows: Rows, grid: QuantizationGrid) -> list[bytes]:
    """The streams of one layer."""
    rows, curve, positions = _along_curve(rows, grid)
    depth, tree = write_tree(curve)
    codes = grid.quantize(rows.ordered())
    levels, base = codes.levels, int(codes.scale[:, 2].min())
    streams = [*tree, np.array([base], "<u4").tobytes(), *_write_scales(codes.scale - base)]
    streams.append(entropy.encode(codes.opacity, _size_groups(codes.scale, grid), OPACITY_GROUPS))
    if grid.detailed:
        streams.append(entropy.encode(codes.detail - DETAIL[0], codes.opacity, CELLS))
    bits = _bits_below_tree(levels.position, depth)
    within = positions / ((1 << DEEPEST) >> depth)
    within = bits_below(within - np.floor(within), bits[:, None])
    streams.append(entropy.pack_bits(within.reshape(-1), np.repeat(bits, 3)))
    streams.append(entropy.pack_bits(codes.scale_bits.reshape(-1), levels.scale.reshape(-1)))
    streams.append(entropy.pack_bits(codes.opacity_bits, levels.opacity))
    streams.append(_write_columns(codes.rotation, levels.rotation - ROTATION[0], ROTATION_CONTEXTS))
    streams.append(_write_columns(codes.colour, levels.colour - HALF[0], COLOUR_CONTEXTS))
    if len(grid.basis):
        streams += _write_rest(codes.rest, levels.colour - HALF[0])
    return streams


def _along_curve(rows: Rows, grid: QuantizationGrid) -> tuple[Rows, np.ndarray, np.ndarray]:
    """``rows`` along the Morton curve, their codes (N,) on it, and positions (N, 3) in finest cells of the octree."""
    size = 1 << DEEPEST
    positions = (rows.means - grid.origin) * (size / grid.side)
    cells = np.clip(np.floor(positions), 0, size - 1).astype(np.uint64)
    x, y, z = (spread_bits(column) for column in cells.T)
    curve = x | y << np.uint64(1) | z << np.uint64(2)
    order = np.argsort(curve, kind="stable")
    return rows.take(order), curve[order], positions[order]


def read_layer(streams: list[bytes], count: int, grid: QuantizationGrid, degree: int) -> Rows:
    """The inverse of `write_layer`; rows along the Morton curve. Raises Damaged."""
    given = iter(streams)
    try:
        codes, means = _read_codes(given, count, grid)
    except StopIteration as error:
        raise Damaged("a layer lacks streams") from error
    if next(given, None) is not None:
        raise Damaged("a layer has too many streams")
    return grid.dequantize(codes, means, degree)


def _read_codes(given: Iterator[bytes], count: int, grid: QuantizationGrid) -> tuple[Codes, np.ndarray]:
    """Codes and centres (N, 3) of a layer. Raises Damaged, or StopIteration where a stream is missing."""
    cells, depth = read_tree(given, count)
    base = int(np.frombuffer(next(given), "<u4", 1)[0])
    scale = _read_scales(given, count) + base
    if scale.max(initial=0) > LARGEST:
        raise Damaged("a size is out of range")
    opacity = entropy.decode(next(given), count, _size_groups(scale, grid), OPACITY_GROUPS)
    if opacity.max(initial=0) >= CELLS:
        raise Damaged("an opacity is out of range")
    detail = _read_detail(given, opacity, count) if grid.detailed else np.zeros(count, np.int64)
    levels = grid.levels(scale, opacity, detail)
    bits = _bits_below_tree(levels.position, depth)
    within = entropy.unpack_bits(next(given), np.repeat(bits, 3)).reshape(-1, 3)
    means = (cells + (within + 0.5) / (1 << bits)[:, None]) * (grid.side / (1 << depth)) + grid.origin
    scale_bits = entropy.unpack_bits(next(given), levels.scale.reshape(-1)).reshape(-1, 3)
    opacity_bits = entropy.unpack_bits(next(given), levels.opacity)
    rotation = _read_columns(next(given), count, levels.rotation - ROTATION[0], ROTATION_CONTEXTS)
    colour = _read_columns(next(given), count, levels.colour - HALF[0], COLOUR_CONTEXTS)
    rest = _read_rest(given, count, len(grid.basis), levels.colour - HALF[0])
    return Codes(levels, detail, scale, scale_bits, opacity, opacity_bits, rotation, colour, rest), means


def _read_detail(given, opacity: np.ndarray, count: int) -> np.ndarray:
    detail = entropy.decode(next(given), count, opacity, CELLS) + DETAIL[0]
    if detail.max(initial=0) > DETAIL[1]:
        raise Damaged("a detail is out of range")
    return detail


def _bits_below_tree(levels: np.ndarray, depth: int) -> np.ndarray:
    """(N,) plain bits per axis below an octree of ``depth`` levels."""
    return np.clip(levels - depth, 0, FINEST)


def _size_groups(scale: np.ndarray, grid: QuantizationGrid) -> np.ndarray:
    """(N,) context of opacity: the size."""
    return np.clip(((grid.reference - scale[:, 0] - scale[:, 1]) >> 1) + 1, 0, OPACITY_GROUPS - 1)


# ---- streams ----


def _write_scales(codes: np.ndarray) -> list[bytes]:
    middle = codes[:, 0] - codes[:, 1]
    first = entropy.encode(codes[:, 0])
    second = entropy.encode(middle, np.minimum(codes[:, 0], 63), 64)
    return [first, second, entropy.encode(codes[:, 1] - codes[:, 2], np.minimum(middle, 31), 32)]


def _read_scales(given, count: int) -> np.ndarray:
    largest = entropy.decode(next(given), count)
    middle = entropy.decode(next(given), count, np.minimum(largest, 63), 64)
    last = entropy.decode(next(given), count, np.minimum(middle, 31), 32)
    codes = np.stack([largest, largest - middle, largest - middle - last], 1)
    if (codes < 0).any():
        raise Damaged("a size is negative")
    return codes


def _write_columns(codes: np.ndarray, context: np.ndarray, contexts: int) -> bytes:
    """Signed codes (N, M), column after column."""
    sort, kinds = _column_contexts(context, contexts, codes.shape[1])
    return entropy.encode(entropy.zigzag(codes.T).reshape(-1), sort, kinds)


def _read_columns(data: bytes, count: int, context: np.ndarray, contexts: int, columns: int = 3) -> np.ndarray:
    sort, kinds = _column_contexts(context, contexts, columns)
    codes = entropy.decode(data, count * columns, sort, kinds)
    return entropy.unzigzag(codes).reshape(columns, count).T


def _column_contexts(context: np.ndarray, contexts: int, columns: int) -> tuple[np.ndarray, int]:
    """Context of each code from those of rows (N,) or codes (N, M), column after column, and how many there are.

    Beyond four, columns share in fours.
    """
    group = np.arange(columns) >> (2 if columns > 4 else 0)
    return (np.atleast_2d(context.T) + contexts * group[:, None]).reshape(-1), contexts * (int(group[-1]) + 1)


def _energy(codes: np.ndarray) -> np.ndarray:
    """(N,) 0 to 5: how much the components so far hold."""
    total = np.abs(codes).sum(1)
    return np.searchsorted([0, 1, 3, 7, 15], total, side="left")


def _write_rest(parts: np.ndarray, context: np.ndarray) -> list[bytes]:
    streams = []
    for first, last in zip(RUNS, RUNS[1:], strict=False):
        if first < parts.shape[1]:
            streams.append(_write_columns(parts[:, first:last], context, COLOUR_CONTEXTS))
            context = _energy(parts[:, :last])
    return streams


def _read_rest(given, count: int, components: int, context: np.ndarray) -> np.ndarray:
    parts = np.zeros((count, components), np.int64)
    for first, last in zip(RUNS, RUNS[1:], strict=False):
        if first < components:
            width = min(last, components) - first
            parts[:, first : first + width] = _read_columns(next(given), count, context, COLOUR_CONTEXTS, width)
            context = _energy(parts[:, :last])
    return parts
