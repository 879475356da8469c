"""Intrinsics of the frames of a transforms.json, by the parameter names of each camera model."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from splat.errors import InputError
from splat.reading import guarded, member
from splat.scene.images import read_header
from splat.scene.readers.colmap_parts import PARAMETER_NAMES
from splat.scene.undistort import LARGEST_SIDE, MODELS, ONE_FOCAL_MODELS, PINHOLE_MODELS, Lens, spherical, unknown_model

# OPENCV's polynomial, from which these leave out coefficients: whichever are given count, as in nerfstudio.
_PERSPECTIVE = frozenset({"SIMPLE_RADIAL", "RADIAL", "OPENCV", "FULL_OPENCV", "PERSPECTIVE"})
# The model of two focal lengths that each of one is a case of.
_TWO_FOCALS = {
    "SIMPLE_RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "RADIAL_FISHEYE": "OPENCV_FISHEYE",
    "SIMPLE_FISHEYE": "FISHEYE",
    "SIMPLE_DIVISION": "DIVISION",
}
_FOCAL_KEYS = ("fl_x", "fl_y", "fx", "fy", "f", "camera_angle_x", "camera_angle_y", "x_fov", "y_fov")
_PLACE_NAMES = frozenset({"f", "fx", "fy", "cx", "cy"})
_NOT_ZERO = {"FOV": ("omega",), "EUCM": ("alpha", "beta")}  # parameters without which the model means nothing
DISTORTION_KEYS = frozenset(name for names in PARAMETER_NAMES.values() for name in names) - _PLACE_NAMES - {"w", "h"}


class Values:
    """Values of one frame, which come before those of the whole file; what is read of them is remembered."""

    def __init__(self, whole: Mapping[str, Any], frame: Mapping[str, Any], path: Path) -> None:
        own = {key: value for key, value in frame.items() if value is not None}
        hidden = _FOCAL_KEYS if any(key in own for key in _FOCAL_KEYS) else ()
        self.values = {key: value for key, value in whole.items() if key not in hidden} | own
        self.path = path
        self.read: set[str] = set()

    def number(self, key: str, default: float | None = None) -> float | None:
        """The finite number ``key``, or ``default`` where there is none. Raises InputError for anything else."""
        self.read.add(key)
        with guarded(self.path, f"'{key}'"):
            if self.values.get(key) is None:
                return default
            number = float(member(self.values, key, float))
            if not math.isfinite(number):
                raise ValueError(f"it is {number}, expected a finite number")
            return number

    def first(self, *keys: str) -> float | None:
        """The first of the numbers that is there and not 0."""
        return next((number for key in keys if (number := self.number(key))), None)

    def ignored(self) -> list[str]:
        """Coefficients of distortion that are given, but that the camera model does not have."""
        given = DISTORTION_KEYS & self.values.keys() - self.read
        return sorted(key for key in given if isinstance(self.values[key], int | float) and self.values[key])


def lens_of(values: Values, image: Path) -> Lens:
    """The lens of the frame with the picture ``image``. Raises InputError."""
    width, height = _size(values, image)
    panorama = spherical(str(values.values.get("camera_model")), width, height)
    if panorama is not None:
        return panorama
    fx = values.first("fl_x", "fx", "f") or _focal(values.number("camera_angle_x"), values.number("x_fov"), width)
    fy = values.first("fl_y", "fy") or _focal(values.number("camera_angle_y"), values.number("y_fov"), height)
    fx, fy = fx or fy, fy or fx
    if fx is None or fy is None:
        raise InputError(
            f"{values.path} gives no focal length, expected 'fl_x' in pixels or 'camera_angle_x' in radians; add one"
        )
    for key, focal in (("fl_x", fx), ("fl_y", fy)):
        if focal < 0:
            raise InputError(f"'{key}' in {values.path} is {focal:g}, but focal lengths are positive; export it again")
    cx, cy = values.number("cx", width / 2), values.number("cy", height / 2)
    model, distortion = _distortion(values, fx == fy)
    focals = (fx,) if model in ONE_FOCAL_MODELS else (fx, fy)
    return Lens(model, tuple(float(x) for x in (*focals, cx, cy, *distortion)), width, height)


def _size(values: Values, image: Path) -> tuple[int, int]:
    width, height = values.number("w"), values.number("h")
    if not width or not height:
        if not os.path.exists(image):  # report a missing image as such
            raise InputError(
                f"the image {image} named in {values.path} does not exist; put it there or remove its frame"
            )
        header = read_header(image)
        width, height = header.width, header.height
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise InputError(
            f"'w' and 'h' in {values.path} are {width:g} and {height:g}, expected the images' size in pixels; export "
            "it again"
        )
    return int(width), int(height)


def _distortion(values: Values, one_focal: bool) -> tuple[str, list[float]]:
    """COLMAP's name of the camera model, and its coefficients of distortion."""
    given = values.values.get("camera_model", "OPENCV_FISHEYE" if values.values.get("is_fisheye") else "OPENCV")
    if not isinstance(given, str):
        raise unknown_model(str(values.path), str(given)[:60])
    model = given.upper()
    if "ftheta_p0" in values.values:
        raise unknown_model(str(values.path), "f-theta")
    if model in PINHOLE_MODELS:
        return "PINHOLE", []
    if model in _PERSPECTIVE:
        k = [values.number("k1", values.number("k", 0.0)), *(values.number(f"k{i}", 0.0) for i in range(2, 7))]
        p = [values.number("p1", 0.0), values.number("p2", 0.0)]
        return ("FULL_OPENCV", [*k[:2], *p, *k[2:]]) if any(k[2:]) else ("OPENCV", [*k[:2], *p])
    if model not in MODELS:
        raise unknown_model(str(values.path), given[:60])
    if not one_focal:
        model = _TWO_FOCALS.get(model, model)
    names = [name for name in PARAMETER_NAMES[model] if name not in _PLACE_NAMES]
    for name in _NOT_ZERO.get(model, ()):
        if values.number(name) is None:
            raise InputError(f"{values.path} has the camera model {model} without '{name}'; add it")
    return model, [values.number(name, values.number("k1", 0.0) if name == "k" else 0.0) for name in names]


def _focal(radians: float | None, degrees: float | None, size: int) -> float | None:
    angle = radians if radians is not None else None if degrees is None else math.radians(degrees)
    # Of an angle too small to divide by, the focal length is too large to be believed, and refused by name later.
    return None if not angle else 0.5 * size / (math.tan(0.5 * angle) or 1e-300)
