"""The `.ply` of the original 3D Gaussian Splatting code: uncompressed, lossless, read by everything.

Layout (Kerbl et al. 2023, released code): little-endian float32 per Gaussian: x y z nx ny nz f_dc_0..2 f_rest_*
opacity scale_0..2 rot_0..3; f_rest is channel-major; opacity is a logit, scale a natural logarithm, rot is w x y z.
Frame: the training cameras' (x right, y down, z forward). Properties this package does not know are kept as extras.
Read too: names as CloudCompare and 3dgsconverter spell them, colours of red, green and blue (nerfstudio), the filter of
Mip-Splatting, which is worked in, and Gaussians of two scales (2DGS).
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.colours import as_fractions
from splat.coding.parallel import CHUNK, each, pieces, preallocate, write_at
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats.infinities import FLAT_LOG_SCALE
from splat.formats.ply import filtered
from splat.formats.ply.header import (
    NAMES,
    Header,
    georeference_comments,
    georeference_of,
    read_header,
    read_rows,
)
from splat.formats.ply.names import COLOURS, FILTER, known_names
from splat.formats.ply.notes import of_cloud
from splat.sh_basis import C0

NORMALS = ("nx", "ny", "nz")
_EXTRA = re.compile(r"splat extra (\S+) (\S+) \[([0-9,]*)\]")
MAX_AXES = 8  # of a row of an extra
MAX_COLUMNS = 4096  # of an extra, that are told from properties of others
# What the arrays of extras may hold.
EXTRA_TYPES = ("bool", "float16", "int64", "uint64", *(str(np.dtype(kind)) for kind in NAMES))
_SAFE_NAME = re.compile(r"[A-Za-z0-9_.:-]+")
_USUAL_HEADER = 1500  # bytes, about


def row_bytes(sh_degree: int, extra_columns: int = 0) -> int:
    """Bytes of one Gaussian in the file, with normals and so many float32 columns of extras."""
    return 4 * (14 + 3 * (sh_degree + 1) ** 2 + extra_columns)


def ply_bytes(count: int, sh_degree: int) -> int:
    """Bytes of the file of ``count`` Gaussians with normals: what "times smaller" compares with."""
    return _USUAL_HEADER + count * row_bytes(sh_degree)


def is_cloud(header: Header) -> bool:
    """Whether the PLY's vertices are Gaussians in this layout."""
    vertex = header.element("vertex")
    return vertex is not None and {"x", "opacity", "scale_0", "rot_0"} <= set(known_names(vertex.names))


