"""Reading Gaussian primitives out of a glTF asset: containers, accessors, nodes."""

import base64
import binascii
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import logits
from splat.coding.limits import check_claim
from splat.errors import InputError
from splat.formats import axes
from splat.formats.spz import spz

EXTENSION = "KHR_gaussian_splatting"
SPZ_EXTENSION = "KHR_gaussian_splatting_compression_spz_2"
PREFIX = EXTENSION + ":"
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
MAX_NODES = 100_000
MIN_SCALE = 1e-30  # linear scales of 0 have no logarithm


@dataclass(frozen=True)
class Asset:
    """A parsed asset: its JSON, its binary chunk, and where it came from."""

    path: Path
    tree: Mapping[str, Any]
    chunk: bytes


def read_asset(path: Path) -> GaussianArrays:
    """All Gaussian primitives of ``path`` in scene axes (left, up, front), joined. Raises InputError."""
    try:
        asset = _open(path, path.read_bytes())
        tables = [table for mesh, pose in _placements(asset.tree) for table in _mesh(asset, mesh, pose)]
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError, struct.error) as error:
        what = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise InputError(f"{path}: the glTF cannot be understood ({what}); make or copy it again") from error
    if tables:
        return GaussianArrays.concat(tables)
    if EXTENSION in asset.tree.get("extensionsUsed", ()):
        return GaussianArrays.empty()
    raise InputError(f"{path}: the glTF holds no primitive with {EXTENSION}, so no Gaussians; check the file")


def _open(path: Path, data: bytes) -> Asset:
    if data[:4] != b"glTF":
        tree = json.loads(data)
        if not isinstance(tree, dict):
            raise ValueError("the JSON is no object")
        return Asset(path, tree, b"")
    version, total, size, kind = struct.unpack_from("<4xII I4s", data)
    if version != 2 or kind != b"JSON" or total > len(data) or 20 + size > len(data):
        raise ValueError(f"version {version}, {total:,} bytes claimed of {len(data):,}")
    tree = json.loads(data[20 : 20 + size])
    if not isinstance(tree, dict):
        raise ValueError("the JSON is no object")
    at = 20 + size
    if at + 8 <= len(data):
        size, kind = struct.unpack_from("<I4s", data, at)
        if kind == b"BIN\0":
            if at + 8 + size > len(data):
                raise ValueError(f"the binary chunk claims {size:,} bytes of {len(data) - at - 8:,}")
            return Asset(path, tree, data[at + 8 : at + 8 + size])
    return Asset(path, tree, b"")


# ---- nodes ----


def _placements(tree: Mapping[str, Any]) -> list[tuple[int, np.ndarray]]:
    """(mesh, 4×4 pose) of every node of the default scene that has a mesh; of all meshes when there are no scenes."""
    meshes = tree.get("meshes", [])
    if "scenes" not in tree:
        return [(i, np.eye(4)) for i in range(len(meshes))]
    nodes, placed_meshes = tree.get("nodes", []), []
    stack = [(int(i), np.eye(4), 0) for i in tree["scenes"][tree.get("scene", 0)].get("nodes", [])]
    while stack:
        index, parent, depth = stack.pop()
        if depth > 256 or len(placed_meshes) > MAX_NODES or index < 0:
            raise ValueError("the nodes form a cycle")
        pose = parent @ _local(nodes[index])
        if "mesh" in nodes[index]:
            placed_meshes.append((int(nodes[index]["mesh"]), pose))
        stack += [(int(child), pose, depth + 1) for child in nodes[index].get("children", [])]
        if len(stack) > MAX_NODES:
            raise ValueError("the nodes form a cycle")
    return placed_meshes


