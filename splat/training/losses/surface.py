"""Regularisers that turn a cloud into surfaces: normals that agree with the depth, thin rays, flat Gaussians."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering.types import ImageGradients, Rendering
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import Part
from splat.training.losses.image import Shot, When
from splat.training.population import Population
from splat.training.strategies import Moment

STEEP = 0.05  # change of depth over two pixels, as a share of it, that counts as the edge of an object
FLATTEST = 0.05  # shortest axis, in middle axes, below which a Gaussian is flat enough


def parts(config: TrainConfig) -> tuple[Part, ...]:
    """The regularisers that ``config.surface`` switches on, as a part of the run."""
    own = config.surface
    if own.normals == 0 and own.distortion == 0 and own.flatten == 0:
        return ()

    def judge(rendering: Rendering, shot: Shot, when: When) -> tuple[float, ImageGradients]:
        if when.fraction < own.start:
            return 0.0, ImageGradients()
        return surface_gradients(rendering, shot.camera, own.normals, own.distortion)

    def refine(population: Population, moment: Moment) -> None:
        flatten(population.cloud, own.flatten * config.rates.scales)

    needs = {"depth", "normal"} if own.normals > 0 else set()
    needs |= {"depth", "square_depth"} if own.distortion > 0 else set()
    judge_if, refine_if = judge if needs else None, refine if own.flatten > 0 else None
    return (Part("surface", needs=frozenset(needs), judge=judge_if, refine=refine_if),)


def normals_of_depth(depth: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Unit normals of the surface that a depth map shows, by central differences of its points.

    Args:
        depth: (H, W) z-depth, world units, 0 where nothing is seen.

    Returns:
        (H, W, 3) normals in camera axes, facing the camera, and (H, W) bool where they are known: not at the border of
        the picture, beside pixels without depth, or at edges of objects. Differentiable in ``depth`` there.
    """
    height, width = depth.shape
    x = (torch.arange(width, dtype=depth.dtype, device=depth.device) + 0.5 - camera.cx) / camera.fx
    y = (torch.arange(height, dtype=depth.dtype, device=depth.device) + 0.5 - camera.cy) / camera.fy
    points = torch.stack([x * depth, y[:, None] * depth, depth], -1)
    across = points[1:-1, 2:] - points[1:-1, :-2]
    down = points[2:, 1:-1] - points[:-2, 1:-1]
    known = torch.zeros(height, width, dtype=torch.bool, device=depth.device)
    with torch.no_grad():
        middle = depth[1:-1, 1:-1]
        seen = (middle > 0) & (depth[1:-1, 2:] > 0) & (depth[1:-1, :-2] > 0)
        seen &= (depth[2:, 1:-1] > 0) & (depth[:-2, 1:-1] > 0)
        known[1:-1, 1:-1] = seen & (torch.maximum(across[..., 2].abs(), down[..., 2].abs()) < STEEP * middle)
    inner = normalize(torch.linalg.cross(down, across), dim=-1, eps=1e-20)
    return torch.nn.functional.pad(inner, (0, 0, 1, 1, 1, 1)), known


def normal_consistency(depth: Tensor, normal: Tensor, alpha: Tensor, camera: Camera) -> Tensor:
    """Mean over the picture of α − N·n: blended normals N against normals n of the expected depth.

    Huang et al., "2D Gaussian Splatting", 2024, eq. 14. Differentiable in ``depth`` (H, W) and ``normal`` (H, W, 3);
    ``alpha`` (H, W) is a constant.
    """
    surface, known = normals_of_depth(depth, camera)
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


def flatten(cloud: GaussianCloud, rate: float) -> None:
    """Shrink the shortest axis of every Gaussian by the factor exp(−``rate``), in place, until it is `FLATTEST`.

    The aim of PGSR's flattening loss (Chen et al. 2024, eq. 1) as decoupled decay: the shrinkage per step is known and
    does not pass through Adam's moments.
    """
    ordered, order = cloud.log_scales.sort(dim=1)
    floor = ordered[:, 1] + torch.log(ordered.new_tensor(FLATTEST))
    shrunk = torch.minimum(ordered[:, 0], torch.maximum(ordered[:, 0] - rate, floor))
    cloud.log_scales.scatter_(1, order[:, :1], shrunk[:, None])
