"""Floater removal: Gaussians that hang in front of the surface that stereo found in a photo are pruned."""

import functools
from collections.abc import Sequence

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.depth.depth_maps import DepthMap
from splat.training import population as edit
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population
from splat.training.schedules import crossed
from splat.training.step_context import StepContext

_IN_FRONT = 0.85  # of the surface's depth: what is nearer than this floats
_CONFIDENT = 0.5  # confidence from which the surface counts
_VIEWS = 1  # so many views must see it float
_STOP = 0.9  # fraction of the run after which nothing is removed, so that holes can close


def hook(maps: Sequence[DepthMap], every: float) -> TrainingHook:
    """Removes floaters each ``every`` of the run."""
    return TrainingHook("floaters", refine=functools.partial(_refine, maps, every))


def _refine(maps: Sequence[DepthMap], every: float, population: Population, context: StepContext) -> None:
    if context.fraction < _STOP and crossed(every, context.previous_fraction, context.fraction):
        floating = floaters(population.cloud, maps)
        if bool(floating.any()) and not bool(floating.all()):
            edit.keep(population, ~floating)


def floaters(cloud: GaussianCloud, maps: Sequence[DepthMap]) -> Tensor:
    """(N,) bool: whose centre a view sees well in front of the surface that stereo found at that pixel."""
    times = torch.zeros(len(cloud), dtype=torch.int32, device=cloud.device)
    for known in maps:
        xy, z = known.camera.project(cloud.means.double())
        height, width = known.depth.shape
        column, row = xy[:, 0].floor().long(), xy[:, 1].floor().long()
        inside = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        pixel = torch.where(inside, row * width + column, 0).cpu()
        depth, confidence = (torch.from_numpy(each).flatten()[pixel].to(z) for each in (known.depth, known.confidence))
        times += inside & (confidence >= _CONFIDENT) & (z < _IN_FRONT * depth)
    return times >= _VIEWS