def _local(node: Mapping[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return np.array(node["matrix"], float).reshape(4, 4).T
    pose = np.eye(4)
    x, y, z, w = (float(part) for part in node.get("rotation", (0, 0, 0, 1)))
    pose[:3, :3] = _rotation(np.array([w, x, y, z])) * np.array(node.get("scale", (1, 1, 1)), float)
    pose[:3, 3] = np.array(node.get("translation", (0, 0, 0)), float)
    return pose


def _rotation(quat: np.ndarray) -> np.ndarray:
    w, x, y, z = quat / max(np.linalg.norm(quat), 1e-12)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * cross + 2 * cross @ cross


def _place(table: GaussianArrays, pose: np.ndarray) -> GaussianArrays:
    if np.allclose(pose, np.eye(4), rtol=0, atol=1e-9):
        return table
    scale = np.linalg.norm(pose[:3, :3], axis=0)
    if not np.isfinite(pose).all() or scale.min() <= 0 or scale.max() > scale.min() * (1 + 1e-4):
        raise ValueError("a node scales its axes unequally, which Gaussians cannot follow exactly; apply it first")
    if np.linalg.det(pose[:3, :3]) < 0:
        raise ValueError("a node mirrors its mesh, which the extension forbids")
    return table.transform(pose[:3, :3] / scale, pose[:3, 3], float(scale.mean()))


# ---- primitives ----


def _mesh(asset: Asset, index: int, pose: np.ndarray) -> list[GaussianArrays]:
    if index < 0:
        raise ValueError(f"mesh {index}")
    tables = []
    for primitive in asset.tree["meshes"][index]["primitives"]:
        extension = primitive.get("extensions", {}).get(EXTENSION)
        if extension is not None:
            packed = extension.get("extensions", {}).get(SPZ_EXTENSION)
            if packed is not None:
                data = _view(asset, packed["bufferView"])
                table = axes.convert(spz.decode(bytes(data), asset.path, "RUB"), axes.HOME, "LUF")
            else:
                table = _plain(asset, primitive["attributes"])
            tables.append(_place(table, pose))
    return tables


def _plain(asset: Asset, attributes: Mapping[str, int]) -> GaussianArrays:
    means = _values(asset, attributes["POSITION"], 3)
    n = len(means)
    quats = _values(asset, attributes[PREFIX + "ROTATION"], 4, n)[:, [3, 0, 1, 2]]
    scales = _values(asset, attributes[PREFIX + "SCALE"], 3, n)
    opacity = _values(asset, attributes[PREFIX + "OPACITY"], 1, n)[:, 0]
    degree = max(d for d in range(5) if d == 0 or f"{PREFIX}SH_DEGREE_{d}_COEF_0" in attributes)
    check_claim(asset.path, n, degree, 0, 0)
    sh = np.empty((n, (degree + 1) ** 2, 3), np.float32)
    for d in range(degree + 1):
        for i in range(2 * d + 1):
            sh[:, d * d + i] = _values(asset, attributes[f"{PREFIX}SH_DEGREE_{d}_COEF_{i}"], 3, n)
    # Linear scales cannot be negative: drafts of 2025 stored logarithms, which nearly always are.
    log_scales = scales if (scales < 0).any() else np.log(np.maximum(scales, MIN_SCALE))
    quats = np.where((quats == 0).all(1, keepdims=True), np.float32([1, 0, 0, 0]), quats)
    with np.errstate(invalid="ignore"):
        return GaussianArrays(means.copy(), np.array(log_scales), quats, logits(opacity), sh)


def _values(asset: Asset, index: int, width: int, count: int | None = None) -> np.ndarray:
    """(N, width) float32 of an accessor; integers are normalised when the accessor says so."""
    if not isinstance(index, int) or index < 0:
        raise ValueError(f"accessor {index!r}")
    accessor = asset.tree["accessors"][index]
    if "sparse" in accessor:
        raise ValueError("sparse accessors are not read; export without them")
    n = accessor["count"]
    if _WIDTHS.get(accessor["type"]) != width or not isinstance(n, int) or n < 0 or (count is not None and n != count):
        raise ValueError(
            f"accessor {index} has {n} elements of type {accessor['type']}, expected {count} of width {width}"
        )
    kind = np.dtype(_TYPES[accessor["componentType"]])
    view, tight = accessor["bufferView"], width * kind.itemsize
    data = _view(asset, view)
    stride = asset.tree["bufferViews"][view].get("byteStride", tight)
    start = accessor.get("byteOffset", 0)
    if (
        start < 0
        or stride < tight
        or stride > 252
        and stride != tight
        or start + stride * (n - 1) + tight > len(data)
        and n
    ):
        raise ValueError(f"accessor {index} leaves its buffer")
    if n == 0:
        return np.zeros((0, width), np.float32)
    raw = np.lib.stride_tricks.as_strided(
        np.frombuffer(data, np.uint8)[start:], (n, tight), (stride, 1), writeable=False
    )
    values = np.ascontiguousarray(raw).view(kind).reshape(n, width)
    if kind.kind == "f":
        return values.astype(np.float32, copy=False)
    top = np.iinfo(kind).max if accessor.get("normalized") else 1
    return np.maximum(values.astype(np.float32) / np.float32(top), -1 if accessor.get("normalized") else -np.inf)


def _view(asset: Asset, index: int) -> memoryview:
    if not isinstance(index, int) or index < 0:
        raise ValueError(f"buffer view {index!r}")
    view = asset.tree["bufferViews"][index]
    buffer = _buffer(asset, view["buffer"])
    start, size = view.get("byteOffset", 0), view["byteLength"]
    if not 0 <= start <= start + size <= len(buffer):
        raise ValueError(f"buffer view {index} leaves its buffer of {len(buffer):,} bytes")
    return memoryview(buffer)[start : start + size]


def _buffer(asset: Asset, index: int) -> bytes:
    uri = asset.tree["buffers"][index].get("uri")
    if uri is None:
        return asset.chunk
    if uri.startswith("data:"):
        try:
            return base64.b64decode(uri.partition(",")[2], validate=True)
        except binascii.Error as error:
            raise ValueError(f"the data of buffer {index} is no base64 ({error})") from error
    if set(uri) & set("/\\:\0%") or uri in ("", ".", ".."):
        raise ValueError(f"buffer {index} lies at '{uri[:60]}', expected a file name beside the .gltf")
    try:
        return (asset.path.parent / uri).read_bytes()
    except OSError as error:
        raise ValueError(f"the file '{uri}' beside it cannot be read ({error.strerror})") from error
