"""Lenses that see sideways and behind: fisheyes and equirectangular panoramas, from directions to pixels and back.

Beside `Lens.distort` and `Lens.rays`, whose x/z and y/z end before 90° from the axis. The fisheye models are COLMAP's
(`src/colmap/sensor/models.h`): polynomials of the angle from the axis, which are evaluated here beyond 90° too. The
equirectangular one has the longitude along x and the latitude along y, with the camera's axis in the middle.
"""

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from splat.scene.undistort import ONE_FOCAL_MODELS, SPHERICAL, Lens

SPLIT_ABOVE = math.radians(120)  # field of view; wider lenses would lose what they show to undistortion
_CURVED = frozenset({"FOV", "EUCM", "SIMPLE_DIVISION", "DIVISION"})  # other models for wide lenses, up to 90°
_PERSPECTIVE = math.radians(89)  # from the axis, beyond which x/z and y/z say nothing
_WIDEST = math.radians(179)  # from the axis: of the direction behind there is no one pixel
_STEP = math.radians(0.25)
_AZIMUTHS = np.linspace(0, 2 * np.pi, 16, endpoint=False)
_NEWTON = 12  # steps
_ROUND_TRIP = 0.05  # pixels; where the inverse is worse there is none


def project(lens: Lens, directions: NDArray) -> NDArray[np.float64]:
    """Pixels (M, 2) of the image at which camera-frame ``directions`` (M, 3) of any length appear; NaN where nowhere.

    Pixels may lie outside the image.
    """
    directions = np.asarray(directions, np.float64)
    x, y, z = directions.T
    across = np.hypot(x, y)
    if lens.model == SPHERICAL:
        turn = np.stack([np.arctan2(x, z) / (2 * np.pi), np.arctan2(y, np.hypot(x, z)) / np.pi], 1) + 0.5
        return turn * _size(lens)
    angle = np.arctan2(across, z)
    seen = angle <= widest(lens)
    if "FISHEYE" in lens.model:
        ratio = np.where(across > 0, angle / np.where(across > 0, across, 1), 0)
        pixels = _fisheye(lens, directions[:, :2] * ratio[:, None])
    else:
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = lens.distort(np.where(seen[:, None], directions[:, :2] / z[:, None], 0))
    return np.where(seen[:, None], pixels, np.nan)


def bearings(lens: Lens, pixels: NDArray) -> NDArray[np.float64]:
    """Unit directions (M, 3) in camera axes seen at ``pixels`` (M, 2) of the image; NaN where the model has none."""
    pixels = np.asarray(pixels, np.float64)
    if lens.model == SPHERICAL:
        longitude, latitude = ((pixels / _size(lens) - 0.5) * (2 * np.pi, np.pi)).T
        return np.stack(
            [np.cos(latitude) * np.sin(longitude), np.sin(latitude), np.cos(latitude) * np.cos(longitude)], 1
        )
    if "FISHEYE" in lens.model:
        return _fisheye_bearings(lens, pixels)
    rays = np.concatenate([lens.rays(pixels), np.ones((len(pixels), 1))], 1)
    return rays / np.linalg.norm(rays, axis=1, keepdims=True)


def can_be_wide(lens: Lens) -> bool:
    """Whether the model is one for wide lenses."""
    return lens.model == SPHERICAL or "FISHEYE" in lens.model or lens.model in _CURVED


@lru_cache(maxsize=256)
def widest(lens: Lens) -> float:
    """Angle from the axis, radians, up to which ``lens`` maps each direction to a pixel of its own: beyond it, a
    polynomial folds back."""
    if lens.model == SPHERICAL:
        return math.pi
    fisheye = "FISHEYE" in lens.model
    angles = np.arange(_STEP, _WIDEST if fisheye else _PERSPECTIVE, _STEP)
    with np.errstate(all="ignore"):  # of parameters that no lens has
        radii = [np.linalg.norm(_along(lens, angles, azimuth) - _axis(lens), axis=1) for azimuth in _AZIMUTHS]
        radii = np.concatenate([np.zeros((len(_AZIMUTHS), 1)), radii], 1)
        grows = (np.diff(radii) > 0).all(0)
    return float(angles[-1] if grows.all() else angles[np.argmin(grows)] - _STEP)


def field_of_view(lens: Lens, limit: float = math.pi) -> float:
    """The larger of the horizontal and the vertical angle that the image shows through the axis, radians.

    Args:
        limit: angle from the axis beyond which nothing is shown.
    """
    if lens.model == SPHERICAL:
        return 2 * math.pi
    angles = np.arange(_STEP, min(limit, widest(lens)), _STEP)
    reach = []
    for azimuth in (0.0, np.pi / 2, np.pi, 1.5 * np.pi):
        pixels = _along(lens, angles, azimuth)
        inside = (pixels >= 0).all(1) & (pixels <= _size(lens)).all(1)
        reach.append(_STEP * (len(angles) if inside.all() else int(np.argmin(inside))))
    return max(reach[0] + reach[2], reach[1] + reach[3])


