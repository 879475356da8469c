"""What browsers send, made possible: values of controls within their range, cameras that can be drawn.

The page's own controls keep to their ranges; a message made by hand need not.
"""

import math
from collections.abc import Sequence
from typing import Any

FARTHEST = 1e12  # world units
LARGEST_SCREEN = 1 << 14  # pixels a side
FOV = (math.radians(0.1), math.radians(170))


def number(control: Any, least: float, most: float) -> float:
    """The value of a slider or number within its range; ``least`` for what is no number."""
    return finite(control.value, least, most)


def finite(value: Any, least: float, most: float) -> float:
    """``value`` as a number from ``least`` to ``most``; ``least`` for what is none."""
    try:
        given = float(value)
    except (TypeError, ValueError, OverflowError):
        return least
    return least if math.isnan(given) else min(max(given, least), most)


def vector(control: Any) -> tuple[float, float, float]:
    """The value of three numbers; 0 for what is none."""
    values = [*_listed(control.value), 0.0, 0.0, 0.0][:3]
    return tuple(0.0 if value != value else finite(value, -FARTHEST, FARTHEST) for value in values)


def choice(control: Any, options: Sequence[str]) -> str:
    """The value of a menu; its first entry for what is not in it."""
    return control.value if control.value in options else options[0]


def colour(control: Any) -> tuple[float, float, float]:
    """RGB from 0 to 1 of a control from 0 to 255."""
    return tuple(finite(value, 0, 255) / 255 for value in [*_listed(control.value), 0, 0, 0][:3])


def camera_numbers(camera: Any) -> tuple[tuple[float, ...], tuple[float, ...], float, int, int] | None:
    """wxyz, position, vertical field of view in radians, width and height of a browser's camera; None for an impossible
    one."""
    try:
        wxyz, position = tuple(map(float, camera.wxyz)), tuple(map(float, camera.position))
        fov, width, height = float(camera.fov), float(camera.image_width), float(camera.image_height)
    except (TypeError, ValueError, OverflowError, AttributeError):
        return None
    length = math.hypot(*wxyz) if len(wxyz) == 4 else 0.0
    possible = 1e-6 < length < 1e6 and len(position) == 3 and max(map(abs, position)) <= FARTHEST and math.isfinite(fov)
    if not possible or not math.isfinite(sum(map(abs, position)) + width + height):
        return None
    sides = [int(min(max(side, 1), LARGEST_SCREEN)) for side in (width, height)]
    return wxyz, position, min(max(fov, FOV[0]), FOV[1]), *sides


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []
