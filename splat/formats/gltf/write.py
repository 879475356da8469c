"""glTF 2.0 with KHR_gaussian_splatting (ratified by Khronos in 2026), plain or compressed as SPZ.

A primitive of points whose attributes are centres, unit quaternions x y z w, linear scales, opacities and SH.
Axes: y up, z front, x left. The variant KHR_gaussian_splatting_compression_spz_2 (a draft) holds SPZ version 2
in the axes of the SPZ documentation.
"""

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas, prepare, scales, to_uint, unit_quats
from splat.coding.parallel import each, pieces, preallocate, write_at
from splat.coordinates import AT_ZERO
from splat.errors import InputError
from splat.files import atomic_path, write_text
from splat.formats import axes
from splat.formats.gltf.read import EXTENSION, PREFIX, SPZ_EXTENSION, read_asset
from splat.formats.spz import spz
from splat.sh_basis import C0

FRAME = "LUF"
SPZ_FRAME = "RUB"
FLOAT, BYTE = 5126, 5121
ARRAY_BUFFER = 34962


def read(path: Path) -> GaussianArrays:
    """Read all Gaussian primitives of the asset, placed by their nodes, joined into one cloud."""
    return axes.convert(read_asset(path), FRAME, axes.HOME)


def write(table: GaussianArrays, path: Path, *, spz: bool = False, fallback: bool = True) -> None:
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
        return _save(path, asset, 0, lambda put: None)
    columns = _columns(table.select(slice(0, 0)), fallback)
    extension: dict[str, Any] = {"kernel": "ellipse", "colorSpace": "srgb_rec709_display"}
    extension |= {"projection": "perspective", "sortingMethod": "cameraDistance"}
    starts = np.cumsum([0, *(len(table) * _row_bytes(values) for values in columns.values())]).tolist()
    if spz:
        packed = np.frombuffer(_spz(table, path), np.uint8)
        starts = [0, len(packed)]
        asset["bufferViews"] = [{"buffer": 0, "byteLength": len(packed)}]
        extension["extensions"] = {SPZ_EXTENSION: {"bufferView": 0}}
        asset["extensionsUsed"] = asset["extensionsRequired"] = [EXTENSION, SPZ_EXTENSION]
    else:
        asset["bufferViews"] = [
            {"buffer": 0, "byteOffset": start, "byteLength": end - start, "target": ARRAY_BUFFER}
            for start, end in zip(starts, starts[1:], strict=False)
        ]

    def fill(put: Callable[[np.ndarray, int], None]) -> None:
        if spz:
            return put(packed, 0)

        def fill_rows(rows: slice) -> None:
            for start, values in zip(starts, _columns(table.select(rows), fallback).values(), strict=False):
                put(values, start + rows.start * _row_bytes(values))

        each(fill_rows, pieces(len(table)))

    asset["accessors"] = [
        _accessor(values, len(table), None if spz else i) for i, values in enumerate(columns.values())
    ]
    ends = np.sort(np.stack([table.means.min(0), table.means.max(0)]) * axes.change(axes.HOME, FRAME).diagonal(), 0)
    asset["accessors"][0] |= {"min": ends[0].tolist(), "max": ends[1].tolist()}
    primitive = {
        "mode": 0,
        "attributes": {name: i for i, name in enumerate(columns)},
        "extensions": {EXTENSION: extension},
    }
    node: dict[str, Any] = {"mesh": 0}
    if table.georeference.placed:
        node["translation"] = (axes.change(axes.HOME, FRAME) @ table.georeference.origin).tolist()
    asset |= {"meshes": [{"primitives": [primitive]}], "nodes": [node], "scenes": [{"nodes": [0]}], "scene": 0}
    _save(path, asset, starts[-1], fill)


def _spz(table: GaussianArrays, path: Path) -> bytes:
    return spz.encode(table, path, version=2, antialiased=False, frame=SPZ_FRAME, reorder=True)


def _columns(table: GaussianArrays, fallback: bool) -> dict[str, np.ndarray]:
    """Attribute name → values, in the axes and types of the specification; rows are multiples of four bytes."""
    table = axes.convert(table.replace(georeference=AT_ZERO), axes.HOME, FRAME)
    opacity = alphas(table)
    columns = {"POSITION": table.means}
    if fallback:
        rgb = np.clip(table.sh[:, 0] * np.float32(C0) + np.float32(0.5), 0, 1)
        columns["COLOR_0"] = to_uint(np.concatenate([_linear(rgb), opacity[:, None]], 1) * 255, 255)
    columns[PREFIX + "ROTATION"] = unit_quats(table)[:, [1, 2, 3, 0]]
    columns[PREFIX + "SCALE"] = scales(table)
    columns[PREFIX + "OPACITY"] = opacity
    for degree in range(table.sh_degree + 1):
        for n in range(2 * degree + 1):
            columns[f"{PREFIX}SH_DEGREE_{degree}_COEF_{n}"] = table.sh[:, degree * degree + n]
    return columns


def _row_bytes(values: np.ndarray) -> int:
    return values.itemsize * int(np.prod(values.shape[1:]))


def _linear(rgb: np.ndarray) -> np.ndarray:
    """COLOR_0 is linear, the cloud's colours are sRGB (IEC 61966-2-1)."""
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** np.float32(2.4))


def _accessor(values: np.ndarray, count: int, view: int | None) -> dict[str, Any]:
    accessor: dict[str, Any] = {} if view is None else {"bufferView": view}
    accessor |= {
        "componentType": BYTE if values.dtype == np.uint8 else FLOAT,
        "count": count,
        "type": "SCALAR" if values.ndim == 1 else f"VEC{values.shape[1]}",
    }
    if values.dtype == np.uint8:
        accessor["normalized"] = True
    return accessor


def _save(path: Path, asset: dict[str, Any], size: int, fill: Callable[[Callable], None]) -> None:
    """Write the asset with its only buffer of ``size`` bytes, into which ``fill(put)`` puts arrays at offsets."""
    if path.name.lower().endswith(".gltf"):
        if size:
            buffer = np.empty(size, np.uint8)

            def put(values: np.ndarray, at: int) -> None:
                buffer[at : at + values.nbytes] = np.ascontiguousarray(values).reshape(-1).view(np.uint8)

            fill(put)
            uri = "data:application/octet-stream;base64," + base64.b64encode(buffer).decode()
            asset["buffers"] = [{"byteLength": size, "uri": uri}]
        write_text(path, json.dumps(asset))
        return
    if size:
        asset["buffers"] = [{"byteLength": size}]
    text = json.dumps(asset, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    padded = size + -size % 4
    total = 12 + 8 + len(text) + (8 + padded if size else 0)
    if total >= 2**32:
        raise InputError(f"{path}: {total / 1e9:.1f} GB do not fit a .glb (4.3 GB at most); use --max-sh, or spz")
    head = struct.pack("<4sII", b"glTF", 2, total) + struct.pack("<I4s", len(text), b"JSON") + text
    if size:
        head += struct.pack("<I4s", padded, b"BIN\0")
    with atomic_path(path) as temporary, open(temporary, "r+b") as file:
        file.write(head)
        preallocate(file, total)
        if size:
            fill(lambda values, at: write_at(file, values, len(head) + at))


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
