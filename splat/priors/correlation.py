"""Comparing a rendered depth with a prior depth whose scale nobody knows: Pearson's correlation, global and local.

LM-Gaussian (Yu et al. 2024) and SparseGS (Xiong et al. 2023) minimise 1 − correlation over the picture and over random
boxes: the first sorts out the layout, the second the shapes.
"""

import torch
from torch import Tensor

from splat.training.rng import generator

BOX = 0.25  # side of a box, in shorter sides of the picture
BOXES = 8
_FEWEST = 32  # pixels that a box must know
_EPS = 1e-8


def correlation_loss(depth: Tensor, prior: Tensor, weight: Tensor) -> Tensor:
    """1 − weighted Pearson correlation of two maps; 0 where next to nothing is known. Differentiable in ``depth``.

    Args:
        depth, prior: (H, W), in the same kind of unit up to a positive scale and an offset.
        weight: (H, W) ≥ 0, confidence of ``prior``; 0 excludes a pixel.
    """
    total = weight.sum()
    if int((weight > 0).sum()) < _FEWEST:
        return depth.sum() * 0
    share = weight / total
    a, b = depth - (share * depth).sum(), prior - (share * prior).sum()
    variance_a, variance_b = (share * a * a).sum(), (share * b * b).sum()
    return 1 - (share * a * b).sum() / (variance_a * variance_b + _EPS * _EPS).sqrt().clamp_min(_EPS)


def local_correlation_loss(depth: Tensor, prior: Tensor, weight: Tensor, seed: int, step: int) -> Tensor:
    """Mean of `correlation_loss` over `BOXES` boxes at places drawn for this ``step``."""
    height, width = depth.shape
    side = max(8, int(BOX * min(height, width)))
    source = generator(seed, "boxes", step)
    tops = torch.randint(max(1, height - side + 1), (BOXES,), generator=source).tolist()
    lefts = torch.randint(max(1, width - side + 1), (BOXES,), generator=source).tolist()
    losses = []
    for top, left in zip(tops, lefts, strict=True):
        box = (slice(top, top + side), slice(left, left + side))
        losses.append(correlation_loss(depth[box], prior[box], weight[box]))
    return torch.stack(losses).mean()


def inverse(depth: Tensor) -> tuple[Tensor, Tensor]:
    """1/depth where depth > 0, else 0, and where it is."""
    known = depth > 0
    return torch.where(known, 1 / torch.where(known, depth, torch.ones_like(depth)), torch.zeros_like(depth)), known
