"""Stereo matchers: from a rectified pair to disparity.

A matcher is any callable `(left, right, low, high) -> disparity`: two (H, W, 3) uint8 RGB pictures and the disparities
between which the surface lies, in pixels; the result is (H, W) float32, x_left − x_right, NaN where it does not know.
`both_ways` runs it in both directions (mirrored) and keeps what agrees, so a matcher need not check itself.
"""

import importlib
import math
from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from splat.errors import InputError

Matcher = Callable[[NDArray[np.uint8], NDArray[np.uint8], float, float], NDArray[np.float32]]

BLOCK = 3  # pixels; larger windows lost more at edges than they won (docs/mesh.md)
SMALL, LARGE = 8, 32  # costs of a disparity change by one and by more, per pixel of the window
PREFILTER = 63


def semiglobal(left: NDArray[np.uint8], right: NDArray[np.uint8], low: float, high: float) -> NDArray[np.float32]:
    """Semi-global matching (Hirschmüller, PAMI 2008) as OpenCV has it: no weights, about 0.3 s for 0.5 Mpx."""
    first = max(int(math.floor(low)) - 1, 0)
    count = max(16 * math.ceil((high + 2 - first) / 16), 16)
    area = BLOCK * BLOCK
    method = cv2.StereoSGBM_create(
        minDisparity=first,
        numDisparities=count,
        blockSize=BLOCK,
        P1=SMALL * area,
        P2=LARGE * area,
        disp12MaxDiff=-1,  # both directions are compared by the pipeline
        preFilterCap=PREFILTER,
        uniquenessRatio=0,
        mode=cv2.STEREO_SGBM_MODE_SGBM_3WAY,
    )
    # OpenCV leaves a stripe as wide as the largest disparity blank on the left: give it one to leave.
    pad = first + count
    wide = [cv2.copyMakeBorder(each, 0, 0, pad, 0, cv2.BORDER_REPLICATE) for each in (left, right)]
    disparity = method.compute(*wide)[:, pad:].astype(np.float32) / 16
    return np.where(disparity > first - 0.5, disparity, np.nan)


def learned(model: Callable, multiple: int = 32) -> Matcher:
    """A matcher from a network such as RAFT-Stereo, IGEV-Stereo or FoundationStereo.

    Args:
        model: called with two (1, 3, H, W) float32 tensors, RGB from 0 to 255, sides a multiple of ``multiple``;
            gives disparity (positive, left to right) as any tensor with H·W elements, or a list of them, the last best.
            Wrap a network whose outputs differ: ``learned(lambda a, b: -raft(a, b, iters=32, test_mode=True)[1])``.
        multiple: pictures are padded to it at the top and right, by repetition.
    """
    import torch

    def match(left: NDArray[np.uint8], right: NDArray[np.uint8], low: float, high: float) -> NDArray[np.float32]:
        height, width = left.shape[:2]
        top, side = -height % multiple, -width % multiple
        padded = [cv2.copyMakeBorder(each, top, 0, 0, side, cv2.BORDER_REPLICATE) for each in (left, right)]
        tensors = [torch.from_numpy(each).permute(2, 0, 1)[None].float() for each in padded]
        with torch.no_grad():
            output = model(*tensors)
        if isinstance(output, (list, tuple)):
            output = output[-1]
        disparity = output.detach().float().cpu().numpy().reshape(height + top, width + side)[top:, :width]
        return np.where(np.isfinite(disparity) & (disparity > 0), disparity, np.nan).astype(np.float32)

    return match


def load(name: str) -> Matcher:
    """The matcher ``name``: ``sgbm``, or ``package.module:function`` for one of the user's own.

    Raises InputError when there is no such function.
    """
    if name == "sgbm":
        return semiglobal
    module, _, function = name.partition(":")
    try:
        matcher = getattr(importlib.import_module(module), function or "match")
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"the matcher '{name}' cannot be loaded ({error}); give 'sgbm', or 'module:function' of a Python module "
            "on the path whose function takes (left, right, low, high) and returns disparities"
        ) from error
    if not callable(matcher):
        raise InputError(f"the matcher '{name}' is no function; give 'module:function'")
    return matcher


def both_ways(
    matcher: Matcher, left: NDArray[np.uint8], right: NDArray[np.uint8], low: float, high: float, tolerance: float
) -> NDArray[np.float32]:
    """Disparity (H, W) of ``left``; NaN unless matching ``right`` to it leads back within ``tolerance`` px."""
    there = matcher(left, right, low, high)
    mirrored = (np.ascontiguousarray(each[:, ::-1]) for each in (right, left))
    back = matcher(*mirrored, low, high)[:, ::-1]
    height, width = there.shape
    column = np.arange(width)[None]
    target = column - np.nan_to_num(there, nan=2.0 * width)
    inside = target >= 0
    nearest = np.clip(np.rint(target), 0, width - 1).astype(np.int64)
    returned = np.take_along_axis(back, nearest, 1)
    with np.errstate(invalid="ignore"):
        good = inside & (np.abs(returned - there) < tolerance) & (there > 0) & (there > low - 1) & (there < high + 1)
    return np.where(good, there, np.nan).astype(np.float32)
