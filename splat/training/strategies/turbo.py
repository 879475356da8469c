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

from splat.training import population as edit
from splat.training.config.config import TurboConfig
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.strategies.splitting import densify, fill, largest
from splat.training.strategies.strategy import Strategy

_DC = 0.28209479177387814  # the constant spherical harmonic: ∂colour/∂(base coefficient)
_BETA2 = 0.999
_LATE = 0.2  # the last part of the losses, against which all of them are held


def strategy(config: TurboConfig) -> Strategy:
    """Turbo-GS with the settings ``config``."""
    return Strategy(config, ("grad2d", "count"), functools.partial(refine, config))


def refine(config: TurboConfig, population: Population, context: StepContext) -> None:
    """Prune what is transparent, grow where positions or colours err, every ``config.every`` steps."""
    if context.due(config.every) and context.fraction <= config.stop:
        if context.fraction > config.start:
            grow(config, population, context)
        edit.clear_statistics(population)


def grow(config: TurboConfig, population: Population, context: StepContext) -> None:
    """One change within the budget of the moment."""
    statistics = population.statistics
    count = statistics["count"]
    mean = statistics["grad2d"] / count.clamp_min(1)
    error = mean / config.gradient
    if torch.rand((), generator=context.generator("turbo")) < config.colour_chance:
        error = torch.maximum(error, colour_error(population, context.step) / (config.colour * config.gradient))
    to_prune = population.cloud.opacities < config.prune_opacity
    seen = count[count > 0]
    visited = count >= config.visited * seen.median() if len(seen) else count > 0
    hot = visited & ~to_prune
    if not is_last(config, context):  # then the budget is filled
        hot &= error >= 1
    room = max(budget(config, context) - (len(population) - int(to_prune.sum())), 0)
    hot = largest(error, hot, room)
    densify(population, hot, to_prune, config.small * context.extent, config.split_factor)
    if is_last(config, context):
        source = context.generator("turbo fill")
        fill(population, context.max_gaussians, config.small * context.extent, config.split_factor, source)


def colour_error(population: Population, step: int) -> Tensor:
    """(N,) root mean square, over the steps so far that Adam remembers, of ‖∂L/∂colour‖."""
    second = population.adam.v["sh"][:, 0].sum(1) / (1 - _BETA2**step)
    return second.sqrt() / _DC


def is_last(config: TurboConfig, context: StepContext) -> bool:
    """Whether this is the last change of the run."""
    return context.fraction + context.period(config.every) > config.stop


def budget(config: TurboConfig, context: StepContext) -> int:
    """B(t) = N₀ + (t^α − 1)/(100^α − 1) · (M − N₀), t the percentage of the growing phase, α from `exponent`."""
    share = min(max((context.fraction - config.start) / max(config.stop - config.start, 1e-9), 0.0), 1.0)
    t = 100.0 if is_last(config, context) else 1 + 99 * share
    alpha = exponent(context.losses, config.trust)
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
