"""Takes points out of LAS, LAZ and E57 files: ``python -m splat.formats.survey.reader_process FILE OUT.npz MOST SEED``.

A process of its own with bounded memory and time, because the libraries follow the counts of a damaged file into memory
that is not there, or end the process. laspy reads LAS and LAZ, pye57 (libE57Format) E57.
"""

import math
import re
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np

from splat.formats.survey.sampling import CHUNK, Collector

MEMORY = 512 << 20  # bytes beyond what the process holds once the libraries are loaded, and twice the file's size
SECONDS, BYTES_PER_SECOND = 30, 1_000_000  # of work: more for larger files
_PROJECTED, _GEOGRAPHIC = 3072, 2048  # GeoTIFF keys whose value is a code of EPSG
_UNKNOWN_CODES = (0, 32767)  # of a key that is undefined or defined by the user
_AUTHORITY = re.compile(r'(?:AUTHORITY\["EPSG",\s*"|ID\["EPSG",\s*)(\d+)')


def main(file: str, out: str, most: str, seed: str) -> int:
    """Write the points of ``file`` to ``out``; on failure print one line and return 1."""
    path = Path(file)
    try:
        with open(path, "rb") as opened:
            e57 = opened.read(8) == b"ASTM-E57"
        import_module = _e57 if e57 else _las
        _limit(path, import_module)
        kept, epsg = import_module(path, int(most), int(seed))
        np.savez(out, **kept.arrays(), epsg=np.array(epsg or 0))
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # the libraries raise many kinds, one of them (of Rust) no Exception
        said = (str(error).strip().splitlines() or [""])[0].strip()
        print((said if " " in said else f"{type(error).__name__} {said}".strip())[:200])
        return 1
    return 0


def _las(path: Path, most: int, seed: int) -> tuple[Collector, int | None]:
    import laspy

    _check_las_header(path)
    with laspy.open(path, laz_backend=laspy.LazBackend.Lazrs) as file:
        header = file.header
        names = set(header.point_format.dimension_names)
        kept = Collector(header.point_count, most, seed)
        for points in file.chunk_iterator(CHUNK):
            xyz = np.stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)], 1)
            if {"red", "green", "blue"} <= names:
                kept.add(xyz, np.stack([points[name] for name in ("red", "green", "blue")], 1))
            else:
                kept.add(xyz, grey=np.asarray(points["intensity"]) if "intensity" in names else None)
        if kept.seen != header.point_count:
            raise ValueError(f"{kept.seen:,} of {header.point_count:,} points are there, the file is cut off")
        return kept, _epsg(header)


def _check_las_header(path: Path) -> None:
    """Refuse counts that the file's bytes contradict: laspy follows them without end (LAS 1.4 R15, public header)."""
    with open(path, "rb") as file:
        head = file.read(375)
    if len(head) < 227:
        raise ValueError("its header is cut off")
    points_at, records, kind, length, points = struct.unpack_from("<IIBHI", head, 96)
    further, size = 0, path.stat().st_size
    if head[24:26] >= b"\1\4" and len(head) >= 255:
        further, points = struct.unpack_from("<IQ", head, 243)
    packed = kind & 0x80
    if records * 54 > points_at or points_at > size or further * 60 > size:
        raise ValueError(f"its header claims {records + further:,} records in {size:,} bytes")
    if not packed and points * length > size - points_at:
        raise ValueError(f"its header claims {points:,} points in {size:,} bytes")


def _epsg(header: Any) -> int | None:
    """The code of the coordinate system that the header's records name."""
    from laspy.vlrs.known import GeoKeyDirectoryVlr, WktCoordinateSystemVlr

    records = [*header.vlrs, *(header.evlrs or ())]
    for record in records:
        if isinstance(record, WktCoordinateSystemVlr) and (code := epsg_of_wkt(record.string)) is not None:
            return code
    for record in records:
        if isinstance(record, GeoKeyDirectoryVlr):
            keys = {key.id: key.value_offset for key in record.geo_keys}
            for key in (_PROJECTED, _GEOGRAPHIC):
                if keys.get(key, 0) not in _UNKNOWN_CODES:
                    return int(keys[key])
    return None


