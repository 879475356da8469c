"""Depth by stereo between renderings of a cloud: GS2Mesh (Wolf et al., ECCV 2024) with up to four pairs a view."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera
from splat.depth.stereo_matcher import Matcher, both_ways
from splat.surface.depth.stereo_rig import StereoCamera, texture

RETURN = 1.0  # pixels: left–right consistency
AGREE = 1.0  # pixels of disparity within which two pairs mean the same surface
RANGE = (0.8, 1.3)  # of the nearest and the farthest rendered depth: where matches are looked for
FAR = 20.0  # baselines, as far as GS2Mesh trusts a pair: farther, half a pixel is 2 % of the depth and more
NARROW_WEIGHT = 0.05  # of what the narrow pair says beyond that, where the wide one says nothing
WIDEST = 0.4  # of the picture's side: the largest disparity looked for


def stereo_depth(
    camera: Camera,
    rgb: NDArray[np.uint8],
    pairs: Sequence[tuple[StereoCamera, NDArray[np.uint8]]],
    span: tuple[float, float],
    matcher: Matcher,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Depth of one view, and its weight.

    Args:
        camera: of the view; ``rgb`` (H, W, 3) is its picture.
        pairs: the second camera of each pair and its picture.
        span: nearest and farthest depth to expect, world units.

    Returns:
        (H, W) float32 z-depth, 0 where no pair found any; and its (H, W) weight, texture times baseline, 0 there.
    """
    inverse, weights = [], []
    for second, picture in pairs:
        left, right = second.rectified(rgb), second.rectified(picture)
        scale = second.focal(camera) * second.baseline
        high = min(scale / (RANGE[0] * span[0]), WIDEST * left.shape[1])
        low = scale / (RANGE[1] * span[1])
        if high <= low:
            continue
        disparity = second.unrectified(both_ways(matcher, left, right, low, high, RETURN))
        known = np.isfinite(disparity)
        inverse.append(np.where(known, disparity / scale, 0).astype(np.float32))
        weights.append(np.where(known, second.unrectified(texture(left)) * second.baseline, 0).astype(np.float32))
    if not inverse:
        empty = np.zeros(rgb.shape[:2], np.float32)
        return empty, empty
    tolerance = AGREE / max(second.focal(camera) * second.baseline for second, _ in pairs)
    value, weight = consensus(np.stack(inverse), np.stack(weights), tolerance)
    return np.where(value > 0, 1 / np.maximum(value, 1e-12), 0).astype(np.float32), weight


def with_far(
    narrow: tuple[NDArray, NDArray], wide: tuple[NDArray, NDArray], beyond: NDArray[np.bool_], limit: float
) -> tuple[NDArray, NDArray]:
    """Depth and weight (H, W) of a narrow pair, and of a wide one where ``beyond`` says that the surface is far.

    Matches of the wide pair nearer than four fifths of ``limit`` are none: it did not look there.
    """
    use = beyond & (wide[0] > 0.8 * limit)
    left = beyond & ~use
    depth = np.where(use, wide[0], narrow[0])
    weight = np.where(use, wide[1], np.where(left & (narrow[0] > 0), NARROW_WEIGHT, narrow[1]))
    return depth, weight


def consensus(
    values: NDArray[np.float32], weights: NDArray[np.float32], tolerance: float
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Per pixel the weighted mean of the heaviest group of ``values`` (P, H, W) that lie within ``tolerance`` of one.

    Values of 0 are unknown. Returns the mean (H, W) and the group's weight (H, W), both 0 where all are unknown.
    """
    best, heaviest = np.zeros_like(values[0]), np.zeros_like(values[0])
    for value in values:
        near = np.where((np.abs(values - value) < tolerance) & (values > 0) & (value > 0), weights, 0)
        total = near.sum(0)
        better = total > heaviest
        best[better] = ((near * values).sum(0)[better]) / total[better]
        heaviest[better] = total[better]
    return best, heaviest
