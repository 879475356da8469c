"""Streamed SOG (PlayCanvas, `lod-meta.json` version 1): a tree of boxes, each with levels of detail in unbundled SOGs.

Layout (PlayCanvas developer manual, "Streamed SOG"; files of splat-transform 3.7): `filenames` of `meta.json` files; a
leaf of `tree` names for each level a file and the rows that are its own. Read at the finest level.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import prepare, scales
from splat.coding.decimate import decimate
from splat.coding.morton import morton
from splat.errors import InputError
from splat.files import write_text
from splat.formats.sog import read as sog
from splat.formats.sog.bundle import MAX_META, parse_json, read_bounded
from splat.formats.sog.meta import GENERATOR, file_name

META = "lod-meta.json"
LEAF = 1 << 16  # Gaussians of the finest level in a leaf, at most
FILE = 1 << 19  # in a file, about
LEAST = 1 << 12  # what has fewer needs no coarser level
MAX_NODES = 1 << 20


def read(path: Path) -> GaussianArrays:
    """Read the finest level of the `lod-meta.json` ``path`` (or of the folder that holds it), joined into one cloud."""
    folder = path if path.is_dir() else path.parent
    meta = parse_json(read_bounded(folder / META, MAX_META), path)
    try:
        files = [_place(name) for name in meta["filenames"]]
        ranges = _finest(meta["tree"])
        around = [_place(meta["environment"])] if meta.get("environment") else []
        if any(not 0 <= file < len(files) for file in ranges):
            raise ValueError(f"file {max(ranges)} of {len(files)}")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: {META} cannot be understood ({what}); make or copy the file again") from error
    parts = [_rows(path, folder / files[file], rows) for file, rows in sorted(ranges.items())]
    parts += [sog.read(folder / place) for place in around]
    return GaussianArrays.concat(parts) if parts else GaussianArrays.empty()


def _place(name: Any) -> Path:
    """A relative path of plain names."""
    if not isinstance(name, str):
        raise ValueError(f"the file name {name!r} is no text")
    return Path(*(file_name(part) for part in name.split("/")))


def _finest(tree: Any) -> dict[int, list[tuple[int, int]]]:
    """(offset, count) of all leaves at their finest level, by file."""
    stack, ranges, seen = [tree], {}, 0
    while stack:
        node, seen = stack.pop(), seen + 1
        if seen > MAX_NODES:
            raise ValueError("the tree has too many nodes")
        stack += node.get("children", [])
        if node.get("lods"):
            level = node["lods"][min(node["lods"], key=int)]
            file, offset, count = (level[key] for key in ("file", "offset", "count"))
            if not all(type(number) is int and number >= 0 for number in (file, offset, count)):
                raise ValueError(f"rows {offset} and {count} more of file {file}")
            ranges.setdefault(file, []).append((offset, count))
    return ranges


def _rows(path: Path, file: Path, ranges: list[tuple[int, int]]) -> GaussianArrays:
    table = sog.read(file)
    ranges = sorted(ranges)
    ends = [0, *(offset + count for offset, count in ranges)]
    if ends[-1] > len(table) or any(offset < end for (offset, _), end in zip(ranges, ends, strict=False)):
        raise InputError(
            f"{path}: leaves claim rows of '{file.parent.name}' twice or beyond its {len(table):,}; make the file again"
        )
    return table.select(np.concatenate([np.arange(offset, offset + count) for offset, count in ranges]))


def write(table: GaussianArrays, path: Path, *, levels: int = 4, antialiased: bool = False, effort: int = 4) -> None:
    """Write ``table`` (SH up to degree 3) beside the `lod-meta.json` ``path``, a folder for each SOG.

    Args:
        levels: of detail, each with a quarter of the Gaussians of the one before, while there are enough.
        antialiased: mark the cloud as trained with the antialiased (mip) blur.
        effort: of the WebP encoder, 0 (fast) to 6 (small).
    """
    if path.name != META:
        raise InputError(f"{path}: a streamed SOG is a folder with a {META}; write to …/{META}")
    if levels < 1:
        raise InputError(f"{path}: {levels} levels of detail were asked for; give 1 or more")
    clouds = [prepare(table, path, max_degree=3)]
    while len(clouds) < levels and len(clouds[-1]) > LEAST:
        clouds.append(decimate(clouds[-1], len(clouds[-1]) // 4))
    leaves: list[tuple[dict[str, Any], list[np.ndarray]]] = []
    tree = _node(clouds, [np.arange(len(cloud)) for cloud in clouds], leaves)
    names: list[str] = []
    for level, cloud in enumerate(clouds):
        for number, group in enumerate(_groups(leaves, level)):
            rows = []
            for node, own in group:
                place = {"file": len(names), "offset": sum(map(len, rows)), "count": len(own[level])}
                node.setdefault("lods", {})[str(level)] = place
                rows.append(own[level][morton(cloud.means[own[level]])])
            names.append(f"{level}_{number}/meta.json")
            part = cloud.select(np.concatenate(rows))
            sog.write(part, path.parent / names[-1], antialiased=antialiased, effort=effort, reorder=False)
    counts = [len(cloud) for cloud in clouds]
    meta = {"version": 1, "asset": {"generator": GENERATOR}, "count": sum(counts), "counts": counts}
    meta |= {"lodLevels": len(counts), "filenames": names, "tree": tree}
    write_text(path, json.dumps(meta, separators=(",", ":")))  # last: without it the folder is no streamed SOG


def _node(clouds: list[GaussianArrays], rows: list[np.ndarray], leaves: list) -> dict[str, Any]:
    """The box of ``rows`` (of each level), halved until few enough are in it; leaves are noted."""
    part = clouds[0].select(rows[0])
    reach = 3 * scales(part).max(1, keepdims=True, initial=0)
    ends = np.stack([(part.means - reach).min(0), (part.means + reach).max(0)]) if len(part) else np.zeros((2, 3))
    node: dict[str, Any] = {"bound": {"min": ends[0].tolist(), "max": ends[1].tolist()}}
    axis = int(np.ptp(part.means, axis=0).argmax()) if len(part) else 0
    cut = np.median(part.means[:, axis]) if len(part) else 0
    sides = [cloud.means[own, axis] < cut for cloud, own in zip(clouds, rows, strict=True)]
    if len(part) <= LEAF or not sides[0].any():
        leaves.append((node, rows))
        return node
    halves = [[own[side == left] for own, side in zip(rows, sides, strict=True)] for left in (True, False)]
    return node | {"children": [_node(clouds, half, leaves) for half in halves]}


def _groups(leaves: list, level: int) -> list[list]:
    """Neighbouring leaves with rows at ``level`` that share a file."""
    groups, size = [], FILE
    for leaf in leaves:
        if count := len(leaf[1][level]):
            if size + count > FILE:
                groups.append([])
                size = 0
            groups[-1].append(leaf)
            size += count
    return groups


def antialiased(path: Path) -> bool:
    """Whether the first file is marked as trained with the antialiased (mip) blur."""
    folder = path if path.is_dir() else path.parent
    names = parse_json(read_bounded(folder / META, MAX_META), path).get("filenames")
    return bool(isinstance(names, list) and names) and sog.antialiased(folder / _place(names[0]))
