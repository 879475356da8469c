"""Sparse points with true tracks, and the scene's COLMAP model."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splat.scene.demo.bake import Mesh
from splat.scene.demo.shapes import Patch
from splat.scene.demo.views import SUPERSAMPLING, Pose
from splat.triangle_raster import Visibility

CANDIDATES = 16000  # surface points tried
POINTS = 8000  # at most this many are kept
MIN_TRACK = 3  # views that must see a point
KEYPOINT_NOISE = 0.3  # pixels, standard deviation: what a good feature detector achieves


@dataclass(frozen=True)
class Sighting:
    """Points that one view sees: their indices (K,), keypoints (K, 2) in pixels and colours (K, 3)."""

    index: NDArray[np.int64]
    keypoint: NDArray[np.float64]
    rgb: NDArray[np.uint8]


def surface_points(patches: list[Patch], mesh: Mesh, seed: int) -> NDArray[np.float64]:
    """(CANDIDATES, 3) points spread over the surfaces by area × importance."""
    rng = np.random.default_rng(seed + 2)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    weight = np.linalg.norm(np.cross(b - a, c - a), axis=1) * np.array([p.importance for p in patches])[mesh.patch]
    face = rng.choice(len(weight), CANDIDATES, p=weight / weight.sum())
    s, t = rng.random((2, CANDIDATES, 1))
    flip = s + t > 1
    s, t = np.where(flip, 1 - s, s), np.where(flip, 1 - t, t)
    return a[face] + s * (b - a)[face] + t * (c - a)[face]


def sighting(points: NDArray, pose: Pose, seen: Visibility, picture: NDArray[np.uint8], seed: int) -> Sighting:
    """Test points against the depths of a view (within 1 cm)."""
    xy, depth = pose.project(points)
    inside = (depth > 0) & (xy > 1).all(1) & (xy < np.array([pose.width, pose.height]) - 1).all(1)
    index = np.flatnonzero(inside)
    column, row = np.floor(xy[index] * SUPERSAMPLING).astype(int).T
    same = np.abs(1 / seen.nearness[row, column] - depth[index]) < 0.01
    # A wire may pass between two samples: nothing near by may lie clearly in front.
    nearest = np.max([seen.nearness[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)], 0)
    index = index[same & (1 / nearest > depth[index] - 0.03)]
    column, row = np.floor(xy[index]).astype(int).T
    noise = np.random.default_rng(seed).normal(0, KEYPOINT_NOISE, (len(index), 2))
    return Sighting(index, xy[index] + noise, picture[row, column])


def write_model(
    folder: Path, names: list[str], poses: list[Pose], points: NDArray, sightings: list[Sighting]
) -> tuple[int, float]:
    """Write ``folder``/{cameras, images, points3D}.bin; returns the number of points and their mean track length."""
    from splat.scene.colmap_library import pycolmap

    views_of = np.bincount(np.concatenate([s.index for s in sightings]), minlength=len(points))
    kept = np.flatnonzero(views_of >= MIN_TRACK)[:POINTS]
    new_index = np.full(len(points), -1)
    new_index[kept] = np.arange(len(kept))
    model = pycolmap.Reconstruction()
    first = poses[0]
    parameters = [first.focal, first.focal, first.width / 2, first.height / 2]
    model.add_camera_with_trivial_rig(
        pycolmap.Camera(model="PINHOLE", width=first.width, height=first.height, params=parameters, camera_id=1)
    )
    tracks = [pycolmap.Track() for _ in kept]
    colours = np.zeros((len(kept), 3))
    for number, (name, pose, sight) in enumerate(zip(names, poses, sightings, strict=True), 1):
        use = new_index[sight.index] >= 0
        of = new_index[sight.index[use]]
        image = pycolmap.Image(name=name, keypoints=sight.keypoint[use], camera_id=1, image_id=number)
        cam_from_world = pycolmap.Rigid3d(pycolmap.Rotation3d(pose.rotation), -pose.rotation @ pose.centre)
        model.add_image_with_trivial_frame(image, cam_from_world)
        for keypoint, point in enumerate(of):
            tracks[point].add_element(number, keypoint)
        colours[of] += sight.rgb[use]
    colours = np.round(colours / views_of[kept, None]).astype(np.uint8)
    for point, track, rgb in zip(points[kept], tracks, colours, strict=True):
        model.add_point3D(point, track, rgb)
    model.update_point_3d_errors()
    folder.mkdir(parents=True, exist_ok=True)
    model.write_binary(folder)
    return len(kept), float(views_of[kept].mean())


def write_mesh(path: Path, mesh: Mesh, keep: NDArray[np.bool_]) -> None:
    """Binary PLY of the faces (F,) to ``keep``; corners shared between patches and seams are joined."""
    faces = mesh.faces[keep]
    used, faces = np.unique(faces, return_inverse=True)
    _, first, joined = np.unique(np.round(mesh.vertices[used], 6), axis=0, return_index=True, return_inverse=True)
    vertices, faces = mesh.vertices[used][first], joined.reshape(-1)[faces.reshape(-1, 3)]
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    rows = np.empty(len(faces), np.dtype([("n", "u1"), ("corner", "<i4", 3)]))
    rows["n"], rows["corner"] = 3, faces
    path.write_bytes(header.encode() + vertices.astype("<f4").tobytes() + rows.tobytes())
