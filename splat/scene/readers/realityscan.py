"""RealityScan (RealityCapture): the CSV of "Internal/External camera parameters", and a ply of points beside it.

One row a photo, under a header that names the columns: position x, y, alt; heading, pitch, roll in degrees, so that the
camera's OpenGL axes in the world are Rz(−heading) Rx(pitch) Ry(roll), which gives the matrices of RealityScan's own XMP
files; f as that of a 36 mm film; px, py as fractions of the longer side from the middle, as the column names
``f_35mm, px_norm, py_norm`` of newer versions say; k1 … k4 of Brown's polynomial; t1, t2, which go with r² + 2x² along
x and r² + 2y² along y (OpenCV's p2, p1).
"""

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, read_bytes
from splat.scene.build import RawScene
from splat.scene.listing import listed
from splat.scene.readers.file_heads import cells, files_in, head_of, longest_first
from splat.scene.readers.lens_models import brown_lens, off_note
from splat.scene.readers.points_file import find_points
from splat.scene.readers.shots import Description, Shot, scene_of, turn_of_vector, world_to_camera
from splat.scene.undistort import Lens

KIND = "RealityScan"
_LARGEST = 64 << 20  # bytes
_FILM = 36.0  # mm
_NEEDED = ("name", "x", "y", "alt", "heading", "pitch", "roll")
_OTHER_NAMES = {"yaw": "heading", "z": "alt", "f_35mm": "f", "px_norm": "px", "py_norm": "py"}
_AXES = np.diag([1.0, -1.0, -1.0])  # from OpenGL's to OpenCV's


def find(root: Path) -> list[Path]:
    """The CSV files in ``root`` whose header names cameras; the longest first."""
    return longest_first([path for path in files_in(root, ".csv") if is_one(path)])


def is_one(path: Path) -> bool:
    """Whether the header of ``path`` names cameras."""
    head = head_of(path).decode("utf-8-sig", "replace")
    return any(set(_NEEDED) <= set(_columns(line)) for line in head.splitlines()[:5])


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The scene that ``path`` describes. Raises InputError."""
    text = read_bytes(path, _LARGEST).decode("utf-8-sig", "replace")
    notes: list[str] = []
    with guarded(path, "the table of cameras"):
        shots = [_shot(row, path, notes) for row in _rows(text, path)]
    if len(others := find(path.parent)) > 1:
        notes.append(f"the cameras are those of {path.name}; {listed([o.name for o in others if o != path])} not used")
    xyz, rgb, said = find_points([path.parent, root])
    notes += said  # lenses add to them when the sizes of the photos are known
    described = Description(KIND, path, [path.parent, root], shots, xyz, rgb, notes)
    return scene_of(described, root, downscale)


def _columns(line: str) -> list[str]:
    names = [name.strip().lstrip("#").strip().lower() for name in line.replace(";", ",").split(",")]
    return [_OTHER_NAMES.get(name, name) for name in names]


def _rows(text: str, path: Path) -> Iterator[dict[str, str]]:
    """Each row by the names of its columns. Raises InputError where columns are missing."""
    lines = [line for line in text.splitlines() if line.strip()]
    start = next((n for n, line in enumerate(lines[:5]) if set(_NEEDED) <= set(_columns(line))), None)
    if start is None:
        raise ValueError(f"its header does not name {', '.join(_NEEDED)}")
    columns = _columns(lines[start])
    if "f" not in columns:
        raise InputError(
            f"{path} has no focal lengths (column f); export 'Internal/External camera parameters' from {KIND}"
        )
    semicolons = lines[start].count(";") > lines[start].count(",")
    for number, row in enumerate(cells(lines[start + 1 :], ";" if semicolons else ","), start + 2):
        if row[0].lstrip().startswith("#"):
            continue
        if len(row) < len(columns):
            raise ValueError(f"row {number} has {len(row)} of {len(columns)} columns")
        yield dict(zip(columns, row, strict=False))


def _shot(row: dict[str, str], path: Path, notes: list[str]) -> Shot:
    values = {name: float(row[name]) for name in (*_NEEDED[1:], "f")}
    optional = {name: float(row.get(name) or 0) for name in ("px", "py", "k1", "k2", "k3", "k4", "t1", "t2")}
    around = zip((2, 0, 1), (-values["heading"], values["pitch"], values["roll"]), strict=True)
    first, second, third = (turn_of_vector(np.radians(angle) * np.eye(3)[axis]) for axis, angle in around)
    turn = first @ second @ third
    centre = np.array([values["x"], values["y"], values["alt"]])
    lens = partial(_lens, values["f"], tuple(optional.values()), notes)
    return Shot(row["name"].strip(), lens, world_to_camera(_AXES @ turn.T, centre))


def _lens(f: float, values: Sequence[float], notes: list[str], width: int, height: int) -> Lens:
    px, py, k1, k2, k3, k4, t1, t2 = values
    side = max(width, height)
    focal = f / _FILM * side
    centre = (width / 2 + px * side, height / 2 + py * side)
    lens, off = brown_lens((focal, focal), centre, (k1, k2, k3, k4), (t2, t1), (width, height))
    notes += off_note(off)
    return lens
