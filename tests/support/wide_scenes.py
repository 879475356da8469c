"""Scenes of panoramas and fisheye photos whose colours are a function of the direction in the world."""

import json
from pathlib import Path

import numpy as np
import PIL.Image

from splat.scene.undistort import Lens, spherical
from splat.scene.wide_lens import bearings, project

PANORAMA = spherical("EQUIRECTANGULAR", 160, 80)
FISHEYE = Lens("OPENCV_FISHEYE", (31.0, 31.0, 50.0, 50.0, 0.0, 0.0, 0.0, 0.0), 100, 100)
LIMIT = np.radians(85)  # of the fisheye's picture; black beyond


def far_colour(directions: np.ndarray) -> np.ndarray:
    """(M, 3) levels of 0 to 255 of world directions (M, 3), as of a painted sphere far away."""
    x, y, z = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    return 127 + 55 * np.stack(
        [np.sin(2 * x + y) + np.cos(2 * z), np.sin(3 * y - z) + np.cos(2 * x), 2 * np.cos(2 * z)], 1
    )


def poses(count: int) -> list[np.ndarray]:
    """World-to-camera matrices (4, 4), turned in all ways."""
    rng, found = np.random.default_rng(2), []
    for k in range(count):
        rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
        pose = np.eye(4)
        pose[:3, :3] = rotation * np.linalg.det(rotation)
        pose[:3, 3] = -pose[:3, :3] @ np.array([0.3 * k, 0.1 * k * k, 0.0])
        found.append(pose)
    return found


def photo(lens: Lens, pose: np.ndarray, limit: float = np.pi) -> np.ndarray:
    """(H, W, 3) uint8 of the painted sphere."""
    y, x = np.mgrid[: lens.height, : lens.width] + 0.5
    towards = bearings(lens, np.stack([x, y], -1).reshape(-1, 2))
    shown = np.arctan2(np.hypot(towards[:, 0], towards[:, 1]), towards[:, 2]) <= limit
    colours = np.where(shown[:, None], far_colour(np.nan_to_num(towards) @ pose[:3, :3] + 1e-12), 0)
    return (colours + 0.5).astype(np.uint8).reshape(lens.height, lens.width, 3)


def write_colmap(root: Path, lens: Lens, model: str, count: int = 4, limit: float = np.pi) -> np.ndarray:
    """``count`` photos as a COLMAP text model, its camera called ``model``; returns its points (M, 3)."""
    points = 5 * np.random.default_rng(3).normal(size=(40, 3))
    folder = root / "sparse/0"
    folder.mkdir(parents=True)
    (root / "images").mkdir()
    params = " ".join(map(str, lens.params))
    (folder / "cameras.txt").write_text(f"1 {model} {lens.width} {lens.height} {params}\n")
    lines = []
    for number, pose in enumerate(poses(count), 1):
        PIL.Image.fromarray(photo(lens, pose, limit)).save(root / "images" / f"{number}.png")
        local = points @ pose[:3, :3].T + pose[:3, 3]
        shown = np.arctan2(np.hypot(local[:, 0], local[:, 1]), local[:, 2]) < limit - 0.02
        xy = project(lens, local)
        shown &= (xy > 0).all(1) & (xy < (lens.width, lens.height)).all(1)
        keypoints = " ".join(f"{x!r} {y!r} {key}" for key, (x, y) in enumerate(xy.tolist()) if shown[key])
        lines.append(f"{number} {quaternion(pose)} 1 {number}.png\n{keypoints}\n")
    (folder / "images.txt").write_text("".join(lines))
    rows = (f"{key} {x!r} {y!r} {z!r} 9 9 9 0.5 1 0\n" for key, (x, y, z) in enumerate(points.tolist()))
    (folder / "points3D.txt").write_text("".join(rows))
    return points


def quaternion(pose: np.ndarray) -> str:
    """w, x, y, z and the translation of ``pose`` (4, 4), as COLMAP writes them."""
    import pycolmap

    x, y, z, w = pycolmap.Rotation3d(pose[:3, :3]).quat
    return " ".join(repr(float(number)) for number in (w, x, y, z, *pose[:3, 3]))


def write_transforms(root: Path, lens: Lens, model: str, count: int = 4) -> None:
    """``count`` photos as a transforms.json, whose cameras look along −z with y upwards."""
    frames = []
    for number, pose in enumerate(poses(count), 1):
        PIL.Image.fromarray(photo(lens, pose)).save(root / f"{number}.png")
        matrix = np.linalg.inv(pose) @ np.diag([1.0, -1, -1, 1])
        frames.append({"file_path": f"{number}.png", "transform_matrix": matrix.tolist()})
    points = "".join(f"{k} 0 5 9 9 9\n" for k in range(20))
    header = "ply\nformat ascii 1.0\nelement vertex 20\n" + "".join(f"property float {c}\n" for c in "xyz")
    header += "".join(f"property uchar {c}\n" for c in ("red", "green", "blue")) + "end_header\n"
    (root / "points.ply").write_text(header + points)
    meta = {"camera_model": model, "ply_file_path": "points.ply", "frames": frames}
    (root / "transforms.json").write_text(json.dumps(meta))
