"""Vertex colours from the views that see them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from splat.depth.depth_maps import DepthMap
from splat.surface.mesh.mesh import Mesh

SHARPNESS = 4  # power of the weights: the views that see a vertex best decide


def vertex_colours(mesh: Mesh, maps: Sequence[DepthMap], tolerance: float) -> NDArray[np.uint8]:
    """(V, 3) colours, weighted by how near and how frontally a view sees the vertex.

    Args:
        tolerance: fraction of the depth by which a vertex may lie off a view's depth map and still be seen in it.

    Vertices that no view sees get the colour of their nearest coloured one.
    """
    painter = Painter(mesh.vertices, mesh.vertex_normals)
    for view in maps:
        painter.add(view, tolerance, view.rgb)
    colours, known = painter.colours()
    if known.any() and not known.all():
        from scipy.spatial import cKDTree

        colours[~known] = colours[known][cKDTree(mesh.vertices[known]).query(mesh.vertices[~known])[1]]
    return colours


class Painter:
    """Colours of points, collected view by view."""

    def __init__(self, points: NDArray[np.float64], normals: NDArray[np.float64]) -> None:
        """Points and their unit normals, (V, 3) each."""
        self.points, self.normals = points, normals
        self._total, self._weights = np.zeros((len(points), 3), np.float32), np.zeros(len(points), np.float32)

    def add(self, view: DepthMap, tolerance: float, picture: NDArray[np.uint8]) -> None:
        """What ``view`` shows of the points on its surface; ``picture`` (h, w, 3) covers the view, at any size."""
        seen, row, column, z = visible(self.points, view, tolerance)
        if not len(seen):
            return
        towards = view.camera.position.double().numpy() - self.points[seen]
        distance = np.linalg.norm(towards, axis=1)
        facing = np.maximum((towards * self.normals[seen]).sum(1) / distance, 0.02)
        weight = (facing * np.sqrt(view.camera.fx * view.camera.fy) / z) ** SHARPNESS
        self._total[seen] += weight[:, None] * _between_pixels(picture, view, self.points[seen])
        self._weights[seen] += weight

    def colours(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """(V, 3) colours, grey where no view saw the point, and (V,) where one did."""
        known = self._weights > 0
        colours = np.full((len(self.points), 3), 128, np.uint8)
        colours[known] = np.rint(np.clip(self._total[known] / self._weights[known, None], 0, 255)).astype(np.uint8)
        return colours, known


def _between_pixels(picture: NDArray[np.uint8], view: DepthMap, points: NDArray[np.float64]) -> NDArray[np.float32]:
    """(M, 3) colours of ``picture`` where ``view`` sees ``points``, bilinear."""
    height, width = picture.shape[:2]
    xy = view.camera.project(torch.from_numpy(points))[0].numpy()
    x = np.clip(xy[:, 0] * width / view.camera.width - 0.5, 0, width - 1)
    y = np.clip(xy[:, 1] * height / view.camera.height - 0.5, 0, height - 1)
    left, top = np.minimum(x.astype(np.int64), max(width - 2, 0)), np.minimum(y.astype(np.int64), max(height - 2, 0))
    right, bottom = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left)[:, None].astype(np.float32), (y - top)[:, None].astype(np.float32)
    upper = picture[top, left] * (1 - u) + picture[top, right] * u
    return upper * (1 - v) + (picture[bottom, left] * (1 - u) + picture[bottom, right] * u) * v


def visible(
    points: NDArray[np.float64], view: DepthMap, tolerance: float
) -> tuple[NDArray, NDArray, NDArray, NDArray[np.float64]]:
    """Which ``points`` (V, 3) lie on the view's surface: their indices, pixel rows and columns, and depths."""
    camera = view.camera
    xy, z = camera.project(torch.from_numpy(points))
    xy, z = xy.numpy(), z.numpy()
    with np.errstate(invalid="ignore"):
        use = (z > 0) & (xy >= 0).all(1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)
    index = np.flatnonzero(use)
    column, row = xy[index].astype(np.int64).T
    depth = view.depth[row, column]
    on = np.abs(depth - z[index]) < tolerance * z[index]
    return index[on], row[on], column[on], z[index][on]
