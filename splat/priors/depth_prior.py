"""Depth and normal priors: rendered depth and normals compared with those of stereo or of a network.

The depth loss is the Pearson correlation of inverse depths, over whole photos and over boxes in them (FSGS, Zhu et al.,
ECCV 2024; SparseGS, Xiong et al. 2023), which needs no scale.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.depth.depth_maps import DepthMap
from splat.depth.normals import normals_from_depth
from splat.rendering.types import ImageGradients, Rendering
from splat.training.hooks.hook import TrainingHook
from splat.training.rng import generator
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

BOX = 0.25  # side of a box, in shorter sides of the picture
BOXES = 8
_FEWEST = 32  # pixels that a box must know
_EPS = 1e-8

_LOCAL = 1.0  # weight of the boxes beside the whole picture
_COVERED = 0.1  # alpha from which a rendered depth means something


def depth_hook(maps: Sequence[DepthMap], weight: float, seed: int) -> TrainingHook:
    """Minimises ``weight`` × (1 − correlation) of inverse depths, over each photo and over boxes in it."""
    priors = [(inverse(torch.from_numpy(each.depth))[0], torch.from_numpy(each.confidence)) for each in maps]

    def penalty(rendering: Rendering, view: TrainingView, context: StepContext) -> tuple[float, ImageGradients]:
        if view.index is None:
            return 0.0, ImageGradients()
        prior, confidence = (each.to(rendering.depth.device) for each in priors[view.index])
        confidence = confidence * _counting(rendering, view)
        depth = rendering.depth.detach().requires_grad_()
        disparity, known = inverse(depth)
        confidence = confidence * known
        loss = correlation_loss(disparity, prior, confidence)
        loss = weight * (loss + _LOCAL * local_correlation_loss(disparity, prior, confidence, seed, context.step))
        loss.backward()
        return float(loss.detach()), ImageGradients(depth=depth.grad.nan_to_num(0.0, 0.0, 0.0))

    return TrainingHook("depth", needs=frozenset({"depth"}), penalty=penalty)


def normal_hook(maps: Sequence[DepthMap], weight: float) -> TrainingHook:
    """Minimises ``weight`` × mean (1 − cosine) between rendered normals and those of the prior depth's surface."""
    priors = []
    for each in maps:
        normals, known = normals_from_depth(torch.from_numpy(each.depth), each.camera)
        priors.append((normals, torch.from_numpy(each.confidence) * known))

    def penalty(rendering: Rendering, view: TrainingView, context: StepContext) -> tuple[float, ImageGradients]:
        if view.index is None:
            return 0.0, ImageGradients()
        prior, confidence = (each.to(rendering.normal.device) for each in priors[view.index])
        confidence = confidence * _counting(rendering, view)
        normal = rendering.normal.detach().requires_grad_()
        cosine = torch.nn.functional.cosine_similarity(normal, prior, dim=-1, eps=1e-4)
        loss = weight * (confidence * (1 - cosine)).sum() / confidence.sum().clamp_min(1)
        loss.backward()
        return float(loss.detach()), ImageGradients(normal=normal.grad)

    return TrainingHook("normal", needs=frozenset({"normal"}), penalty=penalty)


def _counting(rendering: Rendering, view: TrainingView) -> Tensor:
    """(H, W) 1.0 where something is drawn and the photo's mask counts."""
    counting = rendering.alpha.detach() > _COVERED
    if view.photo.mask is not None:
        counting &= view.photo.mask.to(counting.device)
    return counting.float()


def correlation_loss(depth: Tensor, prior: Tensor, weight: Tensor) -> Tensor:
    """1 − weighted Pearson correlation of two maps; 0 where next to nothing is known. Differentiable in ``depth``.

    Args:
        depth, prior: (H, W), in the same kind of unit up to a positive scale and an offset.
        weight: (H, W) ≥ 0, confidence of ``prior``; 0 excludes a pixel.
    """
    total = weight.sum()
    if int((weight > 0).sum()) < _FEWEST:
        return depth.sum() * 0
    weight = weight / total
    a, b = depth - (weight * depth).sum(), prior - (weight * prior).sum()
    variance_a, variance_b = (weight * a * a).sum(), (weight * b * b).sum()
    return 1 - (weight * a * b).sum() / (variance_a * variance_b + _EPS * _EPS).sqrt().clamp_min(_EPS)


def local_correlation_loss(depth: Tensor, prior: Tensor, weight: Tensor, seed: int, step: int) -> Tensor:
    """Mean of `correlation_loss` over `BOXES` boxes at positions drawn for this ``step``."""
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
