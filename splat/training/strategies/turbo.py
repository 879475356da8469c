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
from splat.training.config.densify import DensifyConfig
from splat.training.population import Population
from splat.training.strategies import splitting
from splat.training.strategies.strategy import Moment, Strategy

_DC = 0.28209479177387814  # the constant spherical harmonic: ∂colour/∂(base coefficient)
_BETA2 = 0.999
COLOUR = 0.01  # gradient of a colour that is an error, in units of the one of a position
COLOUR_CHANCE = 0.2  # fraction of the changes, at random, that look at colours too
VISITED = 0.25  # rows visible less often than this, in times the median one is, are left alone
TRUST = 0.5  # how much slower growth gets where the loss falls slower than it used to
_LATE = 0.2  # the last part of the losses, against which all of them are held


def strategy(densify: DensifyConfig) -> Strategy:
    """Turbo-GS with these settings."""
    return Strategy(densify, ("grad2d", "count"), functools.partial(refine, densify))


def refine(densify: DensifyConfig, population: Population, moment: Moment) -> None:
    """Prune what is transparent, grow where positions or colours err, every ``densify.every`` steps."""
    if moment.due(densify.every) and moment.fraction <= densify.stop:
        if moment.fraction > densify.start:
            grow(densify, population, moment)
        edit.clear_statistics(population)


def grow(densify: DensifyConfig, population: Population, moment: Moment) -> None:
    """One change within the budget of the moment."""
    statistics = population.statistics
    count = statistics["count"]
    mean = statistics["grad2d"] / count.clamp_min(1)
    error = mean / densify.gradient
    if torch.rand((), generator=moment.generator("turbo")) < COLOUR_CHANCE:
        error = torch.maximum(error, colour_error(population, moment.step) / (COLOUR * densify.gradient))
    doomed = population.cloud.opacities < densify.prune_opacity
    seen = count[count > 0]
    visited = count >= VISITED * seen.median() if len(seen) else count > 0
    hot = visited & ~doomed
    if not is_last(densify, moment):  # then the budget is filled
        hot &= error >= 1
    room = max(budget(densify, moment) - (len(population) - int(doomed.sum())), 0)
    hot = _largest(error, hot, room)
    splitting.densify(population, hot, doomed, densify.small * moment.extent, densify.split_factor)
    if is_last(densify, moment):
        source = moment.generator("turbo fill")
        splitting.fill(population, moment.cap, densify.small * moment.extent, densify.split_factor, source)


def _largest(values: Tensor, mask: Tensor, count: int) -> Tensor:
    """The ``count`` rows of ``mask`` (N,) with the largest ``values``, as a mask."""
    order = torch.where(mask, values, -math.inf).argsort(descending=True, stable=True)
    chosen = torch.zeros_like(mask)
    chosen[order[: min(count, int(mask.sum()))]] = True
    return chosen


def colour_error(population: Population, step: int) -> Tensor:
    """(N,) root mean square, over the steps so far that Adam remembers, of ‖∂L/∂colour‖."""
    second = population.adam.v["sh"][:, 0].sum(1) / (1 - _BETA2**step)
    return second.sqrt() / _DC


def is_last(densify: DensifyConfig, moment: Moment) -> bool:
    """Whether this is the last change of the run."""
    return moment.fraction + moment.period(densify.every) > densify.stop


def budget(densify: DensifyConfig, moment: Moment) -> int:
    """B(t) = N₀ + (t^α − 1)/(100^α − 1) · (M − N₀), t the percentage of the growing phase, α from `exponent`."""
    share = min(max((moment.fraction - densify.start) / max(densify.stop - densify.start, 1e-9), 0.0), 1.0)
    t = 100.0 if is_last(densify, moment) else 1 + 99 * share
    alpha = exponent(moment.losses, TRUST)
    grown = math.log(t) / math.log(100) if abs(alpha) < 1e-6 else (t**alpha - 1) / (100**alpha - 1)
    first = min(moment.first, moment.cap)
    return min(moment.cap, first + math.floor(grown * (moment.cap - first)))


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
