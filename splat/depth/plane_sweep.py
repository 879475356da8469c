"""Plane-sweep stereo: the depth of every pixel of one photo from a few others, without learned weights.

Planes parallel to the picture sweep through the scene; on each, the other photos are warped onto the reference by a
homography and compared in small windows (Collins, "A space-sweep approach to true multi-image matching", CVPR 1996).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from splat.camera import Camera
from splat.depth.sgm import aggregate

WINDOW = 7  # pixels a side
WORST = 1.0  # cost of a pixel that no other photo shows, or that matches not at all
_FLAT = 4.0  # grey levels², variance that every window is taken to have: noise in flat ones must not correlate
_MAX_PLANES, _MIN_PLANES = 256, 48
_STEP = 0.75  # pixels by which neighbouring planes differ in the photo that sees the largest shift


@dataclass(frozen=True)
class Picture:
    """A photo for matching.

    Attributes:
        camera: pinhole, at the size of ``grey``.
        grey: (H, W) float32, 0 to 255.
        mask: (H, W) bool, False where pixels are not to be used; None uses all.
    """

    camera: Camera
    grey: np.ndarray
    mask: np.ndarray | None = None

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) intrinsics of the pixel grid whose centres lie at whole numbers."""
        c = self.camera
        return np.array([[c.fx, 0, c.cx - 0.5], [0, c.fy, c.cy - 0.5], [0, 0, 1]])

    @property
    def world_to_camera(self) -> np.ndarray:
        """(4, 4) float64 world-to-camera."""
        return self.camera.world_to_camera.double().numpy()


def sweep(reference: Picture, sources: Sequence[Picture], near: float, far: float) -> tuple[np.ndarray, np.ndarray]:
    """Depth and confidence of each pixel of ``reference``.

    Args:
        sources: photos to compare with, at least one.
        near, far: z-depths between which the surface is searched, world units.

    Returns:
        depth (H, W) float32, z-depth, world units; confidence (H, W) float32 in [0, 1]: how well the best plane matches
        and how clearly it beats planes elsewhere.
    """
    inverse = planes(reference, sources, near, far)
    costs = cost_volume(reference, sources, inverse)
    total = aggregate(costs, reference.grey)
    plane, clarity = winner(total)
    depth = 1 / np.interp(plane, np.arange(len(inverse)), inverse)
    best = np.take_along_axis(costs, np.rint(plane).astype(np.int64)[..., None], 2)[..., 0]
    confidence = np.clip(1 - best / WORST, 0, 1) * clarity
    return depth.astype(np.float32), confidence.astype(np.float32)


def planes(reference: Picture, sources: Sequence[Picture], near: float, far: float) -> np.ndarray:
    """(D,) inverse depths from far to near, evenly spaced, so dense that sources shift by about `_STEP` pixels."""
    h, w = reference.grey.shape
    corners = np.array([[x, y, 1] for x in (0, w / 2, w) for y in (0, h / 2, h)], np.float64).T
    shift = 1.0
    for source in sources:
        rotation, offset = _relative(reference, source)
        rays = source.matrix @ rotation @ np.linalg.inv(reference.matrix) @ corners
        step = source.matrix @ offset[:, None]
        ends = [rays + step * value for value in (1 / far, 1 / near)]
        seen = (ends[0][2] > 1e-6) & (ends[1][2] > 1e-6)
        if seen.any():
            moved = ends[1][:2, seen] / ends[1][2, seen] - ends[0][:2, seen] / ends[0][2, seen]
            shift = max(shift, float(np.median(np.linalg.norm(moved, axis=0))))
    count = int(np.clip(np.ceil(shift / _STEP), _MIN_PLANES, _MAX_PLANES))
    return np.linspace(1 / far, 1 / near, count)


