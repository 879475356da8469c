"""Removing floaters: Gaussians that hang before the surface a photo is known to show there."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth.multi_view_stereo import DepthMap
from splat.training import population as edit
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population
from splat.training.schedules import crossed
from splat.training.step_context import StepContext

_BEFORE = 0.85  # of the surface's depth: what is nearer than this floats
_SURE = 0.5  # confidence from which the surface counts
_VIEWS = 1  # so many views must see it float
_STOP = 0.9  # fraction of the run after which nothing is removed, so that holes can close


def hook(maps: Sequence[DepthMap], cameras: Sequence[Camera], every: float) -> TrainingHook:
    """Removes floaters each ``every`` of the run."""
    return TrainingHook("floaters", refine=functools.partial(_refine, maps, cameras, every))


def _refine(
    maps: Sequence[DepthMap], cameras: Sequence[Camera], every: float, population: Population, context: StepContext
):
    if context.fraction < _STOP and crossed(every, context.previous_fraction, context.fraction):
        floating = floaters(population.cloud, maps, cameras)
        if bool(floating.any()) and not bool(floating.all()):
            edit.keep(population, ~floating)


def floaters(cloud: GaussianCloud, maps: Sequence[DepthMap], cameras: Sequence[Camera]) -> Tensor:
    """(N,) bool: whose centre a view sees well before the surface that stereo found at that pixel."""
    times = torch.zeros(len(cloud), dtype=torch.int32, device=cloud.device)
    for own, camera in zip(maps, cameras, strict=True):
        xy, z = camera.project(cloud.means.double())
        height, width = own.depth.shape
        column, row = xy[:, 0].floor().long(), xy[:, 1].floor().long()
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        place = torch.where(inside, row * width + column, 0).cpu()
        depth, sure = own.depth.flatten()[place].to(z), own.confidence.flatten()[place].to(z)
        times += inside & (sure >= _SURE) & (z < _BEFORE * depth)
    return times >= _VIEWS
