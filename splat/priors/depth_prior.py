"""The parts that compare rendered depth and normals with a prior's."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.camera import Camera
from splat.depth.multi_view_stereo import DepthMap
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
    priors = [(inverse(own.depth)[0], own.confidence) for own in maps]

    def penalty(rendering: Rendering, view: TrainingView, context: StepContext) -> tuple[float, ImageGradients]:
        if view.index is None:
            return 0.0, ImageGradients()
        prior, sure = (each.to(rendering.depth.device) for each in priors[view.index])
        sure = sure * _counting(rendering, view)
        depth = rendering.depth.detach().requires_grad_()
        disparity, known = inverse(depth)
        sure = sure * known
        loss = correlation_loss(disparity, prior, sure)
        loss = weight * (loss + _LOCAL * local_correlation_loss(disparity, prior, sure, seed, context.step))
        loss.backward()
        return float(loss.detach()), ImageGradients(depth=depth.grad.nan_to_num(0.0, 0.0, 0.0))

    return TrainingHook("depth", needs=frozenset({"depth"}), penalty=penalty)


def normal_hook(maps: Sequence[DepthMap], cameras: Sequence[Camera], weight: float) -> TrainingHook:
    """Minimises ``weight`` × mean (1 − cosine) between rendered normals and those of the prior depth's surface."""
    priors = []
    for own, camera in zip(maps, cameras, strict=True):
        normals, known = surface_normals(own.depth, camera)
        priors.append((normals, own.confidence * known))

    def penalty(rendering: Rendering, view: TrainingView, context: StepContext) -> tuple[float, ImageGradients]:
        if view.index is None:
            return 0.0, ImageGradients()
        prior, sure = (each.to(rendering.normal.device) for each in priors[view.index])
        sure = sure * _counting(rendering, view)
        normal = rendering.normal.detach().requires_grad_()
        cosine = torch.nn.functional.cosine_similarity(normal, prior, dim=-1, eps=1e-4)
        loss = weight * (sure * (1 - cosine)).sum() / sure.sum().clamp_min(1)
        loss.backward()
        return float(loss.detach()), ImageGradients(normal=normal.grad)

    return TrainingHook("normal", needs=frozenset({"normal"}), penalty=penalty)


def surface_normals(depth: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Normals (H, W, 3) in camera axes, facing the camera, of a z-depth map (H, W), and where they are known (H, W).

    From central differences of the surface's points; unknown at the border, beside unknown depths and across jumps.
    """
    height, width = depth.shape
    x = (torch.arange(width) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(height) + 0.5 - camera.cy) / camera.fy
    points = torch.stack([x * depth, y[:, None] * depth, depth], -1)
    known = torch.zeros(height, width, dtype=torch.bool)
    normals = torch.zeros(height, width, 3)
    across, down = points[1:-1, 2:] - points[1:-1, :-2], points[2:, 1:-1] - points[:-2, 1:-1]
    normal = torch.nn.functional.normalize(torch.linalg.cross(down, across), dim=-1)
    middle = depth[1:-1, 1:-1]
    # Camera axes: z forward, so a normal that faces the camera has a negative product with the ray.
    away = (normal * points[1:-1, 1:-1]).sum(-1, keepdim=True) > 0
    normals[1:-1, 1:-1] = torch.where(away, -normal, normal)
    neighbours = (depth[1:-1, 2:], depth[1:-1, :-2], depth[2:, 1:-1], depth[:-2, 1:-1])
    smooth = middle > 0
    for other in neighbours:
        smooth &= (other > 0) & ((other - middle).abs() < 0.05 * middle)
    known[1:-1, 1:-1] = smooth
    return normals, known


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
