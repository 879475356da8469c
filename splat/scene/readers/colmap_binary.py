"""Binary files of a COLMAP model (layout: COLMAP documentation, "Output format")."""

import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TypeVar

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, read_bytes
from splat.scene.readers.colmap_parts import (
    CAMERA_MODELS,
    CAMERA_SENSOR,
    Files,
    Frame,
    ModelImage,
    ModelPoints,
    image_name,
    lens,
    pose,
)
from splat.scene.undistort import Lens

T = TypeVar("T")
_POINT = np.dtype([("id", "<u8"), ("xyz", "<f8", 3), ("rgb", "u1", 3), ("error", "<f8")])  # the track follows
_KEYPOINT = np.dtype([("xy", "<f8", 2), ("id", "<u8")])


class _Reader:
    """Fields one after the other. Reading past the end raises struct.error or ValueError."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def take(self, layout: str) -> tuple:
        values = struct.unpack_from(layout, self.data, self.at)
        self.at += struct.calcsize(layout)
        return values

    def rows(self, dtype: np.dtype, count: int) -> np.ndarray:
        if count > (len(self.data) - self.at) // dtype.itemsize:
            raise EOFError
        rows = np.frombuffer(self.data, dtype, count, self.at)
        self.at += count * dtype.itemsize
        return rows

    def text(self) -> bytes:
        end = self.data.find(b"\0", self.at)
        if end < 0:
            raise EOFError
        text, self.at = self.data[self.at : end], end + 1
        return text


def _whole(parse: Callable[[_Reader, int, Path], T]) -> Callable[[Path], T]:
    """A reader of files: ``parse`` gets the number of entries, and has to use the file up. Raises InputError."""

    @wraps(parse)
    def read(path: Path) -> T:
        data = read_bytes(path)
        reader, count = _Reader(data), "?"
        try:
            (count,) = reader.take("<Q")
            result = parse(reader, count, path)
        except (struct.error, EOFError) as error:
            raise _truncated(path, data, count) from error
        if reader.at != len(data):
            raise _truncated(path, data, count)
        return result

    return read


def _truncated(path: Path, data: bytes, count: int | str) -> InputError:
    return InputError(
        f"{path} is truncated or damaged: it has {len(data)} bytes, which do not hold the {count} entries it "
        "announces; copy it again or run COLMAP again"
    )


@contextmanager
def _record(path: Path, what: str, number: int) -> Iterator[None]:
    """Damage of a record is said with its number; the end of the file is not its fault."""
    try:
        with guarded(path, f"{what} {number}"):
            yield
    except InputError as error:
        if isinstance(error.__cause__, struct.error | EOFError):
            raise error.__cause__ from None
        raise


@_whole
def cameras(reader: _Reader, count: int, path: Path) -> dict[int, Lens]:
    """Cameras by id."""
    found: dict[int, Lens] = {}
    for number in range(1, count + 1):
        with _record(path, "camera", number):
            identifier, model, width, height = reader.take("<IiQQ")
            name, parameters = CAMERA_MODELS.get(model, (f"number {model}", 0))
            found[identifier] = lens(path, identifier, name, width, height, list(reader.take(f"<{parameters}d")))
    return found


@_whole
def images(reader: _Reader, count: int, path: Path) -> list[ModelImage]:
    """Images with their own poses and keypoints."""
    found = []
    for number in range(1, count + 1):
        with _record(path, "image", number):
            identifier, *numbers, camera = reader.take("<I7dI")
            name = reader.text()
            keypoints = reader.rows(_KEYPOINT, reader.take("<Q")[0])
            found.append(
                ModelImage(
                    identifier, image_name(name), camera, pose(numbers), keypoints["xy"].copy(), keypoints["id"].copy()
                )
            )
    return found


@_whole
def points(reader: _Reader, count: int, path: Path) -> ModelPoints:
    """Points; their tracks are skipped, for the images' keypoints say the same."""
    data, at, head = reader.data, reader.at, _POINT.itemsize
    if count > (len(data) - at) // (head + 8):
        raise EOFError
    starts, length = np.empty(count, np.int64), struct.Struct("<Q").unpack_from
    for number in range(count):
        starts[number] = at
        at += head + 8 + 8 * length(data, at + head)[0]
        if at > len(data):
            raise EOFError
    reader.at = at
    rows = np.empty(count, _POINT)
    offsets, raw = np.arange(head), np.frombuffer(data, np.uint8)
    for first in range(0, count, 1 << 16):  # in parts: the places take eight times the bytes
        part = slice(first, first + (1 << 16))
        rows[part] = raw[starts[part, None] + offsets].view(_POINT)[:, 0]
    return ModelPoints(*(np.ascontiguousarray(rows[name]) for name in _POINT.names))


@_whole
def rigs(reader: _Reader, count: int, path: Path) -> dict[tuple[int, int], np.ndarray | None]:
    """Pose (4, 4) of each camera in its rig, None where it is not known, by (rig id, camera id)."""
    found: dict[tuple[int, int], np.ndarray | None] = {}
    for _ in range(count):
        rig, sensors = reader.take("<II")
        for number in range(sensors):
            kind, sensor = reader.take("<iI")
            placed: np.ndarray | None = np.eye(4)
            if number:  # the first one is the rig's origin
                placed = pose(reader.take("<7d")) if reader.take("<B")[0] else None
            if kind == CAMERA_SENSOR:
                found[rig, sensor] = placed
    return found


@_whole
def frames(reader: _Reader, count: int, path: Path) -> list[Frame]:
    """Frames with their poses and images."""
    found = []
    for _ in range(count):
        _, rig, *numbers = reader.take("<II7d")
        taken = []
        for _ in range(reader.take("<I")[0]):
            kind, sensor, image = reader.take("<iIQ")
            if kind == CAMERA_SENSOR:
                taken.append((sensor, image))
        found.append(Frame(rig, pose(numbers), taken))
    return found


FILES = Files(cameras, images, points, rigs, frames, lambda path: None)
