"""Lenses of other programs as COLMAP's camera models.

All take the polynomials of Brown (1971) over x/z, y/z, or for fisheyes over the angle to the axis: r (1 + k1 r² + k2 r⁴
+ k3 r⁶ + k4 r⁸). Coefficients of tangential distortion are in OpenCV's order: p1 goes with 2xy along x.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from splat.scene.undistort import Lens

_SAMPLES = 400  # radii at which a lens is fitted
_WIDEST = 10.0  # x/z of a corner; lenses that see more are no perspective ones
_ROUNDS = 5
_OFF = 0.05  # pixels by which a fitted lens may be off without a note


def brown_lens(
    focal: tuple[float, float],
    centre: tuple[float, float],
    k: Sequence[float],
    p: Sequence[float],
    size: tuple[int, int],
) -> tuple[Lens, float]:
    """The perspective lens with up to four radial coefficients, and by how many pixels it is off.

    COLMAP's models have no r⁸: with a fourth coefficient the rational FULL_OPENCV is fitted to the polynomial.

    Args:
        focal: along x and y, pixels.
        centre: principal point in pixels, the first pixel's centre at 0.5.
        k: (≤ 4) radial coefficients.
        p: (2) tangential coefficients, OpenCV's order.
        size: width, height.
    """
    k1, k2, k3, k4 = (*map(float, k), 0.0, 0.0, 0.0, 0.0)[:4]
    p1, p2 = map(float, p)
    places, off = (*map(float, focal), *map(float, centre)), 0.0
    if k4 and np.isfinite([*places, k1, k2, k3, k4]).all():
        corner = float(
            np.hypot(*(max(c, side - c) / max(f, 1e-9) for f, c, side in zip(focal, centre, size, strict=True)))
        )
        fitted, miss = _rational((k1, k2, k3, k4), corner)
        return Lens("FULL_OPENCV", (*places, *fitted[:2], p1, p2, *fitted[2:]), *size), miss * max(focal)
    if k3:
        return Lens("FULL_OPENCV", (*places, k1, k2, p1, p2, k3, 0.0, 0.0, 0.0), *size), off
    if k1 or k2 or p1 or p2:
        return Lens("OPENCV", (*places, k1, k2, p1, p2), *size), off
    return Lens("PINHOLE", places, *size), off


def fisheye_lens(
    focal: tuple[float, float],
    centre: tuple[float, float],
    k: Sequence[float],
    p: Sequence[float],
    size: tuple[int, int],
) -> Lens:
    """The equidistant lens with up to four coefficients; arguments as of `brown_lens`."""
    k1, k2, k3, k4 = (*map(float, k), 0.0, 0.0, 0.0, 0.0)[:4]
    p1, p2 = map(float, p)
    places = (*map(float, focal), *map(float, centre))
    if p1 or p2:
        return Lens("THIN_PRISM_FISHEYE", (*places, k1, k2, p1, p2, k3, k4, 0.0, 0.0), *size)
    return Lens("OPENCV_FISHEYE", (*places, k1, k2, k3, k4), *size)


def off_note(off: float) -> list[str]:
    """A sentence where a fitted lens is visibly off."""
    if off <= _OFF:
        return []
    return [f"the lens has coefficients that no camera model here takes; the one used is off by up to {off:.2g} pixels"]


@lru_cache(maxsize=1024)
def _rational(k: tuple[float, float, float, float], corner: float) -> tuple[tuple[float, ...], float]:
    """(k1 … k6) of the rational model nearest to the polynomial ``k`` out to ``corner``, and its largest error there.

    Distances are of x/z. The polynomial is followed as far as it grows; beyond, no ray comes from where it says.
    """
    radii = np.linspace(0, min(corner * 3, _WIDEST), _SAMPLES * 3)[1:]
    gain = 1 + sum(c * radii ** (2 * power) for power, c in enumerate(k, 1))
    reach = radii * gain
    inside = np.logical_and.accumulate(np.diff(reach, prepend=0) > 0) & (reach <= corner)
    radii, gain = radii[inside], gain[inside]
    if len(radii) < 10:
        return (*k[:3], 0.0, 0.0, 0.0), float(abs(k[3]) * corner**9)
    unit = radii[-1]
    powers = np.stack([(radii / unit) ** 2, (radii / unit) ** 4, (radii / unit) ** 6], 1)
    found, weight = np.zeros(6), radii
    for _ in range(_ROUNDS):  # divided by the last denominator, the linear equations weigh errors in pixels
        rows = np.concatenate([powers, -gain[:, None] * powers], 1) * weight[:, None]
        found = np.linalg.lstsq(rows, (gain - 1) * weight, rcond=1e-12)[0]
        weight = radii / np.abs(1 + powers @ found[3:]).clip(1e-3)
    off = np.abs(radii * ((1 + powers @ found[:3]) / (1 + powers @ found[3:]) - gain)).max()
    scale = unit ** -np.array([2.0, 4.0, 6.0])
    return (*(found[:3] * scale).tolist(), *(found[3:] * scale).tolist()), float(off)
