"""Reading Gaussian primitives out of a glTF asset: containers, accessors, nodes."""

import base64
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import logits
from splat.coding.limits import AMPLIFICATION, check_claim
from splat.errors import InputError
from splat.formats import axes
from splat.formats.spz import spz
from splat.reading import DAMAGE, element, member, parse_json, read_bytes, reason_of, typed

EXTENSION = "KHR_gaussian_splatting"
SPZ_EXTENSION = "KHR_gaussian_splatting_compression_spz_2"
PREFIX = EXTENSION + ":"
_TYPES = {5120: "i1", 5121: "u1", 5122: "<i2", 5123: "<u2", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}
MAX_NODES = 100_000
PLAIN = 16  # times its size that an asset without compression may take: accessors and meshes may be used again
MAX_PLACES = 100_000  # of meshes in the scene
MIN_SCALE = 1e-30  # linear scales of 0 have no logarithm


@dataclass(frozen=True)
class Asset:
    """A parsed asset: its JSON, its binary chunk, and where it came from."""

    path: Path
    tree: Mapping[str, Any]
    chunk: bytes
    buffers: dict[str, bytes] = field(default_factory=dict)  # by address, those that were read already
    seen: dict[int, list[GaussianArrays]] = field(default_factory=dict)  # meshes, likewise


def read_asset(path: Path) -> GaussianArrays:
    """All Gaussian primitives of ``path`` in scene axes (left, up, front), joined. Raises InputError."""
    try:
        asset = _open(path, read_bytes(path))
        tables = _tables(asset)
        used = member(asset.tree, "extensionsUsed", list, [])
    except (*DAMAGE, TypeError, AttributeError) as error:  # JSON of another shape than the format's
        raise InputError(
            f"{path}: the glTF cannot be understood ({reason_of(error)}); make or copy it again"
        ) from error
    if tables:
        return GaussianArrays.concat(tables)
    if EXTENSION in used:
        return GaussianArrays.empty()
    raise InputError(f"{path}: the glTF holds no primitive with {EXTENSION}, so no Gaussians; check the file")


def _open(path: Path, data: bytes) -> Asset:
    if data[:4] != b"glTF":
        return Asset(path, parse_json(data, path, "the glTF"), b"")
    version, total, size, kind = struct.unpack_from("<4xII I4s", data)
    if version != 2 or kind != b"JSON" or total > len(data) or 20 + size > len(data):
        raise ValueError(f"version {version}, {total:,} bytes claimed of {len(data):,}")
    tree = parse_json(data[20 : 20 + size], path, "the glTF's JSON")
    at = 20 + size
    if at + 8 <= len(data):
        size, kind = struct.unpack_from("<I4s", data, at)
        if kind == b"BIN\0":
            if at + 8 + size > len(data):
                raise ValueError(f"the binary chunk claims {size:,} bytes of {len(data) - at - 8:,}")
            return Asset(path, tree, data[at + 8 : at + 8 + size])
    return Asset(path, tree, b"")


# ---- nodes ----


def _tables(asset: Asset) -> list[GaussianArrays]:
    """The Gaussians of all meshes where the scene has them. A mesh may stand at many places, within bounds."""
    tables, count, degree = [], 0, 0
    for mesh, pose in _placements(asset.tree):
        if mesh not in asset.seen:
            asset.seen[mesh] = _mesh(asset, mesh)
        for table in asset.seen[mesh]:
            count, degree = count + len(table), max(degree, table.sh_degree)
            check_claim(asset.path, count, degree, 0, _stored(asset))
            tables.append(_place(table, pose))
    return tables


def _stored(asset: Asset) -> int:
    """Bytes that stand for a cloud: of the asset and of the files beside it, fewer if no primitive is compressed."""
    size = asset.path.stat().st_size + sum(map(len, asset.buffers.values()))
    packed = SPZ_EXTENSION in member(asset.tree, "extensionsUsed", list, [])
    return size if packed else size * PLAIN // AMPLIFICATION


def _placements(tree: Mapping[str, Any]) -> list[tuple[int, np.ndarray]]:
    """(mesh, 4×4 pose) of every node of the default scene that has a mesh; of all meshes when there are no scenes."""
    meshes = member(tree, "meshes", list, [])
    if "scenes" not in tree:
        return [(i, np.eye(4)) for i in range(min(len(meshes), MAX_PLACES))]
    nodes, placed_meshes = member(tree, "nodes", list, []), []
    scene = element(member(tree, "scenes", list), member(tree, "scene", int, 0), "scene")
    stack = [(index, np.eye(4)) for index in member(scene, "nodes", list, [])]
    seen: set[int] = set()
    while stack:
        index, parent = stack.pop()
        node = element(nodes, index, "node")
        if index in seen or len(seen) > MAX_NODES:
            raise ValueError(f"node {index} has two parents or the nodes form a cycle")
        seen.add(index)
        pose = parent @ _local(node)
        if "mesh" in node:
            placed_meshes.append((member(node, "mesh", int), pose))
        stack += [(child, pose) for child in member(node, "children", list, [])]
    return placed_meshes


