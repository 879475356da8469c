"""Where a fisheye's picture ends: many lenses draw a circle on the sensor, with black around it."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from splat.scene.undistort import SPHERICAL, Lens
from splat.scene.wide_lens import bearings, widest

_PHOTOS = 6  # looked at, at most
_ACROSS = 400  # pixels a side that are looked at, about
_DARK = 20  # of 255: what sensors and JPEG leave in the black around the circle
_LIT = 0.01  # fraction of a ring that must be brighter, in some photo, for the ring to belong to the picture
_RINGS = 256
_INWARDS = 0.98  # of the circle: its rim is dim, blurred, and seldom centred to the pixel


def circle_angle(lens: Lens, photos: Sequence[Callable[[], NDArray[np.uint8]]]) -> float:
    """Angle from the axis, radians, beyond which photos through ``lens`` are black; π where they show something up to
    their borders.

    Args:
        photos: decode pictures (H, W, 3) of the size of ``lens``; a few of them, evenly spread, are looked at.
    """
    if lens.model == SPHERICAL:
        return math.pi
    width, height = lens.image_width or lens.width, lens.image_height or lens.height
    step = max(1, max(width, height) // _ACROSS)
    y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
    directions = bearings(lens, np.stack([x, y], -1).reshape(-1, 2) + 0.5)
    angle = np.arctan2(np.hypot(directions[:, 0], directions[:, 1]), directions[:, 2])
    chosen = {round(k * (len(photos) - 1) / max(1, _PHOTOS - 1)) for k in range(_PHOTOS)}
    brightest = np.zeros(len(angle), np.uint8)
    for index in sorted(chosen):
        brightest = np.maximum(brightest, photos[index]()[y, x].max(-1).reshape(-1))
    known = np.isfinite(angle)
    if not known.any():
        return math.pi
    largest = float(angle[known].max())
    ring = np.minimum((angle[known] / largest * _RINGS).astype(int), _RINGS - 1)
    lit = np.bincount(ring, brightest[known] > _DARK, _RINGS) > _LIT * np.bincount(ring, minlength=_RINGS)
    if not lit.any():
        return math.pi
    rings = int(np.flatnonzero(lit)[-1]) + 1
    edge = largest * rings / _RINGS
    return math.pi if rings >= _RINGS - 1 or edge >= widest(lens) else _INWARDS * edge
