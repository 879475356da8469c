"""Lens distortion: every perspective camera model of COLMAP, removed once when a photo is loaded.

The models' equations are COLMAP's (https://colmap.github.io/cameras.html, `src/colmap/sensor/models.h`), evaluated by
pycolmap; OPENCV, FULL_OPENCV and OPENCV_FISHEYE are the models of `cv2.undistort` and `cv2.fisheye`.
"""

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch

from splat.camera import Camera
from splat.errors import InputError
from splat.scene.colmap_library import pycolmap

PINHOLE_MODELS = frozenset({"SIMPLE_PINHOLE", "PINHOLE"})
SPHERICAL = "EQUIRECTANGULAR"
_SPHERICAL_NAMES = frozenset({SPHERICAL, "SPHERE", "SPHERICAL"})  # of other programs; their parameters are fixed
MODELS = tuple(name for name in pycolmap.CameraModelId.__members__ if name != "INVALID")
ONE_FOCAL_MODELS = frozenset(
    name for name in MODELS if len(pycolmap.Camera.create_from_model_name(1, name, 1.0, 2, 2).focal_length_idxs()) == 1
)
LARGEST_SIDE = 1 << 24  # pixels
LARGEST_VALUE = 1e9  # of a focal length in pixels, and of every other parameter
_MAX_HALF_ANGLE = math.radians(60)  # a pinhole image wider than 120° is mostly stretched border
_ROUND_TRIP = 0.1  # pixels; a model inverted worse than this is outside its valid range there
_BORDER_SAMPLES = 200  # per side, when looking for the rectangle without invalid pixels
_GROWTH = 3  # sides of an undistorted image are at most so many times the original's
_SMALLEST = 8  # pixels a side that an undistorted image must keep


def unknown_model(where: str, model: str) -> InputError:
    """The error for a camera model that cannot be undistorted; ``where`` names the camera and file."""
    return InputError(
        f"{where} has the camera model {model}, which is not one of {', '.join(MODELS)}; convert it to one of those, "
        "or undistort the images with COLMAP's image_undistorter first"
    )


@dataclass(frozen=True)
class Pinhole:
    """Intrinsics without distortion: focal lengths, principal point (pixels, centres at +0.5) and size."""

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int

    def camera(self, world_to_camera: np.ndarray) -> Camera:
        """The camera with these intrinsics and the pose ``world_to_camera`` (4, 4)."""
        matrix = torch.from_numpy(np.array(world_to_camera, np.float64))
        return Camera(self.fx, self.fy, self.cx, self.cy, self.width, self.height, matrix)


@dataclass(frozen=True)
class Lens:
    """Intrinsics with distortion, and the image they apply to.

    Attributes:
        model: COLMAP's name.
        params: in COLMAP's order, pixels of a ``width`` × ``height`` image.
        width, height: size the parameters were calibrated for.
        image_width, image_height: size of the image at hand (the same scene, resampled); 0 means the same.
    """

    model: str
    params: tuple[float, ...]
    width: int
    height: int
    image_width: int = 0
    image_height: int = 0

    def for_image(self, width: int, height: int) -> "Lens":
        """The same lens for a resampled image."""
        return Lens(self.model, self.params, self.width, self.height, width, height)

    @property
    def possible(self) -> bool:
        """Whether size and focal lengths are positive and no number is so large that arithmetic with it fails."""
        focal = self.params[: 1 + (self.model not in ONE_FOCAL_MODELS)]  # of a panorama, its size
        return (
            1 <= self.width <= LARGEST_SIDE
            and 1 <= self.height <= LARGEST_SIDE
            and all(abs(value) < LARGEST_VALUE for value in self.params)
            and min(focal) > 1 / LARGEST_VALUE
        )

    @property
    def scale(self) -> tuple[float, float]:
        """Image pixels per calibration pixel, along x and y."""
        return (self.image_width or self.width) / self.width, (self.image_height or self.height) / self.height

    @property
    def distorts(self) -> bool:
        """False for a pinhole, also one written as a distorted model with zero coefficients."""
        if self.model in PINHOLE_MODELS:
            return False
        curved = "FISHEYE" in self.model or self.model in (
            "FOV",
            "EUCM",
            SPHERICAL,
        )  # not a pinhole even with all zeros
        return curved or any(self.params[i] != 0 for i in _camera(self).extra_params_idxs())

    def distort(self, rays: np.ndarray) -> np.ndarray:
        """Pixels (M, 2) of the image at which camera-frame directions x/z, y/z (M, 2) appear; NaN where they do not."""
        rays = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
        return np.asarray(_camera(self).img_from_cam(rays)) * self.scale

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """Directions x/z, y/z (M, 2) seen at pixels (M, 2) of the image; NaN where the model gives none before it.

        A fisheye lens sees sideways and backwards, and a polynomial folds over beyond the angle it was fitted for; both
        show in a direction that does not project back to its pixel.
        """
        rays = np.asarray(_camera(self).cam_from_img(np.asarray(pixels, np.float64) / self.scale))
        miss = np.abs(self.distort(rays) - pixels).max(axis=1)
        return np.where((miss < _ROUND_TRIP)[:, None], rays, np.nan)

    def pinhole(self) -> Pinhole:
        """Pinhole intrinsics of `undistort`'s result: same focal length, cropped so that no pixel is invalid."""
        return _pinhole(self)

    def undistort_pixels(self, pixels: np.ndarray) -> np.ndarray:
        """Positions (M, 2) in the undistorted image of positions in the original; NaN where there is none."""
        target = self.pinhole()
        return self.rays(pixels) * (target.fx, target.fy) + (target.cx, target.cy)

    def undistort(self, image: np.ndarray, nearest: bool = False) -> np.ndarray:
        """The pinhole image (h, w[, 3]) of an (image_height, image_width[, 3]) uint8 image."""
        x, y = _maps(self)
        kind = cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC
        return cv2.remap(image, x, y, kind, borderMode=cv2.BORDER_REPLICATE)


