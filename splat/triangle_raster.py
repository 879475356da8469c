"""Z-buffer over triangles, in numpy: rows of triangles, then runs of pixels, then one maximum per pixel."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NOTHING = -1  # face index where no triangle is seen


@dataclass(frozen=True)
class Visibility:
    """Which triangle each sample shows.

    Attributes:
        face: (H, W) int32 index into the faces given, `NOTHING` where none covers the sample.
        nearness: (H, W) float32, the third coordinate of the points at the sample (−inf where nothing is seen).
    """

    face: NDArray[np.int32]
    nearness: NDArray[np.float32]


def rasterize(
    points: NDArray[np.float64], faces: NDArray[np.int32], one_sided: NDArray[np.bool_], width: int, height: int
) -> Visibility:
    """Draw triangles; per sample the largest nearness wins.

    Args:
        points: (V, 3) x, y in samples (their centres lie at +0.5, y down) and a nearness that is linear on the
            screen and larger when nearer: 1/depth under perspective, −depth under parallel projection. A triangle
            with a non-finite corner is left out: give NaN behind the near plane.
        faces: (F, 3) corner indices, counter-clockwise seen from the front (in a right-handed world).
        one_sided: (F,) leave the face out when seen from behind.
        width, height: samples.
    """
    triangles = _front_triangles(points, faces, one_sided, width, height)
    rows = _rows(triangles, width, height)
    start, count = rows.start, rows.count
    run = np.repeat(np.arange(len(count), dtype=np.int32), count)
    along = np.arange(len(run), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    sample = (rows.row * width + start).astype(np.int32)[run] + along
    nearness = rows.nearness.astype(np.float32)[run]
    nearness += along.astype(np.float32) * rows.slope.astype(np.float32)[run]
    best = np.full(height * width, -np.inf, np.float32)
    np.maximum.at(best, sample, nearness)
    winner = np.flatnonzero(nearness == best[sample])
    face = np.full(height * width, NOTHING, np.int32)
    face[sample[winner]] = triangles.face[rows.triangle[run[winner]]]
    return Visibility(face.reshape(height, width), best.reshape(height, width))


@dataclass(frozen=True)
class _Triangles:
    """Triangles that may be seen: original index (F,), corners (F, 3), nearness n₀ + (x−x₀) dx + (y−y₀) dy."""

    face: NDArray
    x: NDArray
    y: NDArray
    nearness: NDArray
    dx: NDArray
    dy: NDArray
    sign: NDArray


def _front_triangles(points: NDArray, faces: NDArray, one_sided: NDArray, width: int, height: int) -> _Triangles:
    x, y, n = (points[:, axis][faces] for axis in range(3))
    area = (x[:, 1] - x[:, 0]) * (y[:, 2] - y[:, 0]) - (x[:, 2] - x[:, 0]) * (y[:, 1] - y[:, 0])
    with np.errstate(invalid="ignore"):
        # With y down, a triangle that is counter-clockwise in the world has a negative area on the screen.
        keep = np.isfinite(n[:, 0] + n[:, 1] + n[:, 2]) & ((area < 0) | ((area > 0) & ~one_sided))
        keep &= (_most(x) > 0) & (_least(x) < width) & (_most(y) > 0) & (_least(y) < height)
    index = np.flatnonzero(keep)
    x, y, n, area = x[index], y[index], n[index], area[index]
    n1, n2 = n[:, 1] - n[:, 0], n[:, 2] - n[:, 0]
    dx = (n1 * (y[:, 2] - y[:, 0]) - n2 * (y[:, 1] - y[:, 0])) / area
    dy = (n2 * (x[:, 1] - x[:, 0]) - n1 * (x[:, 2] - x[:, 0])) / area
    return _Triangles(index.astype(np.int32), x, y, n[:, 0], dx, dy, np.sign(area))


@dataclass(frozen=True)
class _Rows:
    """Runs of samples, one per (triangle, row of samples) that meet; all (R,). ``nearness`` is of the first sample."""

    triangle: NDArray
    row: NDArray
    start: NDArray
    count: NDArray
    nearness: NDArray
    slope: NDArray


def _rows(t: _Triangles, width: int, height: int) -> _Rows:
    first = np.maximum(np.ceil(_least(t.y) - 0.5), 0).astype(np.int64)
    last = np.minimum(np.floor(_most(t.y) - 0.5), height - 1).astype(np.int64)
    rows = np.maximum(last - first + 1, 0)
    triangle = np.repeat(np.arange(len(rows)), rows)
    row = first[triangle] + np.arange(len(triangle)) - np.repeat(np.cumsum(rows) - rows, rows)
    low, high = np.full(len(row), -1.0), np.full(len(row), width + 1.0)
    for i, j in ((0, 1), (1, 2), (2, 0)):
        rise = ((t.y[:, j] - t.y[:, i]) * t.sign)[triangle]
        # Measured from the upper end, so that two triangles round the edge they share alike and leave no crack.
        upper = t.y[:, i] <= t.y[:, j]
        x0, y0 = np.where(upper, t.x[:, i], t.x[:, j]), np.where(upper, t.y[:, i], t.y[:, j])
        x1, y1 = np.where(upper, t.x[:, j], t.x[:, i]), np.where(upper, t.y[:, j], t.y[:, i])
        slope = (x1 - x0) / np.where(y1 > y0, y1 - y0, 1)
        crossing = x0[triangle] + (row + 0.5 - y0[triangle]) * slope[triangle]
        low = np.where(rise < 0, np.maximum(low, crossing), low)
        high = np.where(rise > 0, np.minimum(high, crossing), high)
    start = np.maximum(np.ceil(low - 0.5), 0).astype(np.int64)
    count = np.maximum(np.minimum(np.floor(high - 0.5), width - 1).astype(np.int64) - start + 1, 0)
    used = np.flatnonzero(count)
    triangle, row, start, count = triangle[used], row[used], start[used], count[used]
    dx, dy = t.dx[triangle], t.dy[triangle]
    nearness = t.nearness[triangle] + (start + 0.5 - t.x[triangle, 0]) * dx + (row + 0.5 - t.y[triangle, 0]) * dy
    return _Rows(triangle.astype(np.int32), row, start, count, nearness, dx)


def _least(corners: NDArray) -> NDArray:
    """Smallest of three columns (much faster than a reduction over so short an axis)."""
    return np.minimum(np.minimum(corners[:, 0], corners[:, 1]), corners[:, 2])


def _most(corners: NDArray) -> NDArray:
    """Largest of three columns."""
    return np.maximum(np.maximum(corners[:, 0], corners[:, 1]), corners[:, 2])
