"""Rotations of `.splatz`: where an ellipsoid's symmetry axis points, and how far it is turned about it.

A disc shows where its short axis points and hardly how it is turned about it; a prolate ellipsoid likewise about its
long one. The direction is a point of a disc (Lambert's azimuthal equal-area map), so that even steps there are even
steps on the sphere. Half turns about own axes change no ellipsoid: direction and turn take up a quarter of all
rotations.
"""

import numpy as np

LIMIT = np.pi / 4  # of half the turn about the axis


def is_prolate(scale: np.ndarray) -> np.ndarray:
    """(N,) whether the long axis is the symmetry axis, from cells of sizes (N, 3) from long to short."""
    return scale[:, 0] - scale[:, 1] > scale[:, 1] - scale[:, 2]


def to_symmetry_axis(quats: np.ndarray, prolate: np.ndarray) -> np.ndarray:
    """(N, 3) direction of the symmetry axis (2) and half the angle about it, of unit quaternions (N, 4) w x y z."""
    w, x, y, z = _symmetry_axis_last(quats, prolate)
    over = w * w + z * z < x * x + y * y  # the other end of the axis is nearer: half a turn about x
    w, x, y, z = np.where(over, [-x, w, z, -y], [w, x, y, z])
    quarter = np.abs(z) > np.abs(w)  # half a turn about the axis itself
    w, x, y, z = np.where(quarter, [-z, y, -x, w], [w, x, y, z])
    sign = np.where(w < 0, -1.0, 1.0)
    w, x, y, z = w * sign, x * sign, y * sign, z * sign
    radius = np.sqrt(np.maximum(w * w + z * z, 1e-30))
    c, s = w / radius, z / radius
    return np.stack([x * c - y * s, y * c + x * s, np.arctan2(z, w)], 1)


def from_symmetry_axis(parts: np.ndarray, prolate: np.ndarray) -> np.ndarray:
    """The inverse of `to_symmetry_axis`, up to half turns about own axes; any numbers give unit quaternions (N, 4)."""
    a, b, half = parts.T
    beyond = np.maximum(np.hypot(a, b), 1e-30)
    shrink = np.minimum(1, 0.5**0.5 / beyond)
    a, b, half = a * shrink, b * shrink, np.clip(half, -LIMIT, LIMIT)
    m = np.sqrt(np.maximum(1 - a * a - b * b, 0))
    c, s = np.cos(half), np.sin(half)
    x, y, z = a * c + b * s, b * c - a * s, m * s
    x, y, z = np.where(prolate, [z, x, y], [x, y, z])
    return np.stack([m * c, x, y, z], 1)


def nearest_equivalent(quats: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Of the rotations that give the same ellipsoids as ``quats`` (N, 4), those nearest to ``like`` (N, 4)."""
    w, x, y, z = quats.T
    same = np.stack([[w, x, y, z], [-x, w, z, -y], [-y, -z, w, x], [-z, y, -x, w]]).transpose(0, 2, 1)
    dots = (same * like).sum(2)
    best = np.abs(dots).argmax(0)[None, :, None]
    sign = np.where(np.take_along_axis(dots[..., None], best, 0)[0] < 0, -1.0, 1.0)
    return np.take_along_axis(same, best, 0)[0] * sign


def _symmetry_axis_last(quats: np.ndarray, prolate: np.ndarray) -> np.ndarray:
    """Parts w x y z with the axes exchanged in a ring so that the symmetry axis is z."""
    w, x, y, z = quats.T
    return np.where(prolate, [w, y, z, x], [w, x, y, z])
