"""Colours of vertices from the views that see them."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from splat.surface.maps import DepthMap
from splat.surface.mesh import Mesh

SHARPNESS = 4  # power of the weights: the views that see a vertex best decide


def vertex_colours(mesh: Mesh, maps: Sequence[DepthMap], tolerance: float) -> NDArray[np.uint8]:
    """(V, 3) colours, weighted by how near and how frontally a view sees the vertex.

    Args:
        tolerance: share of the depth by which a vertex may lie off a view's depth map and still be seen in it.

    Vertices that no view sees get the colour of their nearest coloured one.
    """
    total, weights = np.zeros((len(mesh.vertices), 3)), np.zeros(len(mesh.vertices))
    normals = mesh.vertex_normals
    for view in maps:
        seen, row, column, z = visible(mesh.vertices, view, tolerance)
        towards = view.camera.position.double().numpy() - mesh.vertices[seen]
        distance = np.linalg.norm(towards, axis=1)
        facing = np.maximum((towards * normals[seen]).sum(1) / distance, 0.02)
        weight = (facing * np.sqrt(view.camera.fx * view.camera.fy) / z) ** SHARPNESS
        total[seen] += weight[:, None] * view.rgb[row, column]
        weights[seen] += weight
    known = weights > 0
    colours = np.full((len(mesh.vertices), 3), 128, np.uint8)
    colours[known] = np.rint(total[known] / weights[known, None]).astype(np.uint8)
    if known.any() and not known.all():
        from scipy.spatial import cKDTree

        colours[~known] = colours[known][cKDTree(mesh.vertices[known]).query(mesh.vertices[~known])[1]]
    return colours


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
