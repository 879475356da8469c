"""Turbo-GS (Feng et al. 2026): position and appearance errors, a budget that follows convergence, visited rows only.

There is no released code. Ours reads the appearance error, the size of ∂L/∂colour, from Adam's second moments of the
base colours, which costs nothing; the paper accumulates it. With weights on opacity and size there are no opacity
resets, which the paper found to break its power law. Its dilated rendering is `splat.training.hooks.dilated_rendering`,
its sensitivity pruning `splat.training.hooks.sensitivity_pruning`, both for any strategy.
"""

import functools
import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from splat.sh_basis import C0
from splat.training import population as edit
from splat.training.config.densify import DensifyConfig
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.strategies import splitting
from splat.training.strategies.strategy import Strategy

_BETA2 = 0.999
COLOUR = 0.01  # gradient of a colour that is an error, in units of the one of a position
COLOUR_CHANCE = 0.2  # fraction of the changes, at random, that look at colours too
VISITED = 0.25  # rows visible less often than this, in times the median one is, are left alone
TRUST = 0.5  # how much slower growth gets where the loss falls slower than it used to
_LATE = 0.2  # the last part of the losses, against which all of them are held


def strategy(densify: DensifyConfig) -> Strategy:
    """Turbo-GS with these settings."""
    return Strategy(densify, ("grad2d", "count"), functools.partial(refine, densify))


def refine(densify: DensifyConfig, population: Population, context: StepContext) -> None:
    """Prune what is transparent, grow where positions or colours err, every ``densify.every`` steps."""
    if context.due(densify.every) and context.fraction <= densify.stop:
        if context.fraction > densify.start:
            grow(densify, population, context)
        edit.clear_statistics(population)


def grow(densify: DensifyConfig, population: Population, context: StepContext) -> None:
    """One change within the budget of the moment."""
    statistics = population.statistics
    count = statistics["count"]
    mean = statistics["grad2d"] / count.clamp_min(1)
    error = mean / densify.gradient
    if torch.rand((), generator=context.generator("turbo")) < COLOUR_CHANCE:
        error = torch.maximum(error, colour_error(population, context.step) / (COLOUR * densify.gradient))
    to_prune = population.cloud.opacities < densify.prune_opacity
    seen = count[count > 0]
    visited = count >= VISITED * seen.median() if len(seen) else count > 0
    hot = visited & ~to_prune
    if not is_last(densify, context):  # then the budget is filled
        hot &= error >= 1
    room = max(budget(densify, context) - (len(population) - int(to_prune.sum())), 0)
    hot = splitting.largest(error, hot, room)
    splitting.densify(population, hot, to_prune, densify.small * context.extent, densify.split_factor)
    if is_last(densify, context):
        source = context.generator("turbo fill")
        splitting.fill(population, context.max_gaussians, densify.small * context.extent, densify.split_factor, source)


def colour_error(population: Population, step: int) -> Tensor:
    """(N,) root mean square, over the steps so far that Adam remembers, of ‖∂L/∂colour‖."""
    second = population.adam.v["sh"][:, 0].sum(1) / (1 - _BETA2**step)
    return second.sqrt() / C0  # ∂colour/∂(base coefficient) is the constant spherical harmonic


def is_last(densify: DensifyConfig, context: StepContext) -> bool:
    """Whether this is the last change of the run."""
    return context.fraction + context.period(densify.every) > densify.stop


def budget(densify: DensifyConfig, context: StepContext) -> int:
    """B(t) = N₀ + (t^α − 1)/(100^α − 1) · (M − N₀), t the percentage of the growing phase, α from `exponent`."""
    growth = min(max((context.fraction - densify.start) / max(densify.stop - densify.start, 1e-9), 0.0), 1.0)
    t = 100.0 if is_last(densify, context) else 1 + 99 * growth
    alpha = exponent(context.losses, TRUST)
    grown = math.log(t) / math.log(100) if abs(alpha) < 1e-6 else (t**alpha - 1) / (100**alpha - 1)
    first = min(context.first_count, context.max_gaussians)
    return min(context.max_gaussians, first + math.floor(grown * (context.max_gaussians - first)))


def exponent(losses: Sequence[tuple[int, float]], trust: float) -> float:
    """The α of `budget`: how fast the loss falls (its negative slope in log–log), plus what the last fifth lags.

    ε, the slope lately minus that of all, is positive where the loss falls slower than before; a larger α holds growth
    back until later.
    """
    points = [(step, loss) for step, loss in losses if step > 100 and loss > 0]
    if len(points) < 5:
        return 0.0
    x, y = np.log(np.array(points, dtype=np.float64)).T
    late = max(3, math.ceil(_LATE * len(points)))
    whole, recent = np.polyfit(x, y, 1)[0], np.polyfit(x[-late:], y[-late:], 1)[0]
    return float(-whole + trust * math.tanh(recent - whole))