def read(path: Path, max_degree: int = 4) -> GaussianArrays:
    """Read ``path`` in pieces: the peak is the cloud's own size plus a few pieces. Values come back bit for bit.

    Args:
        max_degree: higher SH bands are left out.
    """
    header = read_header(path)
    if not is_cloud(header):
        raise InputError(
            f"{path}: the PLY vertices have no opacity, scale_0 or rot_0, so it is no Gaussian cloud; read it as points"
        )
    vertex = header.element("vertex")
    spelt = known_names(vertex.names)
    columns = _main_columns(path, spelt)
    n, coefficients = vertex.count, min(len(columns["sh"]) // 3, (max_degree + 1) ** 2)
    widths = {"means": 3, "log_scales": 3, "quats": 4, "logit_opacities": 1}
    fields = {name: np.empty((n, width), np.float32) for name, width in widths.items()}
    if any(kind == "f8" for name, kind in vertex.properties if name in columns["means"]):
        fields["means"] = np.empty((n, 3))  # coordinates of a map lose what makes them different in float32
    fields["sh"] = np.empty((n, coefficients, 3), np.float32)
    known = {name for names in columns.values() for name in names} | {spelt.get(FILTER, "")}
    widths_3d = np.empty(n, np.float32) if FILTER in spelt else None
    extras = {name: np.empty(n, np.dtype(kind)) for name, kind in vertex.properties if name not in known}

    def fill(rows: slice, block: np.ndarray) -> None:
        take = _taker(block)
        for name in widths:
            fields[name][rows, : len(columns[name])] = take(columns[name], fields[name].dtype)
        fields["log_scales"][rows, len(columns["log_scales"]) :] = FLAT_LOG_SCALE
        fields["sh"][rows, 0] = take(columns["sh"][:3])
        if coefficients > 1:
            rest = take(columns["sh"][3:]).reshape(len(block), 3, -1)
            fields["sh"][rows, 1:] = rest[:, :, : coefficients - 1].transpose(0, 2, 1)
        for name, column in extras.items():
            column[rows] = block[name]
        if widths_3d is not None:
            widths_3d[rows] = block[spelt[FILTER]]

    read_rows(path, header, "vertex", fill)
    fields["logit_opacities"] = fields["logit_opacities"][:, 0]
    if "f_dc_0" not in spelt:
        colours = as_fractions(fields["sh"][:, 0], np.dtype(dict(vertex.properties)[columns["sh"][0]]))
        fields["sh"][:, 0] = (colours - np.float32(0.5)) / np.float32(C0)
    if widths_3d is not None:
        filtered.work_in(fields["log_scales"], fields["logit_opacities"], widths_3d)
    place = georeference_of(header)
    return GaussianArrays(**fields, extras=_group_extras(extras, header.comments, n), georeference=place)


def _main_columns(path: Path, spelt: Mapping[str, str]) -> dict[str, list[str]]:
    """Property names, as the file spells them, that fill each tensor; "sh" lists DC first, then f_rest (channel-major).

    Args:
        spelt: see `splat.formats.ply.names.known_names`.
    """
    rest = sum(f"f_rest_{i}" in spelt for i in range(72))
    if rest not in (0, 9, 24, 45, 72):
        raise InputError(
            f"{path}: the PLY has {rest} f_rest properties, expected 0, 9, 24, 45 or 72 (SH degree 0 to 4); "
            "export it again"
        )
    base = [f"f_dc_{i}" for i in range(3)]
    if not set(base) & set(spelt) and set(COLOURS) <= set(spelt):
        base = list(COLOURS)
    columns = {
        "means": ["x", "y", "z"],
        "log_scales": ["scale_0", "scale_1"] + (["scale_2"] if "scale_2" in spelt else []),
        "quats": [f"rot_{i}" for i in range(4)],
        "logit_opacities": ["opacity"],
        "sh": base + [f"f_rest_{i}" for i in range(rest)],
    }
    missing = [name for group in columns.values() for name in group if name not in spelt]
    if missing:
        raise InputError(
            f"{path}: the PLY vertices lack {', '.join(missing[:6])}, which a Gaussian cloud needs; export it again"
        )
    return {tensor: [spelt[name] for name in group] for tensor, group in columns.items()}


def _taker(block: np.ndarray):
    """A function of column names → (rows, columns) values of ``block``; all-float32 tables take a fast path."""
    names = block.dtype.names
    if all(block.dtype[name] == np.dtype("<f4") for name in names):
        matrix = block.view("<f4").reshape(len(block), len(names))
        column_index = {name: i for i, name in enumerate(names)}

        def take(columns: list[str], kind: np.dtype | None = None) -> np.ndarray:
            index = [column_index[name] for name in columns]
            first = index[0]
            if index == list(range(first, first + len(index))):
                return matrix[:, first : first + len(index)]
            return matrix[:, index]

        return take
    return lambda columns, kind=np.float32: np.stack([block[name].astype(kind) for name in columns], 1)


def _group_extras(columns: Mapping[str, np.ndarray], comments: tuple[str, ...], rows: int) -> dict[str, np.ndarray]:
    """Columns → extras: rejoin the arrays our writer split, and drop normals that say nothing."""
    columns = dict(columns)
    extras = {}
    for name, (kind, shape) in _noted_extras(comments).items():
        # Each column is part of one extra at most, so that looking for the parts takes time linear in the header.
        if not all(part in columns for part in _part_names(name, shape)):
            continue
        parts = [columns[part] for part in _part_names(name, shape)]
        if all(_is_stored_as(part.dtype, kind) for part in parts):
            for part in _part_names(name, shape):
                del columns[part]
            with np.errstate(invalid="ignore"):
                joined = np.stack(parts, 1) if parts else np.empty((rows, 0))
                extras[name] = joined.astype(kind).reshape(rows, *shape)
    with np.errstate(invalid="ignore"):
        for name in NORMALS:
            if name in columns and not columns[name].any():
                del columns[name]
    return extras | columns


def _noted_extras(comments: tuple[str, ...]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of a row of each extra that the header's comments name; what our writer never writes is left."""
    noted: dict[str, tuple[str, tuple[int, ...]]] = {}
    for comment in comments:
        if match := _EXTRA.fullmatch(comment):
            sizes = [part for part in match[3].split(",") if part]
            if match[2] in EXTRA_TYPES and len(sizes) <= MAX_AXES and all(len(size) < 10 for size in sizes):
                noted.setdefault(match[1], (match[2], tuple(map(int, sizes))))
    return noted


def noted_columns(comments: tuple[str, ...]) -> set[str]:
    """The columns of the extras that our writer noted in the header."""
    # What a comment claims is held against the columns by `_group_extras`; here a bound is enough.
    shapes = {name: shape for name, (_, shape) in _noted_extras(comments).items() if math.prod(shape) <= MAX_COLUMNS}
    return {part for name, shape in shapes.items() for part in _part_names(name, shape)}


def _part_names(name: str, shape: Sequence[int]) -> Iterator[str]:
    """The columns of an extra whose rows have ``shape``."""
    return (f"{name}_{i}" for i in range(math.prod(shape))) if shape else iter([name])


def _is_stored_as(stored: np.dtype, kind: str) -> bool:
    """Whether `_ply_array` puts extras of ``kind`` into columns of the type ``stored``."""
    others = {"float16": ("f4",), "bool": ("u1",), "int64": ("i4", "f8"), "uint64": ("i4", "f8")}
    return stored == np.dtype(kind) or stored.str[1:] in others.get(kind, ())


def write(table: GaussianArrays, path: Path, *, normals: bool = True, antialiased: bool = False) -> None:
    """Write ``table`` as little-endian binary in the original property order, in pieces.

    Args:
        normals: keep the three zero columns nx ny nz that the original code writes; some old readers expect them.
        antialiased: note in the header that the cloud was trained with the antialiased (mip) blur.
    """
    main = _property_names(table, normals)
    extras, comments = _flat_extras(table, path, set(main))
    if antialiased:
        comments.insert(0, "SplatRenderMode: mip")
    comments += georeference_comments(table.georeference)
    kinds = {name: array.dtype.str for name, array in extras.items()}
    if table.wide:
        kinds |= dict.fromkeys("xyz", "<f8")
    names = [*main, *(name for name in extras if name not in main)]
    dtype = np.dtype([(name, kinds.get(name, "<f4")) for name in names])
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {comment}" for comment in comments)]
    lines.append(f"element vertex {len(table)}")
    lines += [f"property {NAMES[dtype[name].str[1:]]} {name}" for name in dtype.names]
    header = "\n".join([*lines, "end_header", ""]).encode()
    with atomic_path(path) as temporary, open(temporary, "r+b") as file:
        file.write(header)
        preallocate(file, len(header) + len(table) * dtype.itemsize)

        def put(rows: slice) -> None:
            block = _matrix(table.select(rows), normals)
            if kinds:
                matrix, block = block, np.empty(len(block), dtype)
                for column, name in enumerate(main):
                    block[name] = table.means[rows, column] if column < 3 else matrix[:, column]
                for name, values in extras.items():
                    block[name] = values[rows]
            write_at(file, block, len(header) + rows.start * dtype.itemsize)

        each(put, pieces(len(table), CHUNK // 4))


def _property_names(table: GaussianArrays, normals: bool) -> list[str]:
    names = ["x", "y", "z", *(NORMALS if normals else ()), "f_dc_0", "f_dc_1", "f_dc_2"]
    names += [f"f_rest_{i}" for i in range(3 * (table.sh.shape[1] - 1))]
    return [*names, "opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"]


def _matrix(table: GaussianArrays, normals: bool) -> np.ndarray:
    """The main columns of ``table`` as a (N, columns) float32 matrix in file order."""
    n, rest = len(table), 3 * (table.sh.shape[1] - 1)
    matrix = np.empty((n, 14 + rest + (3 if normals else 0)), "<f4")
    at = 6 if normals else 3
    matrix[:, :3] = table.means
    matrix[:, 3:at] = 0
    matrix[:, at : at + 3] = table.sh[:, 0]
    if rest:
        matrix[:, at + 3 : at + 3 + rest].reshape(n, 3, -1)[:] = table.sh[:, 1:].transpose(0, 2, 1)
    at += 3 + rest
    matrix[:, at] = table.logit_opacities
    matrix[:, at + 1 : at + 4] = table.log_scales
    matrix[:, at + 4 :] = table.quats
    return matrix


def _flat_extras(table: GaussianArrays, path: Path, taken: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Extras as columns of PLY types, and the comments that let ``read`` rebuild their shapes and types."""
    columns, comments = {}, []
    for name, array in table.extras.items():
        parts = list(_part_names(name, array.shape[1:]))
        clash = [part for part in parts if part in columns or (part in taken and part not in NORMALS)]
        if not _SAFE_NAME.fullmatch(name) or clash:
            raise InputError(
                f"{path}: the extra '{name}' cannot be a PLY property; rename it or drop it before writing"
            )
        stored = _ply_array(array, name, path)
        if stored.dtype != array.dtype or array.ndim != 1:
            comments.append(f"splat extra {name} {array.dtype} [{','.join(map(str, array.shape[1:]))}]")
        flat = stored.reshape(len(table), len(parts))
        columns.update({part: flat[:, i] for i, part in enumerate(parts)})
    return columns, comments


def _ply_array(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    """``array`` in a type PLY knows that holds its values exactly."""
    small = {"float16": np.float32, "bool": np.uint8}.get(str(array.dtype))
    array = array if small is None else array.astype(small)
    if array.dtype.str[1:] in NAMES:
        return array
    for kind in (np.int32, np.float64):
        if array.dtype.kind in "iu" and np.array_equal(array, array.astype(kind).astype(array.dtype)):
            return array.astype(kind)
    raise InputError(
        f"{path}: the extra '{name}' is {array.dtype}, which PLY cannot hold exactly; make it float32 or int32 first"
    )


def notes(path: Path) -> tuple[str, ...]:
    """What to say of the file, see `splat.formats.ply.notes`."""
    header = read_header(path)
    return of_cloud(header, noted_columns(header.comments))


def has_normals(path: Path) -> bool:
    """Whether the vertices have the columns nx ny nz, whatever they hold."""
    vertex = read_header(path).element("vertex")
    return vertex is not None and set(NORMALS) <= set(vertex.names)


def antialiased(path: Path) -> bool:
    """Whether the header says that the cloud was trained with the antialiased (mip) blur."""
    comments = {comment.strip().lower() for comment in read_header(path).comments}
    return bool(comments & {"splatrendermode: mip", "antialiased 1"})
