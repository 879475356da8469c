"""Scenes described by a transforms.json, with photos and points, of exactly known geometry."""

import json
from pathlib import Path

import numpy as np
import PIL.Image

from support.scene_models import ring_poses

GL = np.diag([1.0, -1.0, -1.0, 1.0])
SIZE = (64, 48)
VALUES = {"w": 64, "h": 48, "fl_x": 56.0, "fl_y": 56.0, "cx": 32.0, "cy": 24.0}


def described(root: Path, poses=None, files=None, **values) -> dict:
    """Photos and points in ``root`` and what a file says about them; ``poses`` are world-to-camera, OpenCV."""
    points_of(root)
    poses = ring_poses(6) if poses is None else poses
    files = files or [f"images/{k:04d}.png" for k in range(len(poses))]
    frames = []
    for file, pose in zip(files, poses, strict=True):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", SIZE).save(root / file)
        frames.append({"file_path": file, "transform_matrix": (np.linalg.inv(pose) @ GL).tolist()})
    return {**VALUES, **values, "frames": frames}


def write(root: Path, values: dict, name: str = "transforms.json") -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(values))
    return root / name


def ply(
    path: Path, xyz: np.ndarray, colours: np.ndarray, kind: str, names: tuple[str, ...], text: bool = False
) -> None:
    """A point cloud whose colours are of type ``kind``."""
    types = {
        "uchar": "u1",
        "ushort": "<u2",
        "int": "<i4",
        "uint": "<u4",
        "short": "<i2",
        "float": "<f4",
        "double": "<f8",
    }
    fields = [(axis, "<f4") for axis in "xyz"] + [(name, types[kind]) for name in names]
    rows = np.array([(*p, *c) for p, c in zip(xyz, colours, strict=True)], fields)
    lines = ["ply", f"format {'ascii' if text else 'binary_little_endian'} 1.0", f"element vertex {len(xyz)}"]
    lines += [f"property float {axis}" for axis in "xyz"] + [f"property {kind} {name}" for name in names]
    head = ("\n".join([*lines, "end_header"]) + "\n").encode()
    body = "".join(" ".join(str(v) for v in row.tolist()) + "\n" for row in rows).encode() if text else rows.tobytes()
    path.write_bytes(head + body)


def points_of(root: Path, count: int = 40) -> np.ndarray:
    """Points around the origin, written as sparse_pc.ply."""
    root.mkdir(parents=True, exist_ok=True)
    xyz = np.random.default_rng(0).uniform(-0.6, 0.6, (count, 3)).astype(np.float32)
    ply(root / "sparse_pc.ply", xyz, np.full((count, 3), 77), "uchar", ("red", "green", "blue"))
    return xyz.astype(np.float64)
