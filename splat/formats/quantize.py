"""What lossy writers share: a clean float32 cloud, rounding to integers, quaternions by their three smallest parts."""

from pathlib import Path

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError

# Opacities 0 and 1 have infinite logits; formats of 8 bits cannot tell them from these.
MIN_ALPHA = 1e-6
SQRT2 = 2**0.5
ROWS = 1 << 17


def broken(cloud: GaussianCloud) -> torch.Tensor:
    """(N,) mask of Gaussians that mean nothing: NaN anywhere, or infinite where infinity has no sense.

    Infinite opacity logits mean 0 and 1, and a log scale of -inf means flat, so that these are not broken.
    """
    bad = torch.zeros(len(cloud), dtype=torch.bool, device=cloud.device)
    for first in range(0, len(cloud), ROWS):  # in pieces: the test needs memory like its input
        rows = slice(first, first + ROWS)
        for tensor in (cloud.means, cloud.quats, cloud.sh):
            bad[rows] |= ~tensor[rows].flatten(1).isfinite().all(1)
    bad |= cloud.logit_opacities.isnan() | cloud.log_scales.isnan().any(1)
    return bad | (cloud.log_scales == torch.inf).any(1)


def prepare(cloud: GaussianCloud, path: Path, max_degree: int = 4) -> GaussianCloud:
    """``cloud`` on the CPU in float32 with SH up to ``max_degree``, for a format that cannot hold NaN.

    Raises InputError when Gaussians are ``broken``.
    """
    cloud = cloud.detach().to("cpu", torch.float32)
    bad = int(broken(cloud).sum())
    if bad:
        raise InputError(
            f"{path}: {bad:,} of {len(cloud):,} Gaussians hold NaN or infinite values, which this format cannot "
            "store; drop them with `splat convert` or cloud.select(cloud.finite())"
        )
    return cloud.with_sh_degree(max_degree) if cloud.sh_degree > max_degree else cloud


def without_zero_bands(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` without the highest SH bands that are zero everywhere: they cost bytes and say nothing."""
    degree = cloud.sh_degree
    while degree and not cloud.sh[:, degree * degree :].any():
        degree -= 1
        cloud = cloud.with_sh_degree(degree)
    return cloud


def to_uint(values: np.ndarray, top: int, dtype: type = np.uint8) -> np.ndarray:
    """``values`` rounded to the nearest integer and clamped to [0, top]."""
    return np.clip(np.rint(values), 0, top).astype(dtype)


def alphas(cloud: GaussianCloud) -> np.ndarray:
    """(N,) opacities in [0, 1], float32."""
    return cloud.logit_opacities.sigmoid().numpy()


def logits(alpha: np.ndarray) -> np.ndarray:
    """(N,) finite float32 logits of opacities, those of 0 and 1 limited by ``MIN_ALPHA``."""
    alpha = np.clip(alpha.astype(np.float64), MIN_ALPHA, 1 - MIN_ALPHA)
    return np.log(alpha / (1 - alpha)).astype(np.float32)


def unit_quats(cloud: GaussianCloud) -> np.ndarray:
    """(N, 4) float32 unit quaternions w x y z; a zero quaternion becomes the identity."""
    quats = cloud.quats.numpy()
    # Dividing by the largest part first keeps tiny and huge quaternions from under- and overflowing.
    largest = np.abs(quats).max(1, keepdims=True) if len(quats) else quats[:, :1]
    safe = np.where(largest > 0, quats / np.where(largest > 0, largest, 1), np.float32([1, 0, 0, 0]))
    return (safe / np.linalg.norm(safe, axis=1, keepdims=True)).astype(np.float32)


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit quaternions (N, 4) → index (N,) of the largest part, and the other three (N, 3) in order.

    The sign is chosen so that the left-out part is positive; the three lie in [-1/√2, 1/√2].
    """
    index = np.abs(quats).argmax(1)
    rows = np.arange(len(quats))
    sign = np.where(quats[rows, index] < 0, -1, 1).astype(quats.dtype)
    others = (np.arange(3)[None] + (np.arange(3)[None] >= index[:, None])).astype(np.intp)
    return index, quats[rows[:, None], others] * sign[:, None]


def from_smallest_three(index: np.ndarray, three: np.ndarray) -> np.ndarray:
    """The inverse of ``smallest_three``: (N, 4) float32 quaternions in the same part order."""
    quats = np.empty((len(three), 4), np.float32)
    others = (np.arange(3)[None] + (np.arange(3)[None] >= index[:, None])).astype(np.intp)
    rows = np.arange(len(three))
    quats[rows[:, None], others] = three
    quats[rows, index] = np.sqrt(np.maximum(0, 1 - np.square(three, dtype=np.float32).sum(1)))
    return quats
