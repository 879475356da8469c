"""Proximity-guided unpooling: new Gaussians where neighbours stand far apart (FSGS, Zhu et al., ECCV 2024, §3.2)."""

import functools

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.training import population as edit
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population
from splat.training.schedules import crossed
from splat.training.step_context import StepContext

_NEIGHBOURS = 3
_FAR = 3.0  # a mean distance to the neighbours above so many times the median calls for new Gaussians
_STOP = 0.6  # fraction of the run after which none are added


def hook(every: float) -> TrainingHook:
    """Inserts Gaussians each ``every`` of the run."""
    return TrainingHook("proximity", refine=functools.partial(_refine, every))


def _refine(every: float, population: Population, context: StepContext) -> None:
    if context.fraction <= _STOP and crossed(every, context.previous_fraction, context.fraction):
        room = context.max_gaussians - len(population)
        rows = unpooled(population.cloud)
        if room > 0 and len(rows):
            edit.append(population, rows.select(torch.arange(min(room, len(rows)), device=rows.device)))


def unpooled(cloud: GaussianCloud) -> GaussianCloud:
    """A Gaussian halfway between each lonely one and its three nearest, loneliest first.

    Size, opacity and base colour come from the neighbour, the rotation is none (as in the released code).
    """
    from scipy.spatial import cKDTree

    if len(cloud) <= _NEIGHBOURS:
        return cloud.select(torch.zeros(0, dtype=torch.int64, device=cloud.device))
    places = cloud.means.double().cpu().numpy()
    distance, index = cKDTree(places).query(places, k=_NEIGHBOURS + 1)
    score = torch.from_numpy(distance[:, 1:].mean(1))
    lonely = (score > _FAR * score.median()).nonzero()[:, 0]
    lonely = lonely[score[lonely].argsort(descending=True, stable=True)]
    sources = lonely.repeat_interleave(_NEIGHBOURS).to(cloud.device)
    targets = torch.from_numpy(index)[lonely, 1:].reshape(-1).to(cloud.device)
    rows = cloud.select(targets)
    quats = torch.zeros_like(rows.quats)
    quats[:, 0] = 1
    sh = torch.zeros_like(rows.sh)
    sh[:, 0] = rows.sh[:, 0]
    means: Tensor = 0.5 * (cloud.means[sources] + cloud.means[targets])
    return rows.replace(means=means, quats=quats, sh=sh)