def cost_volume(reference: Picture, sources: Sequence[Picture], inverse: np.ndarray) -> np.ndarray:
    """(H, W, D) float32 matching costs 0 (equal) to `WORST`: one minus the correlation of windows, mean of the better
    half of the sources, so that a photo in which the surface is hidden does not spoil the others' agreement."""
    h, w = reference.grey.shape
    anchor = _moments(reference.grey)
    costs = np.empty((h, w, len(inverse)), np.float32)
    best = max(1, (len(sources) + 1) // 2)
    for index, value in enumerate(inverse):
        each = np.empty((len(sources), h, w), np.float32)
        for number, source in enumerate(sources):
            homography = _through_plane(reference, source, np.array([0.0, 0.0, value]))
            each[number] = _compare(anchor, reference.grey, source, homography)
        each.sort(axis=0)
        costs[:, :, index] = each[:best].mean(0)
    if reference.mask is not None:
        costs[~reference.mask] = WORST
    return costs


def compare_by(reference: Picture, source: Picture, plane: np.ndarray) -> np.ndarray:
    """(H, W) float32 matching costs, as of `cost_volume`, if the scene is a plane.

    Args:
        plane: (3,) m, with m · x = 1 for the plane's points x in the reference's camera axes.
    """
    homography = _through_plane(reference, source, plane)
    return _compare(_moments(reference.grey), reference.grey, source, homography)


def _through_plane(reference: Picture, source: Picture, plane: np.ndarray) -> np.ndarray:
    """(3, 3) homography, reference pixel → source pixel, of the points m · x = 1, m = ``plane``."""
    rotation, offset = _relative(reference, source)
    return source.matrix @ (rotation + offset[:, None] * plane[None]) @ np.linalg.inv(reference.matrix)


def winner(total: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Plane of least cost (H, W) with its fraction from a parabola, and its clarity (H, W) in [0, 1]: 0 where a plane
    elsewhere is as good, 1 where all others are twice as bad."""
    count = total.shape[2]
    index = total.argmin(2)
    inner = np.clip(index, 1, count - 2)
    before, at, after = (np.take_along_axis(total, (inner + k)[..., None], 2)[..., 0] for k in (-1, 0, 1))
    bend = before - 2 * at + after
    shift = np.where(bend > 1e-9, 0.5 * (before - after) / np.maximum(bend, 1e-9), 0)
    plane = np.where(index == inner, inner + np.clip(shift, -0.5, 0.5), index)
    least = np.take_along_axis(total, index[..., None], 2)[..., 0]
    apart = np.abs(np.arange(count) - index[..., None]) > 3
    second = np.where(apart, total, np.inf).min(2)
    return plane, np.clip(second / np.maximum(least, 1e-6) - 1, 0, 1)


def _relative(reference: Picture, source: Picture) -> tuple[np.ndarray, np.ndarray]:
    """Rotation (3, 3) and translation (3,) from the reference's camera to the source's."""
    motion = source.world_to_camera @ np.linalg.inv(reference.world_to_camera)
    return motion[:3, :3], motion[:3, 3]


def _moments(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance in the window around each pixel."""
    mean = cv2.blur(grey, (WINDOW, WINDOW))
    return mean, np.maximum(cv2.blur(grey * grey, (WINDOW, WINDOW)) - mean * mean, 0)


def _compare(
    anchor: tuple[np.ndarray, np.ndarray], grey: np.ndarray, source: Picture, homography: np.ndarray
) -> np.ndarray:
    """(H, W) cost of the source warped by ``homography`` (reference pixel → source pixel)."""
    size = (grey.shape[1], grey.shape[0])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpPerspective(source.grey, homography, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)
    inside = np.ones(source.grey.shape, np.uint8) if source.mask is None else source.mask.astype(np.uint8)
    inside = cv2.warpPerspective(inside, homography, size, flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP)
    mean, variance = _moments(warped)
    both = cv2.blur(grey * warped, (WINDOW, WINDOW)) - anchor[0] * mean
    correlation = both / np.sqrt((anchor[1] + _FLAT) * (variance + _FLAT))
    return np.where(inside > 0, np.clip(1 - correlation, 0, WORST), WORST).astype(np.float32)