def spherical(model: str, width: int, height: int) -> Lens | None:
    """The lens of a panorama of ``width`` × ``height`` pixels, if ``model`` is a name for that; else None."""
    if model.upper() not in _SPHERICAL_NAMES:
        return None
    return Lens(SPHERICAL, (float(width), float(height)), width, height)


@lru_cache(maxsize=256)
def _camera(lens: Lens) -> pycolmap.Camera:
    return pycolmap.Camera(model=lens.model, width=lens.width, height=lens.height, params=list(lens.params))


@lru_cache(maxsize=4096)
def _pinhole(lens: Lens) -> Pinhole:
    """The focal length of ``lens`` and the crop of `_inner_rectangle`, on the original pixel grid."""
    camera, (sx, sy) = _camera(lens), lens.scale
    width, height = lens.image_width or lens.width, lens.image_height or lens.height
    fx, fy = camera.focal_length_x * sx, camera.focal_length_y * sy
    cx, cy = camera.principal_point_x * sx, camera.principal_point_y * sy
    if not lens.distorts:
        return Pinhole(fx, fy, cx, cy, width, height)
    left, top, right, bottom = np.nan_to_num(_inner_rectangle(lens, width, height)).tolist()
    x0, x1 = math.ceil(cx + left * fx), math.floor(cx + right * fx)
    y0, y1 = math.ceil(cy + top * fy), math.floor(cy + bottom * fy)
    if not (_SMALLEST <= x1 - x0 <= _GROWTH * width and _SMALLEST <= y1 - y0 <= _GROWTH * height):
        raise InputError(
            f"a {lens.model} camera with the parameters {list(lens.params)} leaves {max(x1 - x0, 0)}×{max(y1 - y0, 0)} "
            "pixels after undistortion, so it cannot be right; calibrate it again"
        )
    return Pinhole(fx, fy, cx - x0, cy - y0, x1 - x0, y1 - y0)


def _inner_rectangle(lens: Lens, width: int, height: int) -> tuple[float, float, float, float]:
    """Left, top, right, bottom as x/z or y/z: a large rectangle around the axis that the image covers wholly.

    Each side of the image, undistorted, is a curve, whose innermost point bounds the rectangle (as in
    cv2.getOptimalNewCameraMatrix with alpha = 0). Where curves bend so strongly that this is not enough, it is shrunk.
    """
    along, limit = np.linspace(0, 1, _BORDER_SAMPLES), math.tan(_MAX_HALF_ANGLE)
    x, y, far = along * width, along * height, np.ones_like(along)
    sides = ((0 * far, y, 0, -1), (x, 0 * far, 1, -1), (width * far, y, 0, 1), (x, height * far, 1, 1))
    bounds = []
    for px, py, axis, sign in sides:
        reach = lens.rays(np.stack([px, py], 1))[:, axis] * sign
        bounds.append(sign * min(limit, float(np.where(np.isfinite(reach), reach, limit).min())))
    rectangle = np.array(bounds)
    for _ in range(100):
        left, top, right, bottom = rectangle
        if left >= right or top >= bottom:
            break
        u, v = left + along * (right - left), top + along * (bottom - top)
        edges = ((left * far, v), (u, top * far), (right * far, v), (u, bottom * far))
        rays = np.concatenate([np.stack(edge, 1) for edge in edges])
        pixels = lens.distort(rays)
        inside = (pixels >= -0.5).all(1) & (pixels <= (width + 0.5, height + 0.5)).all(1)
        if (inside & (np.abs(lens.rays(pixels) - rays).max(1) < 1e-3)).all():
            return left, top, right, bottom
        rectangle = rectangle * 0.97
    return 0.0, 0.0, 0.0, 0.0


@lru_cache(maxsize=4)
def _maps(lens: Lens) -> tuple[np.ndarray, np.ndarray]:
    """For every pixel of the pinhole image, where to read in the original (cv2 counts centres from 0)."""
    target = lens.pinhole()
    camera = target.camera(np.eye(4))
    rays = camera.directions(camera.pixel_centres())[..., :2].reshape(-1, 2).numpy()
    pixels = (lens.distort(rays) - 0.5).astype(np.float32).reshape(target.height, target.width, 2)
    return np.ascontiguousarray(pixels[..., 0]), np.ascontiguousarray(pixels[..., 1])
