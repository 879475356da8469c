"""Text files of a COLMAP model (layout: COLMAP documentation, "Output format")."""

import re
import warnings
from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, reason_of, require_file
from splat.scene.readers.colmap_parts import NO_POINT, Files, Frame, ModelImage, ModelPoints, image_name, lens, pose
from splat.scene.undistort import Lens

_LONGEST = 1 << 16  # bytes of a line of numbers that are few in every sound file
_KEYPOINT_LINE = 1 << 25  # bytes: some million keypoints in one photo
_HEAD = 1 << 14  # bytes in which the comments at the top of a file are looked for
Line = tuple[int, bytes]


def _lines(path: Path) -> Iterator[Line]:
    """Number and bytes of every line; never the whole file at once."""
    with guarded(path, "the file"), open(require_file(path), "rb") as file:
        for number, line in enumerate(file, 1):
            yield number, line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()


def _rows(path: Path) -> Iterator[Line]:
    """Lines that are neither empty nor comments."""
    return ((number, line) for number, line in _lines(path) if line and not line.startswith(b"#"))


def _words(line: bytes) -> list[bytes]:
    """The words of a line that has few. Raises ValueError for a very long one."""
    if len(line) > _LONGEST:
        raise ValueError(f"{len(line):,} bytes are too many")
    return line.split()


def _wrong(path: Path, number: int, line: bytes, expected: str, error: Exception) -> InputError:
    shown = line[:60].decode(errors="replace")
    return InputError(
        f"{path}: line {number}, '{shown}', cannot be understood ({reason_of(error)}); expected: {expected}; "
        "export the model again"
    )


def cameras(path: Path) -> dict[int, Lens]:
    """Cameras by id."""
    found: dict[int, Lens] = {}
    for number, line in _rows(path):
        try:
            words = _words(line)
            identifier, model, width, height = int(words[0]), words[1].decode().upper(), int(words[2]), int(words[3])
            found[identifier] = lens(path, identifier, model, width, height, [float(word) for word in words[4:]])
        except (ValueError, IndexError) as error:
            raise _wrong(path, number, line, "id, model, width, height, parameters", error) from error
    return found


def images(path: Path) -> list[ModelImage]:
    """Images with their own poses and keypoints.

    Each has a second line with its keypoints, which may be empty; where a program has left empty ones out, the next
    image follows at once.
    """
    found: list[ModelImage] = []
    waits = False  # for the keypoints of the last image
    blank = False  # that line was empty: then they may follow after it, where a program doubles line ends
    for number, line in _lines(path):
        if blank and line and not line.startswith(b"#"):
            blank = False
            waits = _is_keypoints(line)
        if waits and not line.startswith(b"#"):
            waits, blank = False, not line
            try:
                found[-1].xy, found[-1].point_ids = _keypoints(line)
                continue
            except ValueError as error:
                problem = error
            if not _is_image(line):
                raise _wrong(path, number, line, "x, y and point id of each keypoint", problem) from problem
        if not line or line.startswith(b"#"):
            continue
        try:
            found.append(_image(line))
        except (ValueError, IndexError) as error:
            raise _wrong(path, number, line, "id, qw, qx, qy, qz, tx, ty, tz, camera id, name", error) from error
        waits = True
    return found


def _image(line: bytes) -> ModelImage:
    words = line[:_LONGEST].split(None, 9)
    numbers = [float(word) for word in words[1:8]]
    nothing = np.zeros((0, 2)), np.zeros(0, np.uint64)
    return ModelImage(int(words[0]), image_name(words[9]), int(words[8]), pose(numbers), *nothing)


def _is_image(line: bytes) -> bool:
    try:
        _image(line)
    except (ValueError, IndexError):
        return False
    return True


def _is_keypoints(line: bytes) -> bool:
    """Whether the line holds triples of numbers alone, which the ten and more words of an image are not."""
    try:
        return len(_keypoints(line)[0]) > 0
    except ValueError:
        return False


