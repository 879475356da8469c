"""Textures: UV unwrapping by xatlas, and an image painted from the views."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from splat.depth.depth_maps import DepthMap
from splat.errors import InputError
from splat.surface.mesh.mesh import Mesh
from splat.surface.mesh.vertex_colours import Painter
from splat.triangle_raster import NOTHING, rasterize

FILLED = 0.6  # of the picture's area, as charts usually pack: the texture comes out about as large as asked for
GUTTER = 2  # texels between charts
BATCH = 1 << 19  # texels painted at once
Picture = Callable[[int], NDArray[np.uint8]]


@dataclass(frozen=True)
class Textured:
    """A mesh with a texture.

    Attributes:
        mesh: vertices are doubled along the seams of charts.
        uv: (V, 2) float64, where each vertex lies in ``image``: 0 to 1, right and down from the upper left corner.
        image: (H, W, 3) uint8.
        charts: number of pieces the surface was cut into.
    """

    mesh: Mesh
    uv: NDArray[np.float64]
    image: NDArray[np.uint8]
    charts: int


def texture(mesh: Mesh, maps: Sequence[DepthMap], side: int, tolerance: float, picture: Picture) -> Textured:
    """``mesh`` unfolded and painted.

    Args:
        side: of the texture, texels.
        tolerance: as for `vertex_colours`.
        picture: gives the picture of view i, of any size, its corners those of the view's own.

    Texels that no view sees get the colour of their nearest painted one. Raises InputError where xatlas is missing.
    """
    unfolded, uv, charts, shape = unfold(mesh, side)
    points, normals, rows, columns = _texels(unfolded, uv, shape)
    image, known = np.zeros((*shape, 3), np.uint8), np.zeros(shape, bool)
    painters = [Painter(points[i : i + BATCH], normals[i : i + BATCH]) for i in range(0, len(points), BATCH)]
    for index, view in enumerate(maps):
        photo = picture(index)
        for painter in painters:
            painter.add(view, tolerance, photo)
    for number, painter in enumerate(painters):
        colours, painted = painter.colours()
        part = slice(number * BATCH, number * BATCH + len(colours))
        image[rows[part], columns[part]] = colours
        known[rows[part], columns[part]] = painted
    return Textured(unfolded, uv, _spread(image, known), charts)


def unfold(mesh: Mesh, side: int) -> tuple[Mesh, NDArray[np.float64], int, tuple[int, int]]:
    """``mesh`` cut into flat charts; where its vertices lie in a picture, the number of charts, its rows and columns.

    The larger side of the picture is ``side``. Raises InputError where xatlas is missing.
    """
    try:
        import xatlas
    except ImportError as error:
        raise InputError(
            "textures need xatlas, which is not installed; install it with: pip install 'splat-toolkit[mesh]'"
        ) from error
    middle = mesh.vertices.mean(0)  # single precision inside
    atlas = xatlas.Atlas()
    atlas.add_mesh((mesh.vertices - middle).astype(np.float32), mesh.faces.astype(np.uint32))
    charts, packing = xatlas.ChartOptions(), xatlas.PackOptions()
    charts.max_iterations = 1
    packing.padding = GUTTER
    packing.bilinear = True
    packing.texels_per_unit = float(side * np.sqrt(FILLED / max(mesh.areas.sum(), 1e-30)))
    atlas.generate(charts, packing)
    source, faces, uv = atlas.get_mesh(0)
    largest = max(atlas.width, atlas.height, 1)
    shape = (max(1, round(side * atlas.height / largest)), max(1, round(side * atlas.width / largest)))
    source, faces = source.astype(np.int64), faces.astype(np.int64)
    colours = None if mesh.colours is None else mesh.colours[source]
    normals = mesh.vertex_normals[source]
    unfolded = Mesh(mesh.vertices[source], faces, colours, normals)
    return unfolded, uv.astype(np.float64), int(atlas.chart_count), shape


def _texels(mesh: Mesh, uv: NDArray, shape: tuple[int, int]) -> tuple[NDArray, NDArray, NDArray, NDArray]:
    """World points and unit normals (T, 3) of the texels that some face covers, and their rows and columns."""
    height, width = shape
    flat = uv * [width, height]
    screen = np.concatenate([flat, np.zeros((len(flat), 1))], 1)
    seen = rasterize(screen, mesh.faces.astype(np.int32), np.zeros(len(mesh.faces), bool), width, height)
    rows, columns = np.nonzero(seen.face != NOTHING)
    corners = mesh.faces[seen.face[rows, columns]]
    a, b, c = (flat[corners[:, k]] for k in range(3))
    here = np.stack([columns + 0.5, rows + 0.5], 1)
    whole = _cross(b - a, c - a)
    whole = np.where(whole == 0, 1, whole)
    second, third = _cross(here - a, c - a) / whole, _cross(b - a, here - a) / whole
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    weights /= weights.sum(1, keepdims=True)
    points = (mesh.vertices[corners] * weights[..., None]).sum(1)
    normals = (mesh.vertex_normals[corners] * weights[..., None]).sum(1)
    return points, normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12), rows, columns


def _cross(a: NDArray, b: NDArray) -> NDArray:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]


def _spread(image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """``image`` with every pixel that is not ``known`` in the colour of its nearest known one."""
    if known.all() or not known.any():
        return image
    from scipy.ndimage import distance_transform_edt

    rows, columns = distance_transform_edt(~known, return_distances=False, return_indices=True)
    return image[rows, columns]
