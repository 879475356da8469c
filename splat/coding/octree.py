"""Positions on a grid as an octree, and bytes made of several streams: what VecTree and NeuralGS files share."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from splat.coding import rans as entropy
from splat.coding.morton import spread_bits
from splat.formats.splatz.layers import read_tree, write_tree

LEVELS = 16  # usual bits of a coordinate: those of the octree, and plain bits below it


@dataclass(frozen=True)
class Places:
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


def write_places(means: np.ndarray, levels: int = LEVELS) -> Places:
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
    return Places(order, cells, low, side, depth, [*tree, plain], levels)


def read_places(streams: Iterator[bytes], count: int, depth: int, levels: int = LEVELS) -> np.ndarray:
    """The cells (``count``, 3) that `write_places` put into the next of ``streams``."""
    cells, _ = read_tree(streams, count)
    below = entropy.unpack_bits(next(streams), np.full(3 * count, levels - depth, np.int64)).reshape(-1, 3)
    return (cells << (levels - depth)) | below


def middles(grid: Places) -> np.ndarray:
    """(N, 3) middles of the cells in widths of the grid, 0 to 1, float64."""
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
