"""The parts of a COLMAP model in memory, and what its binary and text files have in common."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import PIL.Image  # noqa: F401  (before pycolmap: the other order aborts when a PNG is saved)
import pycolmap

from splat.errors import InputError
from splat.scene.undistort import MODELS, Lens, spherical, unknown_model

# Camera model id → (name, number of parameters).
_CAMERAS = {
    name: pycolmap.Camera.create_from_model_id(1, value, 1.0, 2, 2)
    for name, value in pycolmap.CameraModelId.__members__.items()
    if name != "INVALID"
}
CAMERA_MODELS = {
    int(pycolmap.CameraModelId.__members__[name]): (name, len(camera.params)) for name, camera in _CAMERAS.items()
}
PARAMETER_NAMES = {name: camera.params_info.replace(",", " ").split() for name, camera in _CAMERAS.items()}
NO_POINT = 2**64 - 1  # id of keypoints without a 3D point
CAMERA_SENSOR = 0


@dataclass(eq=False)
class ModelImage:
    """One image: ``world_to_camera`` (4, 4) float64 or None without a pose, ``xy`` (K, 2) float64 pixels and
    ``point_ids`` (K,) uint64 of its keypoints."""

    id: int
    name: str
    camera: int
    world_to_camera: np.ndarray | None
    xy: np.ndarray
    point_ids: np.ndarray


@dataclass(eq=False)
class ModelPoints:
    """Points: ``ids`` (M,) uint64, ``xyz`` (M, 3) float64, ``rgb`` (M, 3) uint8, ``error`` (M,) float64 pixels."""

    ids: np.ndarray
    xyz: np.ndarray
    rgb: np.ndarray
    error: np.ndarray


NO_POINTS = ModelPoints(np.zeros(0, np.uint64), np.zeros((0, 3)), np.zeros((0, 3), np.uint8), np.zeros(0))


@dataclass(frozen=True)
class Frame:
    """``rig_from_world`` (4, 4) of rig ``rig``, and the images taken in it: (camera id, image id) each."""

    rig: int
    rig_from_world: np.ndarray
    images: list[tuple[int, int]]


@dataclass(eq=False)
class Model:
    """Cameras by id, images and points by ascending id, and sentences about what the files lack."""

    cameras: dict[int, Lens]
    images: list[ModelImage]
    points: ModelPoints
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Files:
    """The readers of one kind of model files, by path.

    ``rigs`` gives the pose (4, 4) or None of (rig id, camera id); ``announced`` how many entries a file says it has,
    where that need not be true.
    """

    cameras: Callable[[Path], dict[int, Lens]]
    images: Callable[[Path], list[ModelImage]]
    points: Callable[[Path], ModelPoints]
    rigs: Callable[[Path], dict[tuple[int, int], np.ndarray | None]]
    frames: Callable[[Path], list[Frame]]
    announced: Callable[[Path], int | None]


def lens(path: Path, identifier: int, model: str, width: int, height: int, params: list[float]) -> Lens:
    """The lens of a camera record. Raises InputError for an unknown model or another number of parameters."""
    panorama = spherical(model, width, height)
    if panorama is not None:  # programs give it none to three parameters, which say nothing more
        return panorama
    if model not in MODELS:
        raise unknown_model(f"camera {identifier} in {path}", model)
    names = PARAMETER_NAMES[model]
    if len(params) != len(names):
        raise InputError(
            f"{path.parent}: camera {identifier} in {path.name} is {model} with {len(params)} parameters, expected "
            f"{len(names)} ({' '.join(names)}); export the model again, or write the missing ones as 0"
        )
    return Lens(model, tuple(params), width, height)


def pose(numbers: np.ndarray | list[float]) -> np.ndarray:
    """(4, 4) float64 of w, x, y, z, tx, ty, tz; the quaternion may have any length (of 0: NaN)."""
    w, x, y, z, *translation = np.asarray(numbers, np.float64)
    matrix = np.eye(4)
    with np.errstate(all="ignore"):  # damaged numbers become NaN, and are refused by name later
        w, x, y, z = np.array([w, x, y, z]) / np.sqrt(w * w + x * x + y * y + z * z)
        matrix[:3, :3] = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    matrix[:3, 3] = translation
    return matrix


def image_name(data: bytes) -> str:
    """The name of an image, with forward slashes. Raises ValueError unless it is UTF-8."""
    try:
        name = data.decode().replace("\\", "/")
    except UnicodeDecodeError:
        raise ValueError(f"the image name {data[:40]!r} is not UTF-8") from None
    if not name or "\0" in name:
        raise ValueError("an image has no name")
    return name
