"""`read_points`: points of a survey from any of its file formats."""

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splat.coding.colours import as_fractions
from splat.errors import InputError
from splat.formats.ply.header import read_header, read_rows
from splat.formats.ply.names import COLOURS, known_names
from splat.formats.survey import pcd, text
from splat.formats.survey.sampling import MOST, Collector
from splat.reading import guarded, require_file

_BRIGHT = 0.99  # quantile of intensities that becomes white
_GREY = 128
TEXT_SUFFIXES = (".xyz", ".pts", ".csv", ".asc", ".txt")
SUFFIXES = (".las", ".laz", ".e57", ".pcd", ".ply", *TEXT_SUFFIXES)


@dataclass(frozen=True, eq=False)
class SurveyPoints:
    """Points of one file.

    Attributes:
        xyz: (N, 3) float64, as the file has them.
        rgb: (N, 3) uint8; grey by intensity where the file has no colours, plain grey where it has neither.
        total: points in the file, of which N may be a random part.
        left_out: of those, without finite coordinates.
        epsg: code of the coordinate system, where the file says one.
    """

    xyz: np.ndarray
    rgb: np.ndarray
    total: int
    left_out: int = 0
    epsg: int | None = None

    def __len__(self) -> int:
        return len(self.xyz)

    @property
    def notes(self) -> tuple[str, ...]:
        """What was left out, and where the points are."""
        notes = []
        if len(self) < self.total - self.left_out:
            notes.append(f"{len(self):,} of its {self.total:,} points are read, drawn at random")
        if self.left_out:
            notes.append(f"{self.left_out:,} of its {self.total:,} points have no finite coordinates and are left out")
        if self.epsg is not None:
            notes.append(f"its coordinates are in EPSG:{self.epsg}")
        return tuple(notes)


def read_points(path: str | Path, most: int = MOST, seed: int = 0) -> SurveyPoints:
    """The points of a LAS, LAZ, E57, PCD, PLY or text file, in pieces; at most ``most`` of them, drawn with ``seed``.

    Raises InputError for damaged and other files, and where the package is missing that reads them.
    """
    path = require_file(Path(path))
    arrays = _reader(path)(path, most, seed)
    xyz, (total, left_out) = arrays["xyz"], (int(count) for count in arrays["counts"])
    if total - left_out > 0 and not len(xyz):
        raise InputError(f"{path}: none of its points could be kept; check the file")
    epsg = int(arrays["epsg"]) if "epsg" in arrays else 0
    return SurveyPoints(xyz, _colours(arrays), total, left_out, epsg or None)


def _reader(path: Path) -> Callable[[Path, int, int], dict[str, np.ndarray]]:
    with guarded(path, "the file"), open(path, "rb") as file:
        start = file.read(16)
    if start.startswith(b"ply"):
        return _ply
    if start.startswith((b"LASF", b"ASTM-E57")):
        return _by_library
    if start.startswith((b"# .PCD", b"#.PCD", b"VERSION")) or path.suffix.lower() == ".pcd":
        return pcd.read
    if path.suffix.lower() in TEXT_SUFFIXES:
        return text.read
    raise InputError(f"{path} is no file of points; expected one of {', '.join(SUFFIXES)}")


def _ply(path: Path, most: int, seed: int) -> dict[str, np.ndarray]:
    header = read_header(path)
    vertex = header.element("vertex")
    spelt = {} if vertex is None else known_names(vertex.names)
    if not {"x", "y", "z"} <= set(spelt):
        raise InputError(f"{path}: the PLY has no vertices with x, y and z; check the file")
    colored = set(COLOURS) <= set(spelt)
    kept = Collector(vertex.count, most, seed)

    def take(rows: slice, block: np.ndarray) -> None:
        xyz = np.stack([block[spelt[axis]].astype(np.float64) for axis in "xyz"], 1)
        colours = np.stack([block[spelt[name]] for name in COLOURS], 1) if colored else None
        kept.add(xyz, colours, first=rows.start)

    read_rows(path, header, "vertex", take)
    return kept.arrays()


def _by_library(path: Path, most: int, seed: int) -> dict[str, np.ndarray]:
    """LAS, LAZ and E57, read in a process of its own (see `splat.formats.survey.reader_process`)."""
    with open(path, "rb") as file:
        needed = ("pye57",) if file.read(8) == b"ASTM-E57" else ("laspy", "lazrs")
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise InputError(
            f"{path}: reading it needs the package {missing[0]}; install it: pip install 'splat-toolkit[survey]'"
        )
    with tempfile.TemporaryDirectory(prefix="splat-points-") as folder:
        out = Path(folder) / "points.npz"
        command = [
            sys.executable,
            "-m",
            "splat.formats.survey.reader_process",
            str(path.resolve()),
            str(out),
            str(most),
            str(seed),
        ]
        # The working folder is where this package lies, so that the module is found however splat was started.
        done = subprocess.run(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if done.returncode != 0 or not out.is_file():
            said = " ".join(done.stdout.decode("utf-8", "replace").split())[:200]
            reason = said or "it takes more memory or time than its size allows"
            raise InputError(f"{path}: its points cannot be read ({reason}); make or copy the file again")
        with guarded(path, "its points"), np.load(out) as content:
            return dict(content)


def _colours(arrays: dict[str, np.ndarray]) -> np.ndarray:
    """(N, 3) uint8 from colours or intensities of any range."""
    count = len(arrays["xyz"])
    if "colours" in arrays:
        colours = arrays["colours"]
        whole = bool((colours == np.floor(colours)).all())  # of a file whose type says nothing any more
        fractions = as_fractions(colours, np.dtype(np.uint16 if whole and colours.max(initial=0) > 1 else np.float32))
        return (255 * fractions + 0.5).astype(np.uint8)
    if "grey" in arrays and count:
        grey = np.nan_to_num(arrays["grey"])
        low, high = min(float(grey.min()), 0.0), float(np.quantile(grey, _BRIGHT))
        if high > low:
            shade = np.clip((grey - low) / (high - low), 0, 1)
            return np.repeat((255 * shade + 0.5).astype(np.uint8)[:, None], 3, 1)
    return np.full((count, 3), _GREY, np.uint8)
