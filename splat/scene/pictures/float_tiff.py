"""TIFF files of floating-point numbers, which Pillow does not read in colour.

What their numbers mean is not told: white is 1, 255 or 65535, whichever the values of a scene's photos reach.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from splat.errors import InputError
from splat.images import check_size
from splat.reading import read_bytes

WHITES = (1.0, 255.0, 65535.0)
_BRIGHTEST = 99.9  # percentile: single pixels may be brighter than white
_SLACK = 1.1  # times white
_FLOAT = 3  # SampleFormat
_PROFILE = 34675  # tag of an embedded ICC profile
_TAGS = {256: "width", 257: "height", 258: "bits", 274: "orientation", 277: "samples", 339: "format"}


@dataclass(frozen=True)
class FloatTiff:
    """What the first directory of such a file tells.

    Attributes:
        samples: numbers a pixel.
        orientation: as of EXIF.
        orientation_at: byte of the file where that stands; None if nowhere.
        profile: whether it names a colour profile.
    """

    width: int
    height: int
    samples: int
    bits: int
    orientation: int
    orientation_at: int | None
    profile: bool = False


def float_tiff(path: Path) -> FloatTiff | None:
    """The facts of ``path`` if it is a TIFF of floating-point numbers, else None."""
    with open(path, "rb") as file:
        head = file.read(16)
        if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        order, big = "<" if head[:1] == b"I" else ">", head[2:3] == b"+" or head[3:4] == b"+"
        try:
            start = struct.unpack(order + ("Q" if big else "I"), head[8:16] if big else head[4:8])[0]
            file.seek(start)
            (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(8 if big else 2))
            size = 20 if big else 12
            at = file.tell()
            entries = file.read(size * min(count, 1000))
            found: dict[str, int] = {}
            place = None
            for number in range(len(entries) // size):
                entry = entries[number * size : (number + 1) * size]
                tag, kind, values = struct.unpack(order + ("HHQ" if big else "HHI"), entry[: 12 if big else 8])
                if tag == _PROFILE:
                    found["profile"] = 1
                    continue
                if tag not in _TAGS or kind not in (3, 4):
                    continue
                width = 2 if kind == 3 else 4
                field = entry[12:] if big else entry[8:]
                if values * width > len(field):
                    file.seek(struct.unpack(order + ("Q" if big else "I"), field)[0])
                    field = file.read(width)
                elif tag == 274:
                    place = at + number * size + (12 if big else 8)
                found[_TAGS[tag]] = struct.unpack(order + ("H" if kind == 3 else "I"), field[:width])[0]
        except (struct.error, OSError, OverflowError):
            return None  # Pillow says what is wrong with it
    if found.get("format") != _FLOAT or not found.get("width") or not found.get("height"):
        return None
    orientation = found.get("orientation", 1)
    orientation = orientation if orientation in range(1, 9) else 1
    samples, bits = found.get("samples", 1), found.get("bits", 32)
    return FloatTiff(found["width"], found["height"], samples, bits, orientation, place, "profile" in found)


def read(path: Path, facts: FloatTiff, believed: int) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 as stored, RGB. Raises InputError."""
    check_size(path, facts.width, facts.height, path.stat().st_size, believed)
    if facts.bits not in (32, 64) or facts.samples not in (1, 3, 4):
        raise InputError(
            f"{path}: it is a TIFF of {facts.samples} floating-point numbers of {facts.bits} bits a pixel, expected 1, "
            "3 or 4 of 32 or 64; save it as 16-bit integers"
        )
    data = np.frombuffer(bytearray(read_bytes(path)), np.uint8)
    if facts.orientation_at is not None:  # OpenCV would turn the picture by it
        order = "<" if data[0] == ord("I") else ">"
        data[facts.orientation_at : facts.orientation_at + 2] = np.frombuffer(struct.pack(order + "H", 1), np.uint8)
    level = cv2.utils.logging.getLogLevel()
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
    try:
        pixels = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    except (cv2.error, MemoryError):
        pixels = None
    finally:
        cv2.utils.logging.setLogLevel(level)
    if pixels is None or pixels.dtype.kind != "f" or pixels.shape[:2] != (facts.height, facts.width):
        raise InputError(f"{path}: the picture cannot be read (damaged, or packed in a rare way); copy it again")
    pixels = pixels.astype(np.float32, copy=False)
    if pixels.ndim == 2:
        return pixels[..., None]
    return pixels[..., [2, 1, 0, 3][: pixels.shape[2]]]


def brightest(pixels: np.ndarray) -> float:
    """The value that next to no colour of ``pixels`` exceeds; 0 if none is finite."""
    colours = pixels[..., :3]
    known = colours[np.isfinite(colours)]
    return float(np.percentile(known, _BRIGHTEST)) if known.size else 0.0


def white_of(brightest_values: Sequence[float]) -> float | None:
    """The value that means white where photos reach ``brightest_values``; None beyond 16 bits."""
    most = max(brightest_values, default=0.0)
    return next((white for white in WHITES if most <= _SLACK * white), None)
