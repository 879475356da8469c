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
from splat.coding.limits import check_claim
from splat.coding.morton import morton
from splat.errors import InputError
from splat.files import write_bytes
from splat.formats.sog import read as sog
from splat.formats.sog.bundle import MAX_META, padded
from splat.formats.sog.meta import GENERATOR, file_name
from splat.reading import DAMAGE, member, parse_json, read_bytes, reason_of, typed

META = "lod-meta.json"
LEAF = 1 << 16  # Gaussians of the finest level in a leaf, at most
FILE = 1 << 19  # in a file, about
LEAST = 1 << 12  # what has fewer needs no coarser level
MAX_NODES = 1 << 20


def read(path: Path) -> GaussianArrays:
    """Read the finest level of the `lod-meta.json` ``path`` (or of the folder that holds it), joined into one cloud."""
    folder = path if path.is_dir() else path.parent
    data = read_bytes(folder / META, MAX_META)
    meta = parse_json(data, path, META)
    try:
        places = [_place(name) for name in member(meta, "filenames", list)]
        ranges = _finest(member(meta, "tree", dict))
        environment = member(meta, "environment", str, None)
        wrong = [file for file in ranges if file >= len(places)]
        if wrong:
            raise ValueError(f"file {wrong[0]} of {len(places)}")
    except (*DAMAGE, TypeError, AttributeError) as error:  # JSON of another shape than the format's
        raise InputError(
            f"{path}: {META} cannot be understood ({reason_of(error)}); make or copy the file again"
        ) from error
    wanted: dict[Path, list[tuple[int, int]]] = {}  # a file may be named twice, and is read once
    for file, rows in sorted(ranges.items()):
        wanted.setdefault(places[file], []).extend(rows)
    around = [_place(environment)] if environment else []
    claims = [sog.claim(folder / place) for place in {*wanted, *around}]
    count, degree = sum(claim[0] for claim in claims), max((claim[1] for claim in claims), default=0)
    check_claim(path, count, degree, 0, len(data) + sum(claim[2] for claim in claims))
    parts = [_rows(path, folder / place, rows) for place, rows in wanted.items()]
    parts += [sog.read(folder / place) for place in around]
    return GaussianArrays.concat(parts) if parts else GaussianArrays.empty()


def _place(name: Any) -> Path:
    """A relative path of plain names."""
    return Path(*(file_name(part) for part in typed(name, str, "a file name").split("/")))


def _finest(tree: Any) -> dict[int, list[tuple[int, int]]]:
    """(offset, count) of all leaves at their finest level, by file."""
    stack, ranges, seen = [tree], {}, 0
    while stack:
        node, seen = stack.pop(), seen + 1
        if seen > MAX_NODES:
            raise ValueError("the tree has too many nodes")
        stack += member(node, "children", list, [])
        lods = member(node, "lods", dict, {})
        if lods:
            level = lods[min(lods, key=int)]
            file, offset, count = (member(level, key, int) for key in ("file", "offset", "count"))
            if not all(0 <= number < 2**31 for number in (file, offset, count)):
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
    if ends[-1] == len(table) == sum(count for _, count in ranges):
        return table
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
    text = json.dumps(meta, separators=(",", ":")).encode()
    # Each file below is believed, but so are not many small ones together.
    write_bytes(path, padded(text, path, len(clouds[0]), clouds[0].sh_degree, 0))  # last: what makes it a streamed SOG


def _node(clouds: list[GaussianArrays], rows: list[np.ndarray], leaves: list) -> dict[str, Any]:
    """The box of ``rows`` (of each level), halved until few enough are in it; leaves are noted."""
    part = clouds[0].select(rows[0])
    reach = 3 * scales(part).max(1, keepdims=True, initial=0)
    with np.errstate(over="ignore"):
        ends = np.stack([(part.means - reach).min(0), (part.means + reach).max(0)]) if len(part) else np.zeros((2, 3))
    ends = np.nan_to_num(ends)  # JSON knows no infinity
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
    names = member(parse_json(read_bytes(folder / META, MAX_META), path, META), "filenames", list)
    return bool(names) and sog.antialiased(folder / _place(names[0]))
