"""glTF 2.0 with KHR_gaussian_splatting (ratified by Khronos in 2026), plain or compressed as SPZ.

A primitive of points whose attributes are centres, unit quaternions x y z w, linear scales, opacities and SH.
Axes: y up, z front, x left. The variant KHR_gaussian_splatting_compression_spz_2 (a draft) holds SPZ version 2
in the axes of the SPZ documentation.
"""

import base64
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import write_bytes, write_text
from splat.formats import frames, spz
from splat.formats.gltf_read import EXTENSION, PREFIX, SPZ_EXTENSION, read_asset
from splat.formats.quantize import alphas, prepare, to_uint, unit_quats
from splat.sh import C0

FRAME = "LUF"
SPZ_FRAME = "RUB"
FLOAT, BYTE = 5126, 5121
ARRAY_BUFFER = 34962


def read(path: Path) -> GaussianCloud:
    """Read all Gaussian primitives of the asset, placed by their nodes, joined into one cloud."""
    return frames.convert(read_asset(path), FRAME, frames.HOME)


def write(cloud: GaussianCloud, path: Path, *, spz: bool = False, fallback: bool = True) -> None:
    """Write ``cloud`` (SH up to degree 3) as `.glb`, or as `.gltf` with the data inside the JSON.

    Args:
        spz: compress as SPZ (a draft extension; Cesium reads it).
        fallback: add COLOR_0, so that viewers without Gaussians show coloured points.
    """
    cloud = prepare(cloud, path, max_degree=3)
    placed = frames.convert(cloud, frames.HOME, FRAME)
    asset: dict[str, Any] = {"asset": {"version": "2.0", "generator": "splat"}, "extensionsUsed": [EXTENSION]}
    if len(cloud) == 0:
        # glTF has no empty accessors; a scene without meshes is the empty cloud.
        asset |= {"scene": 0, "scenes": [{}]}
        return _save(path, asset, b"")
    columns = _columns(placed, fallback)
    extension: dict[str, Any] = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    extension |= {"projection": "perspective", "sortingMethod": "cameraDistance"}
    if spz:
        data = _spz(cloud, path)
        asset["bufferViews"] = [{"buffer": 0, "byteLength": len(data)}]
        extension["extensions"] = {SPZ_EXTENSION: {"bufferView": 0}}
        asset["extensionsUsed"] = asset["extensionsRequired"] = [EXTENSION, SPZ_EXTENSION]
    else:
        asset["bufferViews"], data = _views(columns)
    asset["accessors"] = [
        _accessor(name, values, None if spz else i) for i, (name, values) in enumerate(columns.items())
    ]
    primitive = {
        "mode": 0,
        "attributes": {name: i for i, name in enumerate(columns)},
        "extensions": {EXTENSION: extension},
    }
    asset |= {"meshes": [{"primitives": [primitive]}], "nodes": [{"mesh": 0}], "scenes": [{"nodes": [0]}], "scene": 0}
    _save(path, asset, data)


def _spz(cloud: GaussianCloud, path: Path) -> bytes:
    return spz.encode(cloud, path, version=2, antialiased=False, frame=SPZ_FRAME, reorder=True)


def _columns(cloud: GaussianCloud, fallback: bool) -> dict[str, np.ndarray]:
    """Attribute name → values, in the types of the specification."""
    quats = unit_quats(cloud)
    opacity = alphas(cloud)
    columns = {"POSITION": cloud.means.numpy()}
    if fallback:
        rgb = np.clip(cloud.sh[:, 0].numpy() * C0 + 0.5, 0, 1)
        # COLOR_0 is linear, the cloud's colours are sRGB (IEC 61966-2-1).
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        columns["COLOR_0"] = to_uint(np.concatenate([linear, opacity[:, None]], 1) * 255, 255)
    columns[PREFIX + "ROTATION"] = np.ascontiguousarray(quats[:, [1, 2, 3, 0]])
    with np.errstate(over="ignore"):
        columns[PREFIX + "SCALE"] = np.minimum(np.exp(cloud.log_scales.numpy()), np.finfo(np.float32).max)
    columns[PREFIX + "OPACITY"] = opacity
    for degree in range(cloud.sh_degree + 1):
        for n in range(2 * degree + 1):
            values = np.ascontiguousarray(cloud.sh[:, degree * degree + n].numpy())
            columns[f"{PREFIX}SH_DEGREE_{degree}_COEF_{n}"] = values
    return columns


def _views(columns: dict[str, np.ndarray]) -> tuple[list[dict[str, int]], bytes]:
    """One buffer view per attribute, back to back; every element is a multiple of four bytes."""
    views, at = [], 0
    for values in columns.values():
        views.append({"buffer": 0, "byteOffset": at, "byteLength": values.nbytes, "target": ARRAY_BUFFER})
        at += values.nbytes
    return views, b"".join(values.tobytes() for values in columns.values())


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


def _save(path: Path, asset: dict[str, Any], data: bytes) -> None:
    if path.name.lower().endswith(".gltf"):
        if data:
            uri = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
            asset["buffers"] = [{"byteLength": len(data), "uri": uri}]
        write_text(path, json.dumps(asset))
        return
    if data:
        asset["buffers"] = [{"byteLength": len(data)}]
    text = json.dumps(asset, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data += b"\0" * (-len(data) % 4)
    total = 12 + 8 + len(text) + (8 + len(data) if data else 0)
    if total >= 2**32:
        raise InputError(f"{path}: {total / 1e9:.1f} GB do not fit a .glb (4.3 GB at most); use --max-sh, or spz")
    parts = [struct.pack("<4sII", b"glTF", 2, total), struct.pack("<I4s", len(text), b"JSON"), text]
    if data:
        parts += [struct.pack("<I4s", len(data), b"BIN\0"), data]
    write_bytes(path, b"".join(parts))


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
