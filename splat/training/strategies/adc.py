"""Adaptive density control: Kerbl et al. 2023, "3D Gaussian Splatting", §5, with a hard cap on the count.

Departures from the original, each a known defect of it: the count never exceeds the cap, and under it the rows with
the largest gradient grow first; the on-screen size test, dead in the original because its statistic is cleared just
before, is left out.
"""

import functools
import math

import torch

from splat.cloud import GaussianCloud
from splat.training import population as edit
from splat.training.config.config import AdcConfig
from splat.training.population import Population
from splat.training.schedules import crossed
from splat.training.step_context import StepContext
from splat.training.strategies.splitting import largest
from splat.training.strategies.strategy import Strategy


def strategy(config: AdcConfig) -> Strategy:
    """ADC with the settings ``config``."""
    gradient = "grad2d_abs" if config.absolute_gradient else "grad2d"
    return Strategy(config, (gradient, "count"), functools.partial(refine, config))


def refine(config: AdcConfig, population: Population, context: StepContext) -> None:
    """Grow and prune every ``config.every`` steps, reset opacities every ``config.reset_every`` of the run."""
    if context.fraction <= config.stop and context.due(config.every):
        if context.fraction > config.start:
            grow_and_prune(config, population, context)
        edit.clear_statistics(population)
    if context.fraction < config.stop and crossed(config.reset_every, context.previous_fraction, context.fraction):
        reset_opacities(population, config.reset_opacity)


def grow_and_prune(config: AdcConfig, population: Population, context: StepContext) -> None:
    """Clone small and split large Gaussians of large mean gradient; remove transparent and oversized ones."""
    cloud = population.cloud
    statistics = population.statistics
    mean = statistics["grad2d_abs" if config.absolute_gradient else "grad2d"] / statistics["count"].clamp_min(1)
    size = cloud.scales.amax(1)
    limit = config.prune_size * context.extent
    sizes_count = config.reset_every > 0 and context.fraction > config.reset_every

    transparent = cloud.opacities < config.prune_opacity
    hot = (mean >= config.gradient) & ~transparent
    to_prune = transparent | ((size > limit) & ~hot) if sizes_count else transparent
    # Growing takes one more row each, by cloning as well as by splitting (two children for one parent).
    room = context.max_gaussians - (len(population) - int(to_prune.sum()))
    hot = largest(mean, hot, room)
    # Oversized rows that found no room go as well; those that are split are judged by their children's size.
    if sizes_count:
        to_prune |= (size > limit) & ~hot

    small = size <= config.small * context.extent
    clones = cloud.select(hot & small)
    children = split(cloud.select(hot & ~small), config.split_factor, context.generator("split"))
    if sizes_count:
        children = children.select(children.scales.amax(1) <= limit)
    edit.keep(population, ~(to_prune | (hot & ~small)))
    edit.append(population, clones)
    edit.append(population, children)


def split(parents: GaussianCloud, factor: float, source: torch.Generator) -> GaussianCloud:
    """Two children for each Gaussian, at random places inside it, ``factor`` times smaller, otherwise equal."""
    both = GaussianCloud.concat([parents, parents])
    normal = torch.randn(len(both), 3, generator=source).to(both.means)
    offsets = (both.rotations @ (normal * both.scales)[:, :, None])[:, :, 0]
    return both.replace(means=both.means + offsets, log_scales=both.log_scales - math.log(factor))


def reset_opacities(population: Population, opacity: float) -> None:
    """Lower every opacity above ``opacity`` to it and forget the opacities' moments."""
    ceiling = math.log(opacity / (1 - opacity))
    values = population.cloud.logit_opacities.clamp_max(ceiling)
    edit.replace(population, torch.arange(len(population), device=values.device), {"logit_opacities": values})
