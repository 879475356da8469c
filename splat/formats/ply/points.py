"""Point cloud `.ply`: centres and 8-bit colours, for tools that know no Gaussians, and as a start for them.

Written: x y z red green blue alpha. Read: any PLY with x y z, with or without colours.
"""

from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import logits, prepare
from splat.coding.colours import as_fractions
from splat.coding.neighbours import nearest
from splat.coding.parallel import pieces
from splat.coordinates import AT_ZERO, Georeference
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats.dotsplat import encode_rgba
from splat.formats.ply.header import NAMES, georeference_comments, georeference_of, read_header, read_rows
from splat.formats.ply.names import COLOURS, known_names
from splat.formats.ply.notes import of_points
from splat.sh_basis import C0

# Of a point that the file gives no opacity: solid enough to be seen, soft enough to blend.
DEFAULT_ALPHA = 0.8
NEIGHBOURS = 3


def read(path: Path) -> GaussianArrays:
    """Read points as round Gaussians whose size is the mean distance to the three nearest neighbours.

    Colours of any type and range are understood (`splat.coding.colours`); points without colours become grey.
    """
    header = read_header(path)
    vertex = header.element("vertex")
    spelt = {} if vertex is None else known_names(vertex.names)
    if not {"x", "y", "z"} <= set(spelt):
        raise InputError(f"{path}: the PLY has no vertices with x, y and z; check the file")
    n, kinds = vertex.count, dict(vertex.properties)
    colored = set(COLOURS) <= set(spelt)
    means = np.empty((n, 3), np.float64 if "f8" in (kinds[spelt[axis]] for axis in "xyz") else np.float32)
    rgba = np.full((n, 4), 0.5, np.float32)
    rgba[:, 3] = DEFAULT_ALPHA
    stored = [name for name in (*COLOURS, "alpha") if name in spelt and (colored or name == "alpha")]
    channels = {name: (*COLOURS, "alpha").index(name) for name in stored}

    def take(rows: slice, block: np.ndarray) -> None:
        with np.errstate(over="ignore", invalid="ignore"):
            means[rows] = np.stack([block[spelt[axis]].astype(means.dtype) for axis in "xyz"], 1)
            for name, channel in channels.items():
                rgba[rows, channel] = block[spelt[name]]

    read_rows(path, header, "vertex", take)
    if colored:
        as_fractions(rgba[:, :3], np.dtype(kinds[spelt["red"]]))
    if "alpha" in channels:
        as_fractions(rgba[:, 3], np.dtype(kinds[spelt["alpha"]]))
    return balls(means, rgba[:, :3], rgba[:, 3], georeference_of(header))


def balls(
    means: np.ndarray, rgb: np.ndarray, alpha: np.ndarray | None = None, georeference: Georeference = AT_ZERO
) -> GaussianArrays:
    """Round Gaussians at ``means`` (N, 3) in colours (N, 3) from 0 to 1, as large as the spacing of their neighbours.

    Args:
        alpha: opacities (N,); None is `DEFAULT_ALPHA`.
        georeference: what the means are relative to.
    """
    n = len(means)
    alpha = np.full(n, DEFAULT_ALPHA, np.float32) if alpha is None else alpha
    return GaussianArrays(
        means,
        np.repeat(_log_spacing(means)[:, None], 3, 1),
        np.tile(np.float32([1, 0, 0, 0]), (n, 1)),
        logits(alpha),
        (rgb[:, None] - np.float32(0.5)) / np.float32(C0),
        georeference=georeference,
    )


def _log_spacing(means: np.ndarray) -> np.ndarray:
    """(N,) ln of the mean distance to the nearest neighbours, world units."""
    good = np.flatnonzero(np.isfinite(means).all(1))
    out = np.full(len(means), -7.0, np.float32)
    for rows, distance, _ in nearest(means[good], NEIGHBOURS):
        with np.errstate(over="ignore"):
            out[good[rows]] = np.log(np.maximum(distance.mean(1), 1e-7))
    return out


def write(table: GaussianArrays, path: Path) -> None:
    """Write centres, base colours and opacities."""
    means = table.means if table.wide else table.means.astype(np.float32)
    table = prepare(table, path, max_degree=0).replace(means=means)
    kind = "<f8" if table.wide else "<f4"
    dtype = np.dtype([*((axis, kind) for axis in "xyz"), *((name, "u1") for name in (*COLOURS, "alpha"))])
    lines = ["ply", "format binary_little_endian 1.0"]
    lines += [f"comment {comment}" for comment in georeference_comments(table.georeference)]
    lines += [f"element vertex {len(table)}", *(f"property {NAMES[kind[1:]]} {axis}" for axis in "xyz")]
    lines += [f"property uchar {name}" for name in (*COLOURS, "alpha")]
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join([*lines, "end_header", ""]).encode())
        for rows in pieces(len(table)):
            part = table.select(rows)
            block, rgba = np.empty(len(part), dtype), encode_rgba(part)
            for i, axis in enumerate("xyz"):
                block[axis] = part.means[:, i]
            for i, name in enumerate((*COLOURS, "alpha")):
                block[name] = rgba[:, i]
            block.tofile(file)


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False


def notes(path: Path) -> tuple[str, ...]:
    """What to say of the file, see `splat.formats.ply.notes`."""
    return of_points(read_header(path))
