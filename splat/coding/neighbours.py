"""Nearest neighbours that stay quick where many points are equal: a KD tree alone compares all of those in pairs."""

from collections.abc import Iterator

import numpy as np

from splat.coding.parallel import pieces

PIECE = 1 << 18  # points that are asked about at once


def nearest(points: np.ndarray, count: int) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The ``count`` nearest other points of each of ``points`` (N, 3), which are finite; piece by piece.

    Yields rows (M,), the distances (M, count) of their neighbours, nearest first, and the rows (M, count) of those;
    each row once, in some order. Where there are fewer than ``count`` others, all of them.
    """
    from scipy.spatial import cKDTree

    count = min(count, len(points) - 1)
    if count < 1:
        return
    order, first, size = _equal_points(points)
    rank = np.arange(len(points)) - first
    # More equal points than are asked for change no distance, so that they need not be in the tree.
    kept = order[rank <= count]
    tree = cKDTree(points[kept])
    for piece in pieces(len(kept), PIECE):
        rows = kept[piece]
        distance, index = tree.query(points[rows], count + 1, workers=-1)
        # A point is not its own neighbour; among equal ones another may come first, and the last is left out.
        own = index == np.arange(piece.start, piece.stop)[:, None]
        own[~own.any(1), count] = True
        yield rows, distance[~own].reshape(-1, count), kept[index[~own]].reshape(-1, count)
    left = np.flatnonzero(rank > count)
    for piece in pieces(len(left), PIECE):
        at = left[piece]
        turn = (rank[at, None] + np.arange(1, count + 1)) % size[at, None]
        yield order[at], np.zeros((len(at), count)), order[first[at, None] + turn]


def _equal_points(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An order (N,) in which equal points follow each other; for each place the first of its group, and its size."""
    order = np.lexsort(points.T)
    new = np.ones(len(points), bool)
    for piece in pieces(len(points) - 1, PIECE):
        rows = points[order[piece.start : piece.stop + 1]]
        new[piece.start + 1 : piece.stop + 1] = (rows[1:] != rows[:-1]).any(1)
    starts = np.flatnonzero(new)
    sizes = np.diff(starts, append=len(points))
    return order, np.repeat(starts, sizes), np.repeat(sizes, sizes)
