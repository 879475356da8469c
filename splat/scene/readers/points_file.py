"""The point cloud that a program exported beside its cameras."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.scene.listing import listed
from splat.scene.readers.file_heads import files_in
from splat.scene.readers.sparse_ply import read_ply_points

MOST = 1_000_000  # points that are started from; dense clouds have many times more
_LIKELY = ("sparse", "tie", "point", "cloud")  # in names of point clouds, best first
_MESH = ("mesh", "model", "surface", "texture")


def find_points(folders: Sequence[Path]) -> tuple[np.ndarray | None, np.ndarray | None, list[str]]:
    """Points (M, 3) float64 and colours (M, 3) uint8 of the ply in the first of ``folders`` that has one, and notes."""
    for folder in dict.fromkeys(folders):
        names = sorted((path.name for path in files_in(folder, ".ply")), key=_rank)
        found = _first_readable(folder, names)
        if found is not None:
            return found
    return None, None, []


def _rank(name: str) -> tuple[bool, int, str]:
    lower = name.lower()
    likely = [index for index, word in enumerate(_LIKELY) if word in lower]
    return (any(word in lower for word in _MESH), likely[0] if likely else len(_LIKELY), lower)


def _first_readable(folder: Path, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
    """The first of ``names`` that holds points; what is wrong with it, if there is no other."""
    refused: list[InputError] = []
    for index, name in enumerate(names):
        try:
            xyz, rgb, notes = read_ply_points(folder / name)
        except InputError as error:
            refused.append(error)
            continue
        if len(xyz) == 0:
            continue
        others = list(names[index + 1 :])
        also = f"; {listed(others)} not used" if others else ""
        said = [f"the points are those of {name}{also}", *(f"passed over: {error}" for error in refused), *notes]
        return (*thinned(xyz, rgb, said), said)
    if refused:
        raise refused[0]
    return None


def thinned(xyz: np.ndarray, rgb: np.ndarray, notes: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """At most `MOST` of the points, spread evenly, which is said."""
    if len(xyz) <= MOST:
        return xyz, rgb
    rows = np.random.default_rng(0).permutation(len(xyz))[:MOST]
    notes.append(f"of {len(xyz):,} points {MOST:,} are started from, chosen at random")
    return xyz[rows], rgb[rows]
