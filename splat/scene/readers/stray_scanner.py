"""Stray Scanner's recordings: a video, the camera of its pictures, and ARKit's pose of each frame.

``odometry.csv`` has for each frame its number, a position and a quaternion x, y, z, w: camera-to-world with OpenCV's
axes. ``camera_matrix.csv`` is the matrix row by row, of pictures as the video stores them, whichever way up that is.
"""

from pathlib import Path

import numpy as np

from splat.reading import guarded, read_bytes
from splat.scene.build import RawScene
from splat.scene.images import read_header
from splat.scene.readers.file_heads import cells
from splat.scene.readers.image_folder import Photos
from splat.scene.readers.shots import Description, Shot, numbers, scene_of, turns_of_quaternions, world_to_camera
from splat.scene.readers.video import frame_folder
from splat.scene.undistort import Lens

KIND = "Stray Scanner"
_NAME, _CAMERA, _VIDEO = "odometry.csv", "camera_matrix.csv", "rgb.mp4"
_COLUMNS = ("frame", "x", "y", "z", "qx", "qy", "qz", "qw")
_PLACES = ("fx", "fy", "cx", "cy")
_LARGEST = 256 << 20  # bytes


def find(root: Path) -> list[Path]:
    """The poses of the recording in ``root``."""
    return [root / _NAME] if all((root / name).is_file() for name in (_NAME, _CAMERA, _VIDEO)) else []


def is_one(path: Path) -> bool:
    """Whether ``path`` has the poses of a recording."""
    return path.name == _NAME and bool(find(path.parent))


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The sharpest frames of the recording with the poses in ``path``. Raises InputError."""
    camera = path.parent / _CAMERA
    with guarded(camera, "the matrix"):
        matrix = numbers([line.split(",") for line in _text(camera).splitlines() if line.strip()], (3, 3), "it")
    with guarded(path, "the table of poses"):
        frames = _frames(_text(path), matrix)
    folder, count, total = frame_folder(path.parent / _VIDEO, as_stored=True)
    files = {int(file.stem.rsplit("_", 1)[-1]): file for file in sorted(folder.glob("frame_*.jpg"))}
    shots = [_shot(file, frames.get(number)) for number, file in files.items()]
    notes = [f"took the {count} sharpest of {total} frames of {_VIDEO}"]
    if (path.parent / "depth").is_dir():
        notes.append("the depth of the recording is not read")
    photos = Photos(folder, {file.name: file for file in files.values()})
    return scene_of(Description(KIND, path, [folder], shots, notes=notes), root, downscale, photos, all_named=True)


def _text(path: Path) -> str:
    return read_bytes(path, _LARGEST).decode("utf-8-sig", "replace")


def _frames(text: str, matrix: np.ndarray) -> dict[int, np.ndarray]:
    """By the number of the frame x, y, z, qx, qy, qz, qw, fx, fy, cx, cy; the matrix serves where a row has none."""
    general = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    frames = {}
    table = cells(text.splitlines())
    columns = [name.strip() for name in next(table, [])]
    for line in table:
        row = dict(zip(columns, line, strict=False))
        number, *pose = (float(row[name]) for name in _COLUMNS)
        given = [row.get(name) or "" for name in _PLACES]
        places = [float(value) for value in given] if all(value.strip() for value in given) else general
        frames[int(number)] = np.array([*pose, *places])
    return frames


def _shot(file: Path, frame: np.ndarray | None) -> Shot:
    if frame is None or not np.linalg.norm(frame[3:7]) > 0:
        return Shot(file.name)
    header = read_header(file)
    lens = Lens("PINHOLE", tuple(frame[7:].tolist()), header.width, header.height)
    return Shot(file.name, lens, world_to_camera(turns_of_quaternions(frame[None, 3:7])[0].T, frame[:3]))
