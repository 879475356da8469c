"""The sparse points that belong to a transforms.json: nerfstudio's ply, or the COLMAP model it was made from."""

import io
import os
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member, read_bytes
from splat.scene.readers.colmap import find_model
from splat.scene.readers.colmap_model import read_model

_LONGEST_HEADER = 1 << 16  # bytes
_COLMAP_PLACES = ("colmap/sparse/0", "colmap/sparse", "sparse/0", "sparse")
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip


def read_sparse_points(root: Path, meta: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """Points (M, 3) float64 in the frame of the json ``path`` and colours (M, 3) uint8, or None if there are none."""
    with guarded(path, "'ply_file_path'"):
        named = member(meta, "ply_file_path", str, "").replace("\\", "/")
    ply = root / (named or "sparse_pc.ply")
    if os.path.exists(ply):
        return read_ply_points(ply)
    if named:
        raise InputError(f"the points {ply} named in {path} do not exist; put the file there or remove 'ply_file_path'")
    if "applied_transform" not in meta and "camera_model" not in meta:
        return None  # only nerfstudio says how a COLMAP model beside it relates to its frame
    model = find_model(root, _COLMAP_PLACES)
    return None if model is None else _from_colmap(model, meta, path)


def read_ply_points(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertex positions (M, 3) float64 and colours (M, 3) uint8 (grey where absent) of a ply file. Raises InputError."""
    data = read_bytes(path)
    with guarded(path, "the ply point cloud"):
        vertices = _vertices(data)
        xyz = np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], axis=1)
    if len(xyz) == 0:
        raise InputError(f"{path} holds no points, but training starts from them; export it again or remove it")
    channels = ("red", "green", "blue")
    if not set(channels) <= set(vertices.dtype.names):
        return xyz, np.full(xyz.shape, 128, np.uint8)
    rgb = np.stack([vertices[channel] for channel in channels], axis=1)
    if rgb.dtype != np.uint8:
        rgb = np.clip(np.nan_to_num(rgb.astype(np.float64)) * 255 + 0.5, 0, 255).astype(np.uint8)
    return xyz, rgb


def _vertices(data: bytes) -> np.ndarray:
    """The vertex element, which must come first and have no list properties, as a structured array."""
    end = data.find(b"end_header", 0, _LONGEST_HEADER)
    start = data.find(b"\n", end) + 1
    if end < 0 or start == 0:
        raise ValueError("it has no header that ends")
    lines = [line.split() for line in data[:end].decode("ascii").splitlines()]
    lines = [line for line in lines if line and line[0] in ("format", "element", "property")]
    if any(len(line) < 3 for line in lines):
        raise ValueError("its header has lines that are too short")
    kind = next((line[1] for line in lines if line[0] == "format"), "not said")
    order = {"binary_big_endian": ">", "binary_little_endian": "<", "ascii": "="}.get(kind)
    if order is None:
        raise ValueError(f"its format is {kind[:40]}")
    elements = [index for index, line in enumerate(lines) if line[0] == "element"]
    if not elements or lines[elements[0]][1] != "vertex":
        raise ValueError("its first element is not 'vertex'")
    count, fields = int(lines[elements[0]][2]), []
    for line in lines[elements[0] + 1 : elements[1] if len(elements) > 1 else None]:
        if line[0] != "property" or line[1] not in _TYPES:
            raise ValueError(f"it has a '{' '.join(line)[:40]}', expected properties that are numbers")
        fields.append((line[2], order + _TYPES[line[1]]))
    if not {"x", "y", "z"} <= {name for name, _ in fields}:
        raise ValueError("its vertices have no x, y and z")
    dtype = np.dtype(fields)
    if not 0 <= count <= len(data) - start:
        raise ValueError(f"{count} points do not fit its {len(data):,} bytes")
    if kind != "ascii":
        return np.frombuffer(data, dtype, count, start)
    return _ascii_vertices(data, start, dtype, count)


def _ascii_vertices(data: bytes, start: int, dtype: np.dtype, count: int) -> np.ndarray:
    """``count`` lines of text as rows; colours of whole numbers stay such."""
    wide = np.dtype([(name, "u1" if dtype[name] == np.uint8 else "f8") for name in dtype.names])
    rows, width = np.empty(count, wide), len(wide.names)
    lines = iter(io.BytesIO(data))
    skipped = 0
    while skipped < start:
        skipped += len(next(lines))
    for number in range(count):
        words = next(lines, b"").split(None, width)
        if len(words) < width:
            raise ValueError(f"point {number} of {count} has {len(words)} of {width} numbers")
        rows[number] = tuple(float(word) for word in words[:width])
    return rows


def _from_colmap(model: Path, meta: dict[str, Any], path: Path) -> tuple[np.ndarray, np.ndarray] | None:
    """nerfstudio's poses are COLMAP's after ``applied_transform``; its points have to follow."""
    points = read_model(model).points
    if len(points.ids) == 0:
        return None
    try:
        applied = np.array(meta.get("applied_transform", np.eye(4)), np.float64)
    except (ValueError, TypeError, OverflowError):
        applied = np.zeros(0)
    if applied.shape not in ((3, 4), (4, 4)) or not np.isfinite(applied).all():
        raise InputError(f"'applied_transform' in {path} is not a 3×4 matrix of numbers; export the file again")
    return points.xyz @ applied[:3, :3].T + applied[:3, 3], points.rgb
