"""The 3D smoothing filter of Yu et al. 2024, "Mip-Splatting", §4.1.

A Gaussian cannot be finer than the photo that shows it finest has pixels: it is drawn blurred by a filter of that size,
at an opacity that keeps its mass. The cloud that is written has the filter worked in.
"""

import functools

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.training.config.config import SmoothConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population
from splat.training.step_context import StepContext

FILTER = "filter"
"""Column of a cloud in training: standard deviation of each Gaussian's filter, world units."""
EVERY = 100  # steps between two measurements of the distances to the cameras, as in the released code
_NEAR = 0.2  # world units (extents, of a scene smaller than one); nearer views do not count
_MARGIN = 0.15  # of the picture's size, by which a centre may lie outside
_MOST = 1 - 1e-6  # opacity


def hook(config: SmoothConfig) -> TrainingHook:
    """The hook that filters with the settings ``config``."""

    def initialize(cloud: GaussianCloud) -> GaussianCloud:
        return cloud.replace(extras=dict(cloud.extras) | {FILTER: torch.zeros_like(cloud.logit_opacities)})

    return TrainingHook(
        "smooth",
        initialize=initialize,
        deform=lambda cloud, view: filtered(cloud),
        refine=functools.partial(refine, config),
    )


def filtered(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` with its filter worked in: s′ = √(s² + f²), o′ = o · √(Π s² / Π s′²)."""
    width = cloud.extras[FILTER].detach()[:, None]
    squares = (2 * cloud.log_scales).exp()
    wide = squares + width.square()
    log_ratio = 0.5 * (2 * cloud.log_scales - wide.log()).sum(1)
    opacity = (cloud.logit_opacities.sigmoid() * log_ratio.exp()).clamp(1e-7, _MOST)
    extras = {name: values for name, values in cloud.extras.items() if name != FILTER}
    return cloud.replace(log_scales=0.5 * wide.log(), logit_opacities=torch.logit(opacity), extras=extras)


def refine(config: SmoothConfig, population: Population, context: StepContext) -> None:
    """Measure the filter anew every `EVERY` steps and where rows were added or moved."""
    if context.step % EVERY == 1 % EVERY:
        sampler = context.view_sampler
        cameras = [sampler.view_at(index).camera for index in range(sampler.photos)]
        population.cloud.extras[FILTER].copy_(widths(population.cloud.means, cameras, config.filter, context.extent))


def widths(means: Tensor, cameras: list[Camera], variance: float, extent: float = 1.0) -> Tensor:
    """(N,) filter for points ``means`` (N, 3): √variance times the size of a pixel in the view that shows it finest.

    Points that no view shows get the largest of the others.
    """
    finest = torch.full((len(means),), torch.inf, device=means.device)
    nearest = _NEAR * min(1.0, extent)
    for camera in cameras:
        pixels, depth = camera.project(means)
        x, y = pixels[:, 0] / camera.width, pixels[:, 1] / camera.height
        inside = (depth > nearest) & (x > -_MARGIN) & (x < 1 + _MARGIN) & (y > -_MARGIN) & (y < 1 + _MARGIN)
        finest = torch.minimum(finest, torch.where(inside, depth / max(camera.fx, camera.fy), torch.inf))
    seen = finest.isfinite()
    largest = finest[seen].max() if bool(seen.any()) else finest.new_zeros(())
    return variance**0.5 * torch.where(seen, finest, largest)
