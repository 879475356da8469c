"""The focal length in pixels that EXIF data tells.

COLMAP reads it too, but not of PNG files and of copies made for it, and it takes the resolution of the sensor for that
of the photo: of photos that were shrunk later it is wrong by as much.
"""

import math
from collections.abc import Mapping
from typing import Any

_FOCAL_LENGTH, _FOCAL_LENGTH_35 = 0x920A, 0xA405
_RESOLUTIONS = (0xA20E, 0xA20F)  # of the sensor along x and y, pixels per unit
_UNIT = 0xA210
_ORIGINAL_SIDES = (0xA002, 0xA003)
_MILLIMETRES = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}  # per unit; inches where nothing is said
_DIAGONAL_35 = math.hypot(36.0, 24.0)  # mm; 35-mm equivalents are those of equal diagonals (CIPA DCG-001)
_NARROWEST, _WIDEST = 5.0, 140.0  # degrees along the longer side; what lies outside is no focal length of a photo


def focal_pixels(tags: Mapping[int, Any], width: int, height: int) -> float | None:
    """Focal length in pixels of a photo of this size from the ``tags`` of its Exif IFD; None where they do not tell a
    plausible one.

    The 35-mm equivalent goes first; else the focal length with the resolution of the sensor.
    """
    longer = max(width, height)
    equivalent, focal = _number(tags.get(_FOCAL_LENGTH_35)), _number(tags.get(_FOCAL_LENGTH))
    if equivalent is not None:
        found = equivalent / _DIAGONAL_35 * math.hypot(width, height)
    elif focal is not None:
        per_millimetre = _pixels_per_millimetre(tags, longer)
        found = 0.0 if per_millimetre is None else focal * per_millimetre
    else:
        return None
    if found <= 0:
        return None
    angle = 2 * math.degrees(math.atan(0.5 * longer / found))
    return found if _NARROWEST < angle < _WIDEST else None


def _pixels_per_millimetre(tags: Mapping[int, Any], longer: int) -> float | None:
    """Pixels of the photo as it is, whose longer side has ``longer``, per millimetre of the sensor."""
    resolution = next(filter(None, (_number(tags.get(tag)) for tag in _RESOLUTIONS)), None)
    unit = _MILLIMETRES.get(tags.get(_UNIT, 2))
    if resolution is None or unit is None:
        return None
    sides = [side for side in (_number(tags.get(tag)) for tag in _ORIGINAL_SIDES) if side is not None]
    shrunk = longer / max(sides) if sides else 1.0
    return resolution / unit * shrunk


def _number(value: Any) -> float | None:
    """``value`` as a positive number; None if it is none, as in damaged EXIF data."""
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
