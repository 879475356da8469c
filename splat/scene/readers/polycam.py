"""Polycam's raw data: a json of each photo in ``keyframes``, and depth in millimetres beside the photos.

By the documentation of its format (github.com/PolyCam/polyform). Matrices are camera-to-world with ARKit's axes, which
are OpenGL's; those in ``corrected_cameras`` are optimised and belong to the undistorted photos in ``corrected_images``.
"""

from pathlib import Path

import numpy as np

from splat.reading import guarded, member, parse_json, read_bytes
from splat.scene.build import RawScene
from splat.scene.readers.file_heads import files_in
from splat.scene.readers.image_folder import photos_in
from splat.scene.readers.shots import Description, Shot, scene_of, world_to_camera
from splat.scene.undistort import Lens

KIND = "Polycam"
_PAIRS = (("corrected_cameras", "corrected_images"), ("cameras", "images"), ("corrected_cameras", "images"))
_AXES = np.array([[1.0], [-1.0], [-1.0]])  # from OpenGL's to OpenCV's
_LARGEST = 1 << 20  # bytes of one json


def find(root: Path) -> list[Path]:
    """The folder of cameras of the capture in ``root``, the optimised ones first."""
    for keyframes in (root / "keyframes", root):
        for cameras, images in _PAIRS:
            if (keyframes / images).is_dir() and files_in(keyframes / cameras, ".json"):
                return [keyframes / cameras]
    return []


def read(path: Path, root: Path, downscale: float) -> RawScene:
    """The capture whose cameras are in the folder ``path``. Raises InputError."""
    folders = [path.parent / images for cameras, images in _PAIRS if cameras == path.name]
    images = next((folder for folder in folders if folder.is_dir()), folders[0])
    shots = [_shot(file) for file in files_in(path, ".json")]
    notes = []
    if path.name != _PAIRS[0][0]:
        notes.append("the poses are those of ARKit as recorded: the capture has no optimised ones (corrected_cameras)")
    photos = photos_in(images, [shot.name for shot in shots], downscale)
    return scene_of(Description(KIND, path, [path.parent, root], shots, notes=notes), root, downscale, photos)


def _shot(path: Path) -> Shot:
    values = parse_json(read_bytes(path, _LARGEST), path, "its text")
    with guarded(path, "its text"):
        camera_to_world = np.array([[member(values, f"t_{i}{j}", float) for j in range(4)] for i in range(3)], float)
        places = tuple(float(member(values, name, float)) for name in ("fx", "fy", "cx", "cy"))
        lens = Lens("PINHOLE", places, int(member(values, "width", float)), int(member(values, "height", float)))
    return Shot(path.stem, lens, world_to_camera(camera_to_world[:, :3].T * _AXES, camera_to_world[:, 3]))
