"""Marching cubes on the sparse TSDF, tile by tile, only through cells that were observed."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from splat.errors import InputError
from splat.surface.fusion.tsdf import SIDE, Field, keys_of

TILE = 12  # blocks a side of what is given to marching cubes at once: 97³ voxels, 4 MB
ZERO = 1e-4  # truncations: surfaces keep this far from voxels, so that every vertex lies within one edge


def marching_cubes(
    field: Field, least_weight: float = 0.0, progress: Callable[[int, int], None] | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Vertices (V, 3) in world units and faces (F, 3), counter-clockwise seen from the empty side.

    Cells with a corner that no view observed (weight not above ``least_weight``) give no faces: surfaces end where
    knowledge ends. Tiles share their border voxels, and vertices there are joined, so tiling leaves no trace.
    Raises InputError where scikit-image is missing.
    """
    try:
        from skimage.measure import marching_cubes as lewiner
    except ImportError as error:
        raise InputError(
            "meshes need scikit-image, which is not installed; install it with: pip install 'splat-toolkit[mesh]'"
        ) from error
    keys = keys_of(field.blocks)
    tiles = np.unique(field.blocks // TILE, axis=0)
    points, faces, count = [], [], 0
    for number, tile in enumerate(tiles):
        values, known = _dense(field, keys, tile * TILE, least_weight)
        if known.any() and (values[known] < 0).any() and (values[known] > 0).any():
            with_mask = known[:-1, :-1, :-1].copy()
            for i, j, k in np.ndindex(2, 2, 2):
                with_mask &= known[i : i + with_mask.shape[0], j : j + with_mask.shape[1], k : k + with_mask.shape[2]]
            try:
                vertices, triangles, _, _ = lewiner(values, 0.0, gradient_direction="descent")
            except (ValueError, RuntimeError):  # no crossing in this tile
                vertices, triangles = np.zeros((0, 3)), np.zeros((0, 3), np.int64)
            vertices = vertices.astype(np.float64)
            cell = np.floor(vertices[triangles].mean(1)).astype(np.int64)
            kept = triangles[with_mask[tuple(np.minimum(cell, np.array(with_mask.shape) - 1).T)]]
            used, renumbered = np.unique(kept, return_inverse=True)
            points.append(vertices[used] + tile * TILE * SIDE)
            faces.append(renumbered.reshape(-1, 3) + count)
            count += len(used)
        if progress is not None:
            progress(number + 1, len(tiles))
    if not count:
        return np.zeros((0, 3)), np.zeros((0, 3), np.int64)
    vertices, triangles = join(np.concatenate(points), np.concatenate(faces))
    return field.space.to_world(vertices), triangles


def _dense(
    field: Field, keys: NDArray[np.int64], first: NDArray[np.int64], least: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Distances and whether they were observed, (97, 97, 97), of the tile whose first block is ``first``."""
    side = TILE * SIDE + 1
    values, known = np.ones((side, side, side), np.float32), np.zeros((side, side, side), bool)
    inside = np.stack(np.meshgrid(*[np.arange(TILE + 1)] * 3, indexing="ij"), -1).reshape(-1, 3)
    wanted = keys_of(first + inside)
    rows = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    exists = keys[rows] == wanted
    for block, row in zip(inside[exists], rows[exists], strict=True):
        start = block * SIDE
        stop = np.minimum(start + SIDE, side)
        there = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        here = (row, *(slice(0, b - a) for a, b in zip(start, stop, strict=True)))
        distance = field.distance[here]
        values[there] = np.where(np.abs(distance) < ZERO, ZERO, distance)
        known[there] = field.weight[here] > least
    return values, known


def join(points: NDArray[np.float64], faces: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Join vertices on the same edge of the grid (they come from two tiles); drop faces that lose their area."""
    nearest = np.rint(points)
    off = np.abs(points - nearest)
    axis = off.argmax(1)
    on_edge = np.sort(off, axis=1)[:, 1] < 1e-3  # two coordinates are whole: not the extra vertex inside a cell
    base = nearest.astype(np.int64)
    rows = np.arange(len(points))
    base[rows, axis] = np.floor(points[rows, axis]).astype(np.int64)
    code = np.concatenate([base, np.where(on_edge, axis, 3 + rows)[:, None]], 1)
    _, first, renumbered = np.unique(code, axis=0, return_index=True, return_inverse=True)
    faces = renumbered.reshape(-1)[faces]
    good = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    return points[first], faces[good]
