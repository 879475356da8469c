"""Prune the Gaussians with the lowest sensitivity: Hanson et al. 2025, "Speedy-Splat", §4.2; also in Turbo-GS.

The score of a Gaussian is Σ over views, pixels and channels of (∂I/∂o)², how much the pictures change with its opacity.
The paper sums squares inside its rasterizer. Here they are estimated with any backend, without bias: for pictures z of
random signs, E[(Σ_p z_p ∂I_p/∂o)²] = Σ_p (∂I_p/∂o)² (Hutchinson 1990), and that sum is one backward pass.
"""

import functools
import math

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.training import population as edit
from splat.training.config.config import PruneConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.strategies.view_sampler import ViewSampler

LEFT = 1  # a cloud keeps at least so many rows


def hook(config: PruneConfig) -> TrainingHook:
    """The hook that prunes with the settings ``config``."""
    return TrainingHook("prune", refine=functools.partial(refine, config))


def refine(config: PruneConfig, population: Population, context: StepContext) -> None:
    """Remove ``config.share`` of the rows where one of the removals is due."""
    if due(config, context.previous_fraction, context.fraction):
        score = sensitivity(population.cloud, context.view_sampler, config.views, context.step)
        count = min(math.floor(config.share * len(population)), len(population) - LEFT)
        mask = torch.ones(len(population), dtype=torch.bool, device=score.device)
        mask[score.argsort(stable=True)[: max(count, 0)]] = False
        edit.keep(population, mask)


def due(config: PruneConfig, before: float, now: float) -> bool:
    """Whether one of the evenly spaced removals lies in (before, now]."""
    gap = (config.stop - config.start) / max(config.times - 1, 1)
    return any(before < config.start + number * gap <= now for number in range(config.times))


def sensitivity(cloud: GaussianCloud, sampler: ViewSampler, views: int, step: int) -> Tensor:
    """(N,) estimate of Σ over ``views`` photos' pixels and channels of (∂I/∂opacity)²."""
    total = torch.zeros(len(cloud), device=cloud.device)
    for number, view in enumerate(sampler.sample(views, "prune", step)):
        rendering, context = sampler.render(cloud, view)
        signs = torch.randint(0, 2, rendering.rgb.shape, generator=sampler.generator("signs", step, number))
        gradient = sampler.backward(context, (2.0 * signs - 1).to(rendering.rgb)).logit_opacities
        drawn = sampler.deform(cloud).opacities
        total += (gradient / (drawn * (1 - drawn)).clamp_min(1e-6)) ** 2
    return total