def _local(node: Mapping[str, Any]) -> np.ndarray:
    if "matrix" in node:
        return _numbers(node, "matrix", np.eye(4).reshape(-1)).reshape(4, 4).T
    pose = np.eye(4)
    x, y, z, w = _numbers(node, "rotation", (0, 0, 0, 1))
    pose[:3, :3] = _rotation(np.array([w, x, y, z])) * _numbers(node, "scale", (1, 1, 1))
    pose[:3, 3] = _numbers(node, "translation", (0, 0, 0))
    return pose


def _numbers(node: Mapping[str, Any], name: str, default: Sequence[float]) -> np.ndarray:
    """As many float64 as the ``default`` has, none beyond what float32 holds."""
    values = [float(typed(value, float, f"a value of '{name}'")) for value in member(node, name, list, default)]
    if len(values) != len(default) or not all(abs(value) < 1e30 for value in values):
        raise ValueError(f"'{name}' holds {len(values)} numbers, expected {len(default)} finite ones")
    return np.array(values)


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


def _mesh(asset: Asset, index: int) -> list[GaussianArrays]:
    mesh, tables, count, degree = element(member(asset.tree, "meshes", list), index, "mesh"), [], 0, 0
    for primitive in member(mesh, "primitives", list):
        extension = member(member(primitive, "extensions", dict, {}), EXTENSION, dict, None)
        if extension is not None:
            packed = member(member(extension, "extensions", dict, {}), SPZ_EXTENSION, dict, None)
            if packed is not None:
                data = _view(asset, member(packed, "bufferView", int))
                table = axes.convert(spz.decode(bytes(data), asset.path, "RUB"), axes.HOME, "LUF")
            else:
                table = _plain(asset, member(primitive, "attributes", dict))
            count, degree = count + len(table), max(degree, table.sh_degree)
            check_claim(asset.path, count, degree, 0, _stored(asset))
            tables.append(table)
    return tables


def _plain(asset: Asset, attributes: Mapping[str, int]) -> GaussianArrays:
    means = _values(asset, attributes["POSITION"], 3)
    n = len(means)
    quats = _values(asset, attributes[PREFIX + "ROTATION"], 4, n)[:, [3, 0, 1, 2]]
    scales = _values(asset, attributes[PREFIX + "SCALE"], 3, n)
    opacity = _values(asset, attributes[PREFIX + "OPACITY"], 1, n)[:, 0]
    degree = max(d for d in range(5) if d == 0 or f"{PREFIX}SH_DEGREE_{d}_COEF_0" in attributes)
    check_claim(asset.path, n, degree, 0, _stored(asset))
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
    accessor = element(member(asset.tree, "accessors", list), index, "accessor")
    if "sparse" in accessor:
        raise ValueError("sparse accessors are not read; export without them")
    n, shape = member(accessor, "count", int), member(accessor, "type", str)
    if _WIDTHS.get(shape) != width or n < 0 or (count is not None and n != count):
        raise ValueError(f"accessor {index} has {n} elements of type {shape[:20]}, expected {count} of width {width}")
    if member(accessor, "componentType", int) not in _TYPES:
        raise ValueError(f"accessor {index} has the component type {accessor['componentType']}")
    kind = np.dtype(_TYPES[accessor["componentType"]])
    view, tight = member(accessor, "bufferView", int), width * kind.itemsize
    data = _view(asset, view)
    stride = member(asset.tree["bufferViews"][view], "byteStride", int, tight)
    start = member(accessor, "byteOffset", int, 0)
    leaves = n and start + stride * (n - 1) + tight > len(data)
    if start < 0 or stride < tight or (stride > 252 and stride != tight) or leaves:
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
    view = element(member(asset.tree, "bufferViews", list), index, "buffer view")
    buffer = _buffer(asset, member(view, "buffer", int))
    start, size = member(view, "byteOffset", int, 0), member(view, "byteLength", int)
    if not 0 <= start <= start + size <= len(buffer):
        raise ValueError(f"buffer view {index} leaves its buffer of {len(buffer):,} bytes")
    return memoryview(buffer)[start : start + size]


def _buffer(asset: Asset, index: int) -> bytes:
    uri = member(element(member(asset.tree, "buffers", list), index, "buffer"), "uri", str, None)
    if uri is None:
        return asset.chunk
    if uri not in asset.buffers:
        asset.buffers[uri] = _fetched(asset, index, uri)
    return asset.buffers[uri]


def _fetched(asset: Asset, index: int, uri: str) -> bytes:
    if uri.startswith("data:"):
        return base64.b64decode(uri.partition(",")[2], validate=True)
    if set(uri) & set("/\\:\0%") or uri in ("", ".", ".."):
        raise ValueError(f"buffer {index} lies at '{uri[:60]}', expected a file name beside the .gltf")
    return read_bytes(asset.path.parent / uri)
