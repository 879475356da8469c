"""3D Gaussian splatting as Markov chain Monte Carlo: Kheradmand et al. 2024.

Departures from the released code, each a known defect of it: the moments of relocated rows are forgotten together
with those of their sources; draws work beyond 2²⁴ rows; a cap below the number of initial points holds.

The noise of every step is `splat.ops.mcmc_noise.add_noise`, which the trainer calls with this strategy's strength.
"""

import functools
import math

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.ops import mcmc_relocation
from splat.training import population as edit
from splat.training.config.densify import DensifyConfig, McmcConfig
from splat.training.population import Population
from splat.training.rng import sample_with_replacement
from splat.training.step_context import StepContext
from splat.training.strategies.strategy import Strategy

GROWTH = 0.05  # of the paper: of the count, at one change


def strategy(densify: DensifyConfig, config: McmcConfig) -> Strategy:
    """MCMC with these settings."""
    return Strategy(densify, (), functools.partial(refine, densify, config), config.noise)


def refine(densify: DensifyConfig, config: McmcConfig, population: Population, context: StepContext) -> None:
    """Relocate dead Gaussians and grow, every ``densify.every`` steps."""
    if context.due(densify.every) and densify.start < context.fraction <= densify.stop:
        relocate(population, densify.prune_opacity, context.generator("relocate"))
        count = target_count(densify.every, config.full, len(population), context)
        grow(population, count - len(population), densify.prune_opacity, context.generator("grow"))


def target_count(every: int, full: float, count: int, context: StepContext) -> int:
    """How many Gaussians there should be after this change, given ``count`` now.

    The paper's growth of 5 % a time, or as much more as it takes to reach the cap by ``full`` of the run.
    """
    changes = (full - context.fraction) / context.period(every)  # still to come
    needed = (context.max_gaussians / count) ** (1 / (1 + max(changes, 0.0))) - 1
    return min(context.max_gaussians, math.floor((1 + max(GROWTH, needed)) * count))


def relocate(population: Population, min_opacity: float, source: torch.Generator) -> None:
    """Move every Gaussian of opacity ≤ ``min_opacity`` onto one that lives, drawn by opacity (§4.2)."""
    opacities = population.cloud.opacities
    dead = opacities <= min_opacity
    count = int(dead.sum())
    if count == 0 or count == len(population):
        return
    chosen = sample_with_replacement(torch.where(dead, 0, opacities), count, source)
    shared = _share(population, chosen, min_opacity)
    edit.replace(population, dead.nonzero()[:, 0], shared)


def grow(population: Population, count: int, min_opacity: float, source: torch.Generator) -> None:
    """Add ``count`` Gaussians by sharing ones drawn by opacity."""
    if count > 0 and len(population) > 0:
        chosen = sample_with_replacement(population.cloud.opacities, count, source)
        edit.append(population, _share(population, chosen, min_opacity))


def _share(population: Population, chosen: Tensor, min_opacity: float) -> GaussianCloud:
    """Shrink the rows ``chosen`` (M,), once for all their copies; return the M copies."""
    times = torch.bincount(chosen, minlength=len(population))
    sources = times.nonzero()[:, 0]
    rows = population.cloud.select(sources)
    logits, log_scales = mcmc_relocation.relocate(
        rows.logit_opacities, rows.log_scales, times[sources] + 1, min_opacity
    )
    edit.replace(population, sources, rows.replace(logit_opacities=logits, log_scales=log_scales))
    return population.cloud.select(chosen)
