"""Where the reconstruction of OpenDroneMap (ODM) lies on a map.

ODM moves OpenSfM's reconstruction into UTM coordinates minus an offset, and keeps the one of before as
``reconstruction.topocentric.json``; ``odm_georeferencing/coords.txt`` names zone and offset.
"""

import re
from pathlib import Path

import numpy as np

from splat.reading import guarded, read_bytes
from splat.scene.readers.shots import numbers

_GEOREFERENCE = "odm_georeferencing"
_LARGEST = 1 << 16  # bytes of the files of a few lines


def place_of(reconstruction: Path) -> tuple[np.ndarray, int | None] | None:
    """What is to be added to the coordinates of ODM's ``reconstruction`` (3,), and their EPSG code; None elsewhere."""
    coordinates = reconstruction.parent.parent / _GEOREFERENCE / "coords.txt"
    if not (reconstruction.with_name("reconstruction.topocentric.json").is_file() and coordinates.is_file()):
        return None
    with guarded(coordinates, "zone and offset"):
        lines = _text(coordinates).splitlines()
        offset = numbers(lines[1].split(), (2,), "the second line")
    return np.array([*offset, 0.0]), zone_of(reconstruction.parent.parent)


def zone_of(project: Path) -> int | None:
    """EPSG code of the UTM zone that the project names, on WGS84."""
    for name in ("coords.txt", "proj.txt"):
        path = project / _GEOREFERENCE / name
        if path.is_file():
            text = _text(path)
            found = re.search(r"WGS84 UTM (\d{1,2})([NS])", text) or re.search(r"\+proj=utm \+zone=(\d{1,2})\b", text)
            if found and 1 <= int(found[1]) <= 60:
                south = "+south" in text or found.lastindex == 2 and found[2] == "S"
                return (32700 if south else 32600) + int(found[1])
    return None


def _text(path: Path) -> str:
    return read_bytes(path, _LARGEST).decode("utf-8", "replace")