def epsg_of_wkt(text: str) -> int | None:
    """The EPSG code of the horizontal coordinate system in well-known text, if it says one."""
    for word in ("PROJCS[", "PROJCRS[", "GEOGCS[", "GEOGCRS[", "GEODCRS["):
        start = text.find(word)
        if start < 0:
            continue
        depth = 0
        for at in range(start, len(text)):
            depth += (text[at] == "[") - (text[at] == "]")
            if depth == 0 and text[at] == "]":
                codes = _AUTHORITY.findall(text[start : at + 1])
                return int(codes[-1]) if codes else None  # a system's own code stands last in it
    return None


def _e57(path: Path, most: int, seed: int) -> tuple[Collector, int | None]:
    from pye57 import libe57
    from pye57.scan_header import ScanHeader

    image = libe57.ImageFile(str(path), "r")  # not pye57.E57, which may remove a file that it cannot open
    try:
        scans = image.root()["data3D"]
        headers = [ScanHeader(scans[number]) for number in range(scans.childCount())]
        kept = Collector(sum(header.point_count for header in headers), most, seed)
        for header in headers:
            _scan(libe57, image, header, kept)
        return kept, None
    finally:
        image.close()


def _scan(libe57: Any, image: Any, header: Any, kept: Collector) -> None:
    """Add the points of one scan, placed by its pose."""
    fields = set(header.point_fields)
    spherical = not {"cartesianX", "cartesianY", "cartesianZ"} <= fields
    kind = (
        ("sphericalRange", "sphericalAzimuth", "sphericalElevation")
        if spherical
        else ("cartesianX", "cartesianY", "cartesianZ")
    )
    colours = ("colorRed", "colorGreen", "colorBlue")
    wanted = [*kind, *(colours if set(colours) <= fields else ("intensity",) if "intensity" in fields else ())]
    invalid = "sphericalInvalidState" if spherical else "cartesianInvalidState"
    wanted += [invalid] if invalid in fields else []
    arrays = {name: np.empty(CHUNK, np.float64) for name in wanted}
    buffers = libe57.VectorSourceDestBuffer()
    for name, array in arrays.items():
        buffers.append(libe57.SourceDestBuffer(image, name, array, CHUNK, True, True))
    rotation, translation = _pose(header)
    reader = header.points.reader(buffers)
    while count := reader.read():
        block = {name: array[:count].copy() for name, array in arrays.items()}
        xyz = np.stack([block[name] for name in kind], 1)
        if spherical:
            r, azimuth, elevation = xyz.T
            level = r * np.cos(elevation)
            xyz = np.stack([level * np.cos(azimuth), level * np.sin(azimuth), r * np.sin(elevation)], 1)
        if invalid in block:
            xyz[block[invalid] != 0] = np.nan
        shade = np.stack([block[name] for name in colours], 1) if colours[0] in block else None
        kept.add(xyz @ rotation.T + translation, shade, block.get("intensity"))
    reader.close()


def _pose(header: Any) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) of a scan."""
    if not header.has_pose():
        return np.eye(3), np.zeros(3)
    w, x, y, z = np.asarray(header.rotation, np.float64) / np.linalg.norm(header.rotation)
    matrix = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    return matrix, np.asarray(header.translation, np.float64)


def _limit(path: Path, reader: Any) -> None:
    """Load the library that ``reader`` needs, then limit this process's memory and work by the file's size."""
    if reader is _las:
        import laspy  # noqa: F401
        import lazrs  # noqa: F401
    else:
        import pye57.scan_header  # noqa: F401
    try:
        import resource

        held = int(Path("/proc/self/status").read_text().partition("VmData:")[2].split()[0]) << 10
        size = path.stat().st_size
        for kind, limit in (
            (resource.RLIMIT_DATA, held + MEMORY + 2 * size),
            (resource.RLIMIT_CPU, math.ceil(SECONDS + size / BYTES_PER_SECOND)),
        ):
            resource.setrlimit(kind, (limit, resource.getrlimit(kind)[1]))
    except (ImportError, OSError, IndexError, ValueError):
        return  # another system, or a stricter limit holds already


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:5]))