def _keypoints(line: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Pixels (K, 2) and point ids (K,) uint64. Raises ValueError."""
    if not line:
        return np.zeros((0, 2)), np.zeros(0, np.uint64)
    if len(line) > _KEYPOINT_LINE:
        raise ValueError(f"{len(line):,} bytes are too many for one image")
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        try:
            numbers = np.fromstring(line, np.float64, sep=" ")  # by far the least memory for a long line
        except DeprecationWarning as error:
            raise ValueError("something is no number") from error
    if len(numbers) % 3:
        raise ValueError(f"{len(numbers)} numbers are no triples")
    rows = numbers.reshape(-1, 3)
    ids = rows[:, 2]
    if not ((ids >= -1) & (ids < 2**53) & (ids == np.floor(ids))).all():
        raise ValueError("a point id is no whole number")
    return rows[:, :2].copy(), np.where(ids < 0, NO_POINT, ids.clip(0).astype(np.uint64))


def points(path: Path) -> ModelPoints:
    """Points; their tracks are skipped, for the images' keypoints say the same."""
    ids, numbers, colours = array("Q"), array("d"), bytearray()
    for number, line in _rows(path):
        try:
            words = line.split(None, 8)
            if len(words) < 8:
                raise ValueError(f"{len(words)} words")
            ids.append(int(words[0]))
            numbers.extend(float(word) for word in (*words[1:4], words[7]))
            colours += bytes(int(word) for word in words[4:7])
        except (ValueError, OverflowError) as error:
            raise _wrong(path, number, line, "id, x, y, z, r, g, b, error, track", error) from error
    rows = np.frombuffer(numbers, np.float64).reshape(-1, 4)
    rgb = np.frombuffer(colours, np.uint8).reshape(-1, 3)
    return ModelPoints(np.frombuffer(ids, np.uint64), rows[:, :3].copy(), rgb, rows[:, 3].copy())


def rigs(path: Path) -> dict[tuple[int, int], np.ndarray | None]:
    """Pose (4, 4) of each camera in its rig, None where it is not known, by (rig id, camera id)."""
    found: dict[tuple[int, int], np.ndarray | None] = {}
    for number, line in _rows(path):
        try:
            words = iter(_words(line))
            rig, sensors = int(next(words)), int(next(words))
            for sensor_number in range(sensors):
                kind, sensor, placed = next(words), int(next(words)), np.eye(4)
                if sensor_number:  # the first one is the rig's origin
                    placed = pose([float(next(words)) for _ in range(7)]) if int(next(words)) else None
                if kind == b"CAMERA":
                    found[rig, sensor] = placed
        except (ValueError, StopIteration, RuntimeError) as error:
            raise _wrong(path, number, line, "rig id, number of sensors, sensors", error) from error
    return found


def frames(path: Path) -> list[Frame]:
    """Frames with their poses and images."""
    found = []
    for number, line in _rows(path):
        try:
            words = _words(line)
            rig, numbers, count = int(words[1]), [float(word) for word in words[2:9]], int(words[9])
            if len(words) != 10 + 3 * count:
                raise ValueError(f"{count} images in {len(words)} words")
            data = zip(words[10::3], words[11::3], words[12::3], strict=True)
            taken = [(int(sensor), int(image)) for kind, sensor, image in data if kind == b"CAMERA"]
            found.append(Frame(rig, pose(numbers), taken))
        except (ValueError, IndexError) as error:
            raise _wrong(path, number, line, "frame id, rig id, pose, number of images, images", error) from error
    return found


def announced(path: Path) -> int | None:
    """The number of entries that a comment at the top of the file tells, or None."""
    with guarded(path, "the file"), open(require_file(path), "rb") as file:
        said = re.search(rb"^# Number of (?:cameras|images|points): (\d{1,15})\b", file.read(_HEAD), re.MULTILINE)
    return int(said[1]) if said else None


FILES = Files(cameras, images, points, rigs, frames, announced)
