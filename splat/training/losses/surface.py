"""Regularisers that turn a cloud into surfaces: normals that agree with the depth, thin rays, flat Gaussians."""

import torch
from torch import Tensor

from splat.camera import Camera
from splat.depth.normals import normals_from_depth
from splat.rendering.types import ImageGradients, Rendering


def normal_consistency(depth: Tensor, normal: Tensor, alpha: Tensor, camera: Camera) -> Tensor:
    """Mean over the picture of α − N·n: blended normals N against normals n of the expected depth.

    Huang et al., "2D Gaussian Splatting", 2024, eq. 14. Differentiable in ``depth`` (H, W) and ``normal`` (H, W, 3);
    ``alpha`` (H, W) is a constant.
    """
    surface, known = normals_from_depth(depth, camera)
    return ((alpha.detach() - (surface * normal).sum(-1)) * known).mean()


def distortion(alpha: Tensor, depth: Tensor, square: Tensor) -> Tensor:
    """Mean over the picture of Σ_{i<j} wᵢ wⱼ (zᵢ − zⱼ)² / z̄²: how far a ray's blending weights are spread in depth.

    The depth distortion of Huang et al., "2D Gaussian Splatting", 2024, eq. 13, squared as in its code, with depths
    relative to the pixel's own z̄ (a constant) instead of in normalised device coordinates. The sum over pairs is
    Σw·Σwz² − (Σwz)², so ``alpha`` Σw, expected ``depth`` and expected ``square`` of the depth, (H, W) each, suffice.
    """
    scale = depth.detach().clamp_min(torch.finfo(depth.dtype).tiny ** 0.5)
    spread = square / scale**2 - (depth / scale) ** 2
    return torch.where(depth > 0, alpha**2 * spread, 0).mean()


def surface_gradients(
    rendering: Rendering, camera: Camera, normals: float, distorted: float
) -> tuple[float, ImageGradients]:
    """``normals`` times `normal_consistency` plus ``distorted`` times `distortion` of ``rendering``, and its gradients.

    The rendering has the pictures that the terms of non-zero weight need.
    """
    names = ("alpha", "depth", "normal", "square_depth")
    leaves = {name: getattr(rendering, name).detach() for name in names if getattr(rendering, name) is not None}
    for leaf in leaves.values():
        leaf.requires_grad_()
    loss = rendering.alpha.new_zeros(())
    if normals > 0:
        loss = loss + normals * normal_consistency(leaves["depth"], leaves["normal"], leaves["alpha"], camera)
    if distorted > 0:
        loss = loss + distorted * distortion(leaves["alpha"], leaves["depth"], leaves["square_depth"])
    loss.backward()
    return float(loss.detach()), ImageGradients(**{name: leaf.grad for name, leaf in leaves.items()})
