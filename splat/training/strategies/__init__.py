"""Strategies, one file each: those that decide where Gaussians are, and methods that combine with any of them.

A strategy is a `Strategy`: which statistics it wants accumulated, and a function that is called after every step and
changes the population through `splat.training.edit`, and only through it. It keeps no state of its own: everything it
needs is in the population, its config and the `Moment`, so that a resumed run goes on exactly. What is independent of
the choice of a strategy is a `splat.training.parts.Part` (see `parts_of`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from splat.training.config import AdcConfig, McmcConfig, TamingConfig, TrainConfig, TurboConfig
from splat.training.edit import Population
from splat.training.parts import Part
from splat.training.randomness import generator
from splat.training.schedules import crossed

if TYPE_CHECKING:
    from splat.training.strategies.survey import Survey


CHANGES = 20  # in a run by time, at least, if there are so many steps; scoring photos costs as much as many steps


@dataclass(frozen=True)
class Moment:
    """When and where a strategy is asked.

    Attributes:
        step: number of steps done, from 1.
        fraction, before: share of the run done after and before this step.
        extent: size of the scene, world units.
        cap: largest number of Gaussians.
        seed: of the run.
    first: number of Gaussians the run began with.
    losses: (step, running mean of the loss), one per hundredth of the run so far.
    survey: access to the photos; None where a strategy is tried without a run.
    timed: whether the run has a number of minutes instead of one of steps.
    """

    step: int
    fraction: float
    before: float
    extent: float
    cap: int
    seed: int
    first: int = 0
    losses: Sequence[tuple[int, float]] = ()
    survey: "Survey | None" = None
    timed: bool = False

    def period(self, every: int) -> float:
        """Fraction of the run between two changes that should be ``every`` steps apart.

        A run by time may have few steps: it gets at least `CHANGES` changes, or it would not use its budget.
        """
        period = every * self.fraction / self.step
        return min(period, 1 / CHANGES) if self.timed else period

    def due(self, every: int) -> bool:
        """Whether a change is due that should happen every ``every`` steps."""
        return crossed(self.period(every), self.before, self.fraction) if self.timed else self.step % every == 0

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers for ``purpose`` at this step."""
        return generator(self.seed, purpose, self.step)


@dataclass(frozen=True)
class Strategy:
    """Attributes:
    config: the strategy's settings.
    statistics: names of what is summed up over steps, as in `splat.rendering.cpu.Statistics`.
    refine: called after every step; changes the population where one is due.
    noise: strength of the noise on positions after each step; 0 is none.
    """

    config: AdcConfig | McmcConfig | TamingConfig | TurboConfig
    statistics: tuple[str, ...]
    refine: Callable[[Population, Moment], None]
    noise: float = 0.0

    def opacity_weight(self, steps: int) -> float:
        """Weight of the mean opacity in the loss of a run of so many steps."""
        meant = getattr(self.config, "opacity_steps", 0)
        return self.config.opacity_weight * (steps / meant if meant else 1.0)


def strategy_of(config: TrainConfig) -> Strategy:
    """The strategy that ``config`` names."""
    from splat.training.strategies import adc, mcmc, taming, turbo

    modules = {"adc": adc, "mcmc": mcmc, "taming": taming, "turbo": turbo}
    return modules[config.strategy].strategy(getattr(config, config.strategy))


def parts_of(config: TrainConfig, photo_bytes: int) -> tuple[Part, ...]:
    """The methods that combine with any strategy, where ``config`` switches them on.

    Args:
        photo_bytes: what they may keep of smaller photos.
    """
    from splat.training.strategies import coarse, ges, prune, smooth

    parts = []
    if config.coarse.start > 1:
        parts.append(coarse.part(config.coarse, photo_bytes))
    if config.ges.shape or config.ges.frequency > 0:
        parts.append(ges.part(config.ges))
    if config.smooth.filter > 0:
        parts.append(smooth.part(config.smooth))
    if config.prune.share > 0:
        parts.append(prune.part(config.prune))
    return tuple(parts)
