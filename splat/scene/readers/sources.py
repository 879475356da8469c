"""Descriptions of scenes by programs other than COLMAP and those that write a transforms.json, in order of trust."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from splat.scene.build import RawScene
from splat.scene.readers import metashape, odm, openmvg, opensfm, polycam, realityscan, record3d, stray_scanner


@dataclass(frozen=True)
class Source:
    """How the description of one program is found and read.

    Attributes:
        kind: the program.
        find: files (or folders) of it in a folder, the best first.
        is_one: whether a file is such a description; None where it is a folder.
        read: the scene of a file, given its root and the factor by which photos are to be shrunk.
    """

    kind: str
    find: Callable[[Path], list[Path]]
    is_one: Callable[[Path], bool] | None
    read: Callable[[Path, Path, float], RawScene]


# Those with measured points first, then those with points in a file beside, then recordings, whose poses were never
# optimised on the photos.
SOURCES = (
    Source(opensfm.KIND, opensfm.find, opensfm.is_one, opensfm.read),
    Source(openmvg.KIND, openmvg.find, openmvg.is_one, openmvg.read),
    Source(metashape.KIND, metashape.find, metashape.is_one, metashape.read),
    Source(realityscan.KIND, realityscan.find, realityscan.is_one, realityscan.read),
    Source(odm.KIND, odm.find, odm.is_one, odm.read),
    Source(polycam.KIND, polycam.find, None, polycam.read),
    Source(record3d.KIND, record3d.find, record3d.is_one, record3d.read),
    Source(stray_scanner.KIND, stray_scanner.find, stray_scanner.is_one, stray_scanner.read),
)
SUFFIXES = frozenset({".xml", ".csv", ".geojson"})  # of files that are descriptions; .json may be another's


def all_sources(root: Path) -> list[tuple[Source, Path]]:
    """The best description of each program in ``root``."""
    found = [(source, source.find(root)) for source in SOURCES]
    return [(source, paths[0]) for source, paths in found if paths]


def source_of(file: Path) -> Source | None:
    """The program that wrote ``file``, if it is one of these."""
    return next((source for source in SOURCES if source.is_one is not None and source.is_one(file)), None)
