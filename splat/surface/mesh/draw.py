"""Renderings of meshes by a z-buffer: depth, shading, vertex colours."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from splat.camera import Camera
from splat.surface.mesh.mesh import Mesh
from splat.triangle_raster import NOTHING, rasterize

NEAR = 1e-3  # of the largest distance: what is nearer to the image plane is cut away
PAPER = 255  # grey behind a shaded mesh
AMBIENT = 0.25


@dataclass(frozen=True)
class Drawn:
    """What a camera sees of a mesh.

    Attributes:
        depth: (H, W) float32 z-depth, 0 where there is nothing.
        face: (H, W) int64 index into ``mesh.faces``, −1 where there is nothing.
        corners: (H, W, 3) float32 barycentric coordinates in that face.
    """

    depth: NDArray[np.float32]
    face: NDArray[np.int64]
    corners: NDArray[np.float32]


def draw(mesh: Mesh, camera: Camera) -> Drawn:
    """The nearest face at every pixel centre; faces count from both sides."""
    world_to_camera = camera.world_to_camera.double().numpy()
    local = mesh.vertices @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    near = NEAR * max(float(np.abs(local[:, 2]).max(initial=0)), 1e-12)
    points, faces, source = _clip(local, mesh.faces, near)
    with np.errstate(divide="ignore", invalid="ignore"):
        nearness = np.where(points[:, 2] >= 0.999 * near, 1 / points[:, 2], np.nan)
        x = camera.fx * points[:, 0] * nearness + camera.cx
        y = camera.fy * points[:, 1] * nearness + camera.cy
    screen = np.stack([x, y, nearness], 1)
    both_sides = np.zeros(len(faces), bool)
    seen = rasterize(screen, faces.astype(np.int32), both_sides, camera.width, camera.height)
    hit = seen.face != NOTHING
    depth = np.zeros(hit.shape, np.float32)
    depth[hit] = 1 / seen.nearness[hit]
    face = np.full(hit.shape, -1, np.int64)
    face[hit] = source[seen.face[hit]]
    corners = np.zeros((*hit.shape, 3), np.float32)
    rows, columns = np.nonzero(hit)
    z = depth[rows, columns].astype(np.float64)
    pixels = torch.from_numpy(np.stack([columns, rows], 1) + 0.5)
    hits = camera.directions(pixels).numpy() * z[:, None]
    corners[rows, columns] = _barycentric(hits, local[mesh.faces[face[rows, columns]]])
    return Drawn(depth, face, corners)


def _clip(points: NDArray, faces: NDArray, near: float) -> tuple[NDArray, NDArray, NDArray[np.int64]]:
    """Points, faces and each face's original index once what lies before z = ``near`` is cut away."""
    behind = (points[:, 2] < near)[faces]
    count = behind.sum(1)
    whole = np.flatnonzero(count == 0)
    out_faces, out_source, extra = [faces[whole]], [whole], []
    base = len(points)
    for hidden in (1, 2):  # corners behind the plane
        rows = np.flatnonzero(count == hidden)
        if not len(rows):
            continue
        # Turn each face so that its odd corner comes first.
        odd = behind[rows].argmax(1) if hidden == 1 else (~behind[rows]).argmax(1)
        a, b, c = (faces[rows, (odd + k) % 3] for k in range(3))
        cuts = []
        for other in (b, c):
            fraction = (near - points[a, 2]) / (points[other, 2] - points[a, 2])
            extra.append(points[a] + fraction[:, None] * (points[other] - points[a]))
            cuts.append(base + np.arange(len(rows)))
            base += len(rows)
        if hidden == 1:
            out_faces += [np.stack([cuts[0], b, c], 1), np.stack([cuts[0], c, cuts[1]], 1)]
            out_source += [rows, rows]
        else:
            out_faces.append(np.stack([a, cuts[0], cuts[1]], 1))
            out_source.append(rows)
    return np.concatenate([points, *extra]), np.concatenate(out_faces), np.concatenate(out_source)


def _barycentric(points: NDArray, triangles: NDArray) -> NDArray[np.float64]:
    """(M, 3) coordinates of ``points`` (M, 3) in ``triangles`` (M, 3, 3), clamped into them."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    u, v, w = b - a, c - a, points - a
    uu, uv, vv = (u * u).sum(1), (u * v).sum(1), (v * v).sum(1)
    wu, wv = (w * u).sum(1), (w * v).sum(1)
    area = np.maximum(uu * vv - uv * uv, 1e-300)
    second, third = (vv * wu - uv * wv) / area, (uu * wv - uv * wu) / area
    weights = np.clip(np.stack([1 - second - third, second, third], 1), 0, 1)
    return weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)


def shaded(mesh: Mesh, camera: Camera, drawn: Drawn | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) picture in grey, lit from beside the camera, so that the shape is seen."""
    drawn = draw(mesh, camera) if drawn is None else drawn
    normal = interpolate(mesh.vertex_normals, mesh, drawn) @ camera.world_to_camera[:3, :3].double().numpy().T
    normal /= np.maximum(np.linalg.norm(normal, axis=-1, keepdims=True), 1e-12)
    light = np.array([-0.35, -0.5, -0.8]) / np.linalg.norm([0.35, 0.5, 0.8])
    # A face seen from behind is darker, so that holes and flipped faces show.
    tone = np.where(normal[..., 2] <= 0.05, np.clip(normal @ light, 0, 1), 0.15)
    grey = 255 * (AMBIENT + (1 - AMBIENT) * tone) * 0.92
    picture = np.where(drawn.face >= 0, grey, PAPER)
    return np.repeat(np.rint(picture).astype(np.uint8)[..., None], 3, -1)


def coloured(mesh: Mesh, camera: Camera, drawn: Drawn | None = None) -> NDArray[np.uint8]:
    """(H, W, 3) picture in the vertices' colours, unlit, on white."""
    drawn = draw(mesh, camera) if drawn is None else drawn
    colours = np.full((len(mesh.vertices), 3), 200.0) if mesh.colours is None else mesh.colours.astype(np.float64)
    picture = np.where((drawn.face >= 0)[..., None], interpolate(colours, mesh, drawn), PAPER)
    return np.rint(picture).astype(np.uint8)


def interpolate(values: NDArray[np.float64], mesh: Mesh, drawn: Drawn) -> NDArray[np.float64]:
    """(H, W, C) vertex ``values`` (V, C) at every pixel; 0 where there is nothing."""
    hit = drawn.face >= 0
    result = np.zeros((*hit.shape, values.shape[1]))
    result[hit] = (values[mesh.faces[drawn.face[hit]]] * drawn.corners[hit][..., None]).sum(1)
    return result
