"""Depth supervision by the sparse points of the reconstruction."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from splat.camera import Camera


def disparity_loss(depth: Tensor, camera: Camera, points: Tensor, pixels: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean |1/d − 1/z| over keypoints, in 1/world units; differentiable in ``depth``.

    Args:
        depth: (H, W) expected z-depth of a rendering, 0 where nothing is seen (disparity 0 there, without gradient).
        points: (M, 3) world positions of the sparse points measured in this view.
        pixels: (M, 2) where they were measured, pixels (x, y), pixel centres at +0.5.
        mask: (H, W) bool; keypoints on False pixels do not count.
    """
    height, width = depth.shape
    z = camera.project(points)[1].to(depth)
    pixels = pixels.to(depth)
    column, row = pixels[:, 0].floor().long(), pixels[:, 1].floor().long()
    use = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    if mask is not None:
        use &= mask.to(use.device)[row.clamp(0, height - 1), column.clamp(0, width - 1)]
    if not use.any():
        return depth.sum() * 0
    positions = pixels[use] / pixels.new_tensor([width, height]) * 2 - 1
    sampled = grid_sample(depth[None, None], positions[None, None], align_corners=False, padding_mode="border")[0, 0, 0]
    seen = sampled > 0
    disparity = torch.where(seen, 1 / torch.where(seen, sampled, torch.ones_like(sampled)), torch.zeros_like(sampled))
    return (disparity - 1 / z[use]).abs().mean()
