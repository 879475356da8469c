"""Positions on a grid as an octree, and bytes made of several streams: what VecTree and NeuralGS files share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from splat.coding import rans as entropy
from splat.coding.limits import padding
from splat.coding.morton import spread_bits
from splat.coding.rans import Damaged

DEEPEST = 21  # levels of the octree that 64-bit Morton codes have room for


LEVELS = 16  # usual bits of a coordinate: those of the octree, and plain bits below it


@dataclass(frozen=True)
class PositionGrid:
    """Positions (N, 3) rounded to a grid of 2^levels cells a side.

    Attributes:
        order: (N,) rows of the input along the Morton curve.
        cells: (N, 3) uint64, in that order.
        low, side: corner (3,) and width of the grid, world units.
        depth: levels of the octree.
        streams: its bytes and those of the bits below it.
        levels: binary digits of a coordinate.
    """

    order: np.ndarray
    cells: np.ndarray
    low: np.ndarray
    side: float
    depth: int
    streams: list[bytes]
    levels: int = LEVELS


def quantize_positions(means: np.ndarray, levels: int = LEVELS) -> PositionGrid:
    """``means`` (N ≥ 1, 3) float64 on the grid."""
    low = means.min(0)
    side = max(float((means.max(0) - low).max()) * (1 + 1e-9), 1e-12)
    cells = np.clip((means - low) * (2**levels / side), 0, 2**levels - 1).astype(np.uint64)
    x, y, z = (spread_bits(column << np.uint64(21 - levels)) for column in cells.T)
    curve = x | y << np.uint64(1) | z << np.uint64(2)
    order = np.argsort(curve, kind="stable")
    depth, tree = write_tree(curve[order], levels)
    cells = cells[order]
    below = (cells & np.uint64((1 << (levels - depth)) - 1)).reshape(-1).astype(np.int64)
    plain = entropy.pack_bits(below, np.full(len(below), levels - depth, np.int64))
    return PositionGrid(order, cells, low, side, depth, [*tree, plain], levels)


def read_positions(streams: Iterator[bytes], count: int, depth: int, levels: int = LEVELS) -> np.ndarray:
    """The cells (``count``, 3) that `quantize_positions` put into the next of ``streams``."""
    cells, found = read_tree(streams, count)
    if depth != found or not depth <= levels <= DEEPEST:
        raise Damaged(f"an octree of {found} levels where {depth} of {levels} were said")
    below = entropy.unpack_bits(next(streams), np.full(3 * count, levels - depth, np.int64)).reshape(-1, 3)
    return (cells << (levels - depth)) | below


def cell_centers(grid: PositionGrid) -> np.ndarray:
    """(N, 3) cell_centers of the cells in widths of the grid, 0 to 1, float64."""
    return (grid.cells.astype(np.float64) + 0.5) / 2**grid.levels


def join(streams: Sequence[bytes]) -> bytes:
    """``streams`` one after the other, each behind its length."""
    return b"".join(len(stream).to_bytes(4, "little") + stream for stream in streams)


def split(data: bytes, at: int) -> Iterator[bytes]:
    """The streams that `join` put into ``data`` from byte ``at`` on."""
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def with_filler(body: bytes, count: int, sh_degree: int) -> bytes:
    """``body`` with one stream of zeros more where it is too small to be believed to hold ``count`` Gaussians."""
    gap = padding(count, sh_degree, len(body))
    return body + join([bytes(gap)]) if gap else body


def each_of(streams: Iterator[bytes]) -> Iterator[bytes]:
    """``streams``, and where the next is missing, Damaged."""
    yield from streams
    raise Damaged("streams are missing")


def check_place(low: Sequence[float], side: float) -> None:
    """Raises Damaged if the corner ``low`` (3,) and the width ``side`` are none of a grid in world units."""
    if not (all(abs(value) < 1e38 for value in low) and 0 < side < 1e38):
        raise Damaged(f"a grid at {list(low)} of width {side}")


def write_tree(codes: np.ndarray, deepest: int = DEEPEST) -> tuple[int, list[bytes]]:
    """Octree of sorted Morton codes, as deep as branches still join: depth, and its streams."""
    levels = [codes[:1] >> np.uint64(63)]
    for level in range(1, deepest + 1):
        cells = codes >> np.uint64(3 * (DEEPEST - level))
        levels.append(cells[np.concatenate([[True], cells[1:] != cells[:-1]])])
        if len(levels[-1]) > 0.75 * len(codes):
            break
    depth = len(levels) - 1
    occupied = []
    for parents, children in zip(levels, levels[1:], strict=False):
        children_bits = np.zeros(len(parents), np.int64)
        parent = np.searchsorted(parents, children >> np.uint64(3))
        np.bitwise_or.at(children_bits, parent, 1 << (children & np.uint64(7)).astype(np.int64))
        occupied.append(children_bits)
    heads = np.array([depth, *map(len, levels)], "<u4").tobytes()
    cells = codes >> np.uint64(3 * (DEEPEST - depth))
    extra = np.diff(np.append(np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]])), len(cells))) - 1
    deep = np.repeat(np.arange(depth), [len(level) for level in occupied])
    tree = entropy.encode(np.concatenate(occupied) if depth else np.zeros(0, np.int64), deep, max(depth, 1))
    return depth, [heads, tree, entropy.encode(extra)]


def read_tree(given, count: int) -> tuple[np.ndarray, int]:
    """Cells (N, 3) and depth."""
    heads = np.frombuffer(next(given), "<u4").astype(np.int64)
    depth = int(heads[0]) if len(heads) else -1
    if not 0 <= depth <= DEEPEST or len(heads) != depth + 2 or heads[1] != 1 or (heads[1:] > count).any():
        raise Damaged("the octree's head is wrong")
    sizes, stream = heads[1:-1], next(given)
    if len(heads) > 2 and (heads[2:] > 8 * heads[1:-1]).any():
        raise Damaged("a level of the octree has a wrong size")
    entropy.check_length(stream, int(sizes.sum()))
    deep = np.repeat(np.arange(depth), sizes)
    occupied = entropy.decode(stream, int(sizes.sum()), deep, max(depth, 1))
    cells, at = np.zeros((1, 3), np.int64), 0
    for level in range(depth):
        children_bits = occupied[at : at + len(cells)]
        at += len(cells)
        parent, child = np.nonzero((children_bits[:, None] >> np.arange(8)) & 1)
        cells = 2 * cells[parent] + ((child[:, None] >> np.arange(3)) & 1)
        if len(cells) != heads[level + 2]:
            raise Damaged("a level of the octree has a wrong size")
    times = entropy.decode(next(given), len(cells)) + 1
    if int(times.sum()) != count:
        raise Damaged("the octree holds another number of Gaussians")
    return np.repeat(cells, times, axis=0), depth