def is_wide(lens: Lens, limit: float = math.pi) -> bool:
    """Whether ``lens`` shows more than 120°, so that one pinhole image does not hold it."""
    return can_be_wide(lens) and field_of_view(lens, limit) > SPLIT_ABOVE


@lru_cache(maxsize=256)
def density(lens: Lens) -> float:
    """Pixels of the image per radian in its middle: the geometric mean of the two axes."""
    if lens.model == SPHERICAL:
        width, height = _size(lens)
        return math.sqrt(width / (2 * math.pi) * height / math.pi)
    step = 1e-4
    here, right, below = project(lens, np.array([[0, 0, 1], [step, 0, 1], [0, step, 1]]))
    return math.sqrt(abs(np.linalg.det(np.stack([right - here, below - here]))) / step**2)


def _size(lens: Lens) -> NDArray[np.float64]:
    return np.array([lens.image_width or lens.width, lens.image_height or lens.height], np.float64)


def _axis(lens: Lens) -> NDArray[np.float64]:
    """Where the camera's axis is seen, pixels (2,)."""
    return lens.distort(np.zeros((1, 2)))[0]


def _along(lens: Lens, angles: NDArray, azimuth: float) -> NDArray[np.float64]:
    """Pixels (M, 2) at ``angles`` (M,) from the axis, whatever they fold onto."""
    towards = np.array([np.cos(azimuth), np.sin(azimuth)])
    if "FISHEYE" in lens.model:
        return _fisheye(lens, angles[:, None] * towards)
    return lens.distort(np.tan(angles)[:, None] * towards)


def _fisheye(lens: Lens, w: NDArray) -> NDArray[np.float64]:
    """Pixels (M, 2) of directions given as the angle from the axis times the unit vector across it, (M, 2)."""
    focals = 1 + (lens.model not in ONE_FOCAL_MODELS)
    focal, centre, k = lens.params[:focals], lens.params[focals : focals + 2], lens.params[focals + 2 :]
    square = (w * w).sum(1)
    if lens.model == "THIN_PRISM_FISHEYE":
        k1, k2, p1, p2, k3, k4, *prism = k
        w = w * _radial(square, (k1, k2, k3, k4))[:, None] + _tangential(w, (p2, p1)) + square[:, None] * prism
    elif lens.model == "RAD_TAN_THIN_PRISM_FISHEYE":
        w = w * _radial(square, k[:6])[:, None]
        square = (w * w).sum(1)
        prism = np.stack([k[8] + k[9] * square, k[10] + k[11] * square], 1)
        w = w + _tangential(w, k[6:8]) + square[:, None] * prism
    else:
        w = w * _radial(square, k)[:, None]
    return (w * focal + centre) * lens.scale


def _radial(square: NDArray, coefficients: tuple[float, ...]) -> NDArray[np.float64]:
    """1 + k₁ s + k₂ s² + …"""
    return 1 + square * np.polyval(coefficients[::-1], square)


def _tangential(w: NDArray, p: tuple[float, float]) -> NDArray[np.float64]:
    return 2 * w * (w @ np.asarray(p))[:, None] + (w * w).sum(1)[:, None] * p


def _fisheye_bearings(lens: Lens, pixels: NDArray) -> NDArray[np.float64]:
    """Newton's method on `_fisheye`, from the angle that the radius has along one azimuth."""
    limit = widest(lens)
    angles = np.arange(0, limit, _STEP)
    pixels_per_radian = np.broadcast_to(lens.params[: 1 + (lens.model not in ONE_FOCAL_MODELS)], 2) * lens.scale
    stretch = pixels_per_radian[0] / pixels_per_radian
    away = (pixels - _axis(lens)) * stretch
    radii = ((_along(lens, angles, 0.0) - _axis(lens)) * stretch)[:, 0]
    radius = np.hypot(*away.T)
    w = away * (np.interp(radius, radii, angles) / np.where(radius > 0, radius, 1))[:, None]
    step = 1e-6
    for _ in range(_NEWTON):
        miss = pixels - _fisheye(lens, w)
        if len(miss) == 0 or np.abs(miss).max() < 1e-9:
            break
        dx = (_fisheye(lens, w + (step, 0)) - pixels + miss) / step
        dy = (_fisheye(lens, w + (0, step)) - pixels + miss) / step
        det = dx[:, 0] * dy[:, 1] - dx[:, 1] * dy[:, 0]
        det = np.where(np.abs(det) < 1e-12, np.inf, det)
        move = np.stack(
            [miss[:, 0] * dy[:, 1] - miss[:, 1] * dy[:, 0], dx[:, 0] * miss[:, 1] - dx[:, 1] * miss[:, 0]], 1
        )
        w = w + np.clip(move / det[:, None], -0.3, 0.3)
    angle = np.hypot(*w.T)
    good = (np.abs(_fisheye(lens, w) - pixels).max(1) < _ROUND_TRIP) & (angle <= limit)
    sine = np.where(angle > 0, np.sin(angle) / np.where(angle > 0, angle, 1), 1)
    return np.where(good[:, None], np.concatenate([w * sine[:, None], np.cos(angle)[:, None]], 1), np.nan)
