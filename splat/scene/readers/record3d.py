"""Record3D's recordings: a ``.r3d``, unpacked, or its export of photos with ``metadata.json``.

The metadata name the size w × h, the matrix K column by column (rarely row by row) or fx, fy, cx, cy of each frame, and
for each frame a quaternion x, y, z, w and a position: camera-to-world with ARKit's axes, which are OpenGL's.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member, parse_json, read_bytes
from splat.scene.build import RawScene
from splat.scene.listing import list_images
from splat.scene.readers.file_heads import head_of
from splat.scene.readers.image_folder import Photos
from splat.scene.readers.shots import Description, Shot, numbers, scene_of, turns_of_quaternions, world_to_camera
from splat.scene.undistort import Lens

KIND = "Record3D"
_FILES = ("metadata", "metadata.json")
_FOLDERS = ("rgbd", "rgb")
_HEAD = 1 << 20  # bytes of a file that are looked at
_MOST = 300  # frames of a recording, which has 30 or 60 a second
_AXES = np.diag([1.0, -1.0, -1.0])  # from OpenGL's to OpenCV's


def find(root: Path) -> list[Path]:
    """The metadata of the recording in ``root``."""
    found = [root / name for name in _FILES if (root / name).is_file() and is_one(root / name)]
    return found[:1] if any((root / folder).is_dir() for folder in _FOLDERS) else []


def is_one(path: Path) -> bool:
    """Whether ``path`` has the poses of a recording."""
    head = head_of(path, _HEAD) if path.name in _FILES else b""
    return head.lstrip()[:1] == b"{" and (b'"poses"' in head or b'"perFrameIntrinsicCoeffs"' in head)


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The recording that ``path`` describes, at most `_MOST` frames of it. Raises InputError."""
    folder = next((path.parent / name for name in _FOLDERS if (path.parent / name).is_dir()), path.parent)
    files = _by_number(list_images(folder))
    values = parse_json(read_bytes(path), path, "its text")
    with guarded(path, "its text"):
        poses = numbers(member(values, "poses", list), (-1, 7), "'poses'")
        size = (int(member(values, "w", float)), int(member(values, "h", float)))
        places = _places(values, len(poses))
    if len(files) == len(poses):  # wherever they are counted from
        files = dict(enumerate(files[number] for number in sorted(files)))
    frames = sorted(number for number in files if number < len(poses))
    if not frames:
        raise InputError(f"{path} has {len(poses)} poses, but no frame of them is in {folder}; export it again")
    if len(np.flatnonzero(np.linalg.norm(poses[frames, :4], axis=1) > 0.5)) < len(frames):
        raise InputError(f"{path}: some poses have no rotation; export the recording again")
    chosen = [frames[round(at)] for at in np.linspace(0, len(frames) - 1, min(_MOST, len(frames)))]
    notes = _notes(len(files), len(frames), len(chosen), len(poses), path)
    turns = turns_of_quaternions(poses[chosen, :4])
    shots = [
        Shot(files[n], Lens("PINHOLE", tuple(places[n]), *size), world_to_camera(_AXES @ turn.T, poses[n, 4:]))
        for n, turn in zip(chosen, turns, strict=True)
    ]
    photos = Photos(folder, {files[number]: folder / files[number] for number in chosen})
    described = Description(KIND, path, [folder], shots, notes=notes)
    return scene_of(described, root, downscale, photos, all_named=True)


def _by_number(names: Sequence[str]) -> dict[int, str]:
    """``names`` by the last number in each."""
    matches = ((name, re.fullmatch(r"[^/]*?(\d{1,9})\.\w+", name)) for name in names)
    return {int(match[1]): name for name, match in matches if match is not None}


def _places(values: dict[str, Any], count: int) -> np.ndarray:
    """(N, 4) fx, fy, cx, cy of each frame."""
    each = values.get("perFrameIntrinsicCoeffs")
    if each:
        rows = numbers(each, (-1, 4), "'perFrameIntrinsicCoeffs'")
        if len(rows) >= count:
            return rows
    k = numbers(member(values, "K", list), (9,), "'K'")
    by_rows = k[2] and k[5] and not (k[6] or k[7])
    return np.tile(k[[0, 4, 2, 5] if by_rows else [0, 4, 6, 7]], (count, 1))


def _notes(files: int, frames: int, chosen: int, poses: int, path: Path) -> list[str]:
    notes = []
    if chosen < frames:
        notes.append(f"{chosen} of the {frames:,} frames of the recording are used, evenly; the others are left out")
    if frames < files:
        notes.append(f"{files - frames:,} frames have no pose in {path.name} and are left out")
    if frames < poses:
        notes.append(f"{poses - frames:,} of the {poses:,} frames that {path.name} names are not there")
    return notes
