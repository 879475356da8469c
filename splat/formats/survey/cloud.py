"""Files of surveys as clouds: each point a ball (see `splat.formats.ply.points`)."""

from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coordinates import Georeference
from splat.formats.ply.points import balls
from splat.formats.survey.points import SurveyPoints, read_points

_last: tuple[tuple[str, int, int], tuple[str, ...]] | None = None


def read(path: Path) -> GaussianArrays:
    """Read points as round Gaussians whose size is the mean distance to the three nearest neighbours."""
    points = read_points(path)
    _remember(path, points)
    rgb = points.rgb.astype(np.float32) / np.float32(255)
    return balls(points.xyz, rgb, georeference=Georeference(epsg=points.epsg))


def notes(path: Path) -> tuple[str, ...]:
    """What became of the points."""
    if _last is None or _last[0] != _key(path):
        _remember(path, read_points(path))
    return _last[1]


def antialiased(path: Path) -> bool:
    """Point clouds have no such mark."""
    return False


def _remember(path: Path, points: SurveyPoints) -> None:
    """Keep what is to say of the file read last: reading it again only for that would take as long."""
    global _last
    sentences = [
        f"a point cloud of {points.total:,} points without Gaussians: each becomes a ball as large as the mean distance"
        " to its three nearest neighbours",
        *points.notes,
    ]
    _last = (_key(path), tuple(sentences))


def _key(path: Path) -> tuple[str, int, int]:
    state = path.stat()
    return str(path), state.st_size, state.st_mtime_ns
