"""The sparse points that belong to a transforms.json: nerfstudio's ply, or the COLMAP model it was made from."""

from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image  # noqa: F401  (before pycolmap: the other order aborts when a PNG is saved)
import pycolmap
from plyfile import PlyData

from splat.errors import InputError
from splat.scene.colmap import find_model
from splat.scene.colmap_files import check_model

_COLMAP_PLACES = ("colmap/sparse/0", "colmap/sparse", "sparse/0", "sparse")


def read_sparse_points(root: Path, meta: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Points (M, 3) float64 in the frame of the json ``path`` and colours (M, 3) uint8, or None if there are none."""
    named = meta.get("ply_file_path")
    ply = root / named if named else root / "sparse_pc.ply"
    if ply.is_file():
        return read_ply(ply)
    if named:
        raise InputError(f"the points {ply} named in {path} do not exist; put the file there or remove 'ply_file_path'")
    if "applied_transform" not in meta and "camera_model" not in meta:
        return None  # only nerfstudio says how a COLMAP model beside it relates to its frame
    model = find_model(root, _COLMAP_PLACES)
    return None if model is None else _from_colmap(model, meta, path)


def read_ply(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertex positions and colours (grey where absent) of a ply file. Raises InputError."""
    try:
        vertices = PlyData.read(str(path))["vertex"]
        xyz = np.stack([np.asarray(vertices[axis], np.float64) for axis in "xyz"], axis=1)
    except Exception as error:  # plyfile raises many kinds for damaged files
        raise InputError(f"{path} cannot be read as a point cloud ({error}); export it again") from error
    if len(xyz) == 0:
        raise InputError(f"{path} holds no points, but training starts from them; export it again or remove it")
    names = {prop.name for prop in vertices.properties}
    if {"red", "green", "blue"} <= names:
        rgb = np.stack([np.asarray(vertices[channel]) for channel in ("red", "green", "blue")], axis=1)
        rgb = rgb if rgb.dtype == np.uint8 else np.clip(rgb * 255 + 0.5, 0, 255)
    else:
        rgb = np.full((len(xyz), 3), 128)
    return xyz, rgb.astype(np.uint8)


def _from_colmap(model: Path, meta: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    check_model(model)
    points = list(pycolmap.Reconstruction(str(model)).points3D.values())
    if not points:
        return None
    applied = np.array(meta.get("applied_transform", np.eye(4)), np.float64)
    if applied.shape not in ((3, 4), (4, 4)) or not np.isfinite(applied).all():
        raise InputError(f"'applied_transform' in {path} is not a 3×4 matrix of numbers; export the file again")
    xyz = np.array([point.xyz for point in points]) @ applied[:3, :3].T + applied[:3, 3]
    return xyz, np.array([point.color for point in points], np.uint8)
