"""The sparse points that belong to a transforms.json: nerfstudio's ply, or the COLMAP model it was made from."""

from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.scene.colmap_library import pycolmap
from splat.scene.readers.colmap import find_model
from splat.scene.readers.colmap_check import check_model

_COLMAP_PLACES = ("colmap/sparse/0", "colmap/sparse", "sparse/0", "sparse")
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_sparse_points(root: Path, meta: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Points (M, 3) float64 in the frame of the json ``path`` and colours (M, 3) uint8, or None if there are none."""
    named = meta.get("ply_file_path")
    ply = root / named if named else root / "sparse_pc.ply"
    if ply.is_file():
        return read_ply_points(ply)
    if named:
        raise InputError(f"the points {ply} named in {path} do not exist; put the file there or remove 'ply_file_path'")
    if "applied_transform" not in meta and "camera_model" not in meta:
        return None  # only nerfstudio says how a COLMAP model beside it relates to its frame
    model = find_model(root, _COLMAP_PLACES)
    return None if model is None else _from_colmap(model, meta, path)


def read_ply_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertex positions (M, 3) float64 and colours (M, 3) uint8 (grey where absent) of a ply file. Raises InputError."""
    data = path.read_bytes()
    try:
        vertices = _vertices(data)
        xyz = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    except (ValueError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as a ply point cloud ({error}); export it again") from error
    if len(xyz) == 0:
        raise InputError(f"{path} holds no points, but training starts from them; export it again or remove it")
    channels = ("red", "green", "blue")
    if not set(channels) <= set(vertices.dtype.names):
        return xyz, np.full(xyz.shape, 128, np.uint8)
    rgb = np.stack([vertices[channel] for channel in channels], axis=1)
    return xyz, rgb if rgb.dtype == np.uint8 else np.clip(rgb * 255 + 0.5, 0, 255).astype(np.uint8)


def _vertices(data: bytes) -> np.ndarray:
    """The vertex element, which must come first and have no list properties, as a structured array."""
    end = data.index(b"end_header")
    start = data.index(b"\n", end) + 1
    lines = [line.split() for line in data[:end].decode("ascii").splitlines()]
    kind = next(line[1] for line in lines if line[0] == "format")
    order = {"binary_big_endian": ">", "binary_little_endian": "<", "ascii": "="}[kind]
    first = next(index for index, line in enumerate(lines) if line and line[0] == "element")
    if lines[first][1] != "vertex":
        raise ValueError(f"its first element is '{lines[first][1]}', expected 'vertex'")
    count, fields = int(lines[first][2]), []
    for line in lines[first + 1 :]:
        if line[0] == "element":
            break
        if line[0] == "property":
            fields.append((line[2], order + _TYPES[line[1]]))
    if kind != "ascii":
        return np.frombuffer(data, np.dtype(fields), count, start)
    rows = [tuple(float(word) for word in line.split()) for line in data[start:].splitlines()[:count]]
    if len(rows) != count:
        raise ValueError(f"{len(rows)} of {count} points")
    return np.array(rows, np.dtype([(name, "u1" if kind.endswith("u1") else "f8") for name, kind in fields]))


def _from_colmap(model: Path, meta: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """nerfstudio's poses are COLMAP's after ``applied_transform``; its points have to follow."""
    check_model(model)
    points = [point for _, point in sorted(pycolmap.Reconstruction(str(model)).points3D.items())]
    if not points:
        return None
    applied = np.array(meta.get("applied_transform", np.eye(4)), np.float64)
    if applied.shape not in ((3, 4), (4, 4)) or not np.isfinite(applied).all():
        raise InputError(f"'applied_transform' in {path} is not a 3×4 matrix of numbers; export the file again")
    xyz = np.array([point.xyz for point in points]) @ applied[:3, :3].T + applied[:3, 3]
    return xyz, np.array([point.color for point in points], np.uint8)
