"""glTF 2.0 with KHR_gaussian_splatting (ratified by Khronos in 2026), plain or compressed as SPZ.

A primitive of points whose attributes are centres, unit quaternions x y z w, linear scales, opacities and SH.
Axes: y up, z front, x left. The variant KHR_gaussian_splatting_compression_spz_2 (a draft) holds SPZ version 2
in the axes of the SPZ documentation.
"""

import base64
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.files import atomic_path, write_text
from splat.formats import frames, spz
from splat.formats.gltf_read import EXTENSION, PREFIX, SPZ_EXTENSION, read_asset
from splat.formats.quantize import alphas, prepare, scales, to_uint, unit_quats
from splat.formats.rows import each, pieces
from splat.formats.table import Table
from splat.harmonics import C0

FRAME = "LUF"
SPZ_FRAME = "RUB"
FLOAT, BYTE = 5126, 5121
ARRAY_BUFFER = 34962


def read(path: Path) -> Table:
    """Read all Gaussian primitives of the asset, placed by their nodes, joined into one cloud."""
    return frames.convert(read_asset(path), FRAME, frames.HOME)


def write(table: Table, path: Path, *, spz: bool = False, fallback: bool = True) -> None:
    """Write ``table`` (SH up to degree 3) as `.glb`, or as `.gltf` with the data inside the JSON.

    Args:
        spz: compress as SPZ (a draft extension; Cesium reads it).
        fallback: add COLOR_0, so that viewers without Gaussians show coloured points.
    """
    table = prepare(table, path, max_degree=3)
    asset: dict[str, Any] = {"asset": {"version": "2.0", "generator": "splat"}, "extensionsUsed": [EXTENSION]}
    if len(table) == 0:
        # glTF has no empty accessors; a scene without meshes is the empty cloud.
        asset |= {"scene": 0, "scenes": [{}]}
        return _save(path, asset, [])
    columns = _columns(table, fallback)
    extension: dict[str, Any] = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    extension |= {"projection": "perspective", "sortingMethod": "cameraDistance"}
    if spz:
        parts = [_spz(table, path)]
        asset["bufferViews"] = [{"buffer": 0, "byteLength": len(parts[0])}]
        extension["extensions"] = {SPZ_EXTENSION: {"bufferView": 0}}
        asset["extensionsUsed"] = asset["extensionsRequired"] = [EXTENSION, SPZ_EXTENSION]
    else:
        asset["bufferViews"], parts = _views(columns), list(columns.values())
    asset["accessors"] = [
        _accessor(name, values, None if spz else i) for i, (name, values) in enumerate(columns.items())
    ]
    primitive = {
        "mode": 0,
        "attributes": {name: i for i, name in enumerate(columns)},
        "extensions": {EXTENSION: extension},
    }
    asset |= {"meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}], "scene": 0}
    _save(path, asset, parts)


def _spz(table: Table, path: Path) -> bytes:
    return spz.encode(table, path, version=2, antialiased=False, frame=SPZ_FRAME, reorder=True)


def _columns(table: Table, fallback: bool) -> dict[str, np.ndarray]:
    """Attribute name → values, in the axes and types of the specification."""
    n = len(table)
    columns = {"POSITION": np.empty((n, 3), "<f4")}
    if fallback:
        columns["COLOR_0"] = np.empty((n, 4), np.uint8)
    columns |= {PREFIX + name: np.empty((n, width), "<f4") for name, width in (("ROTATION", 4), ("SCALE", 3))}
    columns[PREFIX + "OPACITY"] = np.empty(n, "<f4")
    names = [f"{PREFIX}SH_DEGREE_{d}_COEF_{i}" for d in range(table.sh_degree + 1) for i in range(2 * d + 1)]
    columns |= {name: np.empty((n, 3), "<f4") for name in names}

    def fill(rows: slice) -> None:
        part = frames.convert(table.select(rows), frames.HOME, FRAME)
        columns["POSITION"][rows] = part.means
        columns[PREFIX + "ROTATION"][rows] = unit_quats(part)[:, [1, 2, 3, 0]]
        columns[PREFIX + "SCALE"][rows] = scales(part)
        columns[PREFIX + "OPACITY"][rows] = opacity = alphas(part)
        for k, name in enumerate(names):
            columns[name][rows] = part.sh[:, k]
        if fallback:
            rgb = np.clip(part.sh[:, 0] * np.float32(C0) + np.float32(0.5), 0, 1)
            columns["COLOR_0"][rows, :3] = to_uint(_linear(rgb) * 255, 255)
            columns["COLOR_0"][rows, 3] = to_uint(opacity * 255, 255)

    each(fill, pieces(n))
    return columns


def _linear(rgb: np.ndarray) -> np.ndarray:
    """COLOR_0 is linear, the cloud's colours are sRGB (IEC 61966-2-1)."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** np.float32(2.4))


def _views(columns: dict[str, np.ndarray]) -> list[dict[str, int]]:
    """One buffer view per attribute, back to back; every element is a multiple of four bytes."""
    views, at = [], 0
    for values in columns.values():
        views.append({"buffer": 0, "byteOffset": at, "byteLength": values.nbytes, "target": ARRAY_BUFFER})
        at += values.nbytes
    return views


def _accessor(name: str, values: np.ndarray, view: int | None) -> dict[str, Any]:
    accessor: dict[str, Any] = {} if view is None else {"bufferView": view}
    accessor |= {
        "componentType": BYTE if values.dtype == np.uint8 else FLOAT,
        "count": len(values),
        "type": "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}",
    }
    if values.dtype == np.uint8:
        accessor["normalized"] = True
    if name == "POSITION":
        accessor |= {"min": values.min(0).tolist(), "max": values.max(0).tolist()}
    return accessor


def _save(path: Path, asset: dict[str, Any], parts: Sequence[Any]) -> None:
    """Write the asset whose only buffer is made of ``parts``, each something with a memory buffer."""
    size = sum(memoryview(part).nbytes for part in parts)
    if path.name.lower().endswith(".gltf"):
        if size:
            uri = "data:application/octet-stream;base64," + base64.b64encode(b"".join(parts)).decode()
            asset["buffers"] = [{"byteLength": size, "uri": uri}]
        write_text(path, json.dumps(asset))
        return
    if size:
        asset["buffers"] = [{"byteLength": size}]
    text = json.dumps(asset, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    fill = b"\0" * (-size % 4)
    total = 12 + 8 + len(text) + (8 + size + len(fill) if size else 0)
    if total >= 2**32:
        raise InputError(f"{path}: {total / 1e9:.1f} GB do not fit a .glb (4.3 GB at most); use --max-sh, or spz")
    head = [struct.pack("<4sII", b"glTF", 2, total), struct.pack("<I4s", len(text), b"JSON"), text]
    if size:
        head.append(struct.pack("<I4s", size + len(fill), b"BIN\0"))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        for part in (*head, *parts, fill):
            file.write(part)


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
