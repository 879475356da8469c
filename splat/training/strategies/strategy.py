"""What a strategy is and what it sees."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from splat.training.config.densify import DensifyConfig
from splat.training.population import Population
from splat.training.rng import generator
from splat.training.schedules import crossed

if TYPE_CHECKING:
    from splat.training.strategies.view_sampler import Survey

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
    densify: the settings that all strategies share, resolved for this one.
    statistics: names of what is summed up over steps, as in `splat.rendering.fused_step.Statistics`.
    refine: called after every step; changes the population where one is due.
    noise: strength of the noise on positions after each step; 0 is none.
    first: largest fraction of the budget that a run begins with.
    opacity_steps: run length for which the opacity weight is meant, others scale it; None if it is meant for all.
    """

    densify: DensifyConfig
    statistics: tuple[str, ...]
    refine: Callable[[Population, Moment], None]
    noise: float = 0.0
    first: float = 1.0
    opacity_steps: int | None = None

    def opacity_weight(self, steps: int) -> float:
        """Weight of the mean opacity in the loss of a run of so many steps."""
        weight = self.densify.opacity_weight
        return weight if self.opacity_steps is None else weight * (steps / self.opacity_steps)
