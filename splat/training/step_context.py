"""`StepContext`: where in its course an optimisation is; the only object that says so."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from splat.training.rng import generator
from splat.training.schedules import crossed
from splat.training.strategies.view_sampler import ViewSampler

CHANGES = 20  # in a run by time, at least, if there are so many steps; scoring photos costs as much as many steps


@dataclass(frozen=True)
class StepContext:
    """Where a run is, as losses and hooks see it before a step, and strategies and hooks after it.

    Attributes:
        step: number of steps done.
        fraction, previous_fraction: of the run that is done now, and that was done before the last step.
        extent: size of the scene, world units.
        max_gaussians: largest number of Gaussians allowed now.
        seed: of the run.
        first_count: number of Gaussians the run began with.
        losses: (step, running mean of the loss), one per hundredth of the run so far.
        view_sampler: access to the training views; None outside a training run.
        timed: whether the run has a number of minutes instead of one of steps.
    """

    step: int = 0
    fraction: float = 0.0
    previous_fraction: float = 0.0
    extent: float = 1.0
    max_gaussians: float = math.inf
    seed: int = 0
    first_count: int = 0
    losses: Sequence[tuple[int, float]] = ()
    view_sampler: ViewSampler | None = None
    timed: bool = False

    def period(self, every: int) -> float:
        """Fraction of the run between two changes that should be ``every`` steps apart.

        A run by time may have few steps: it gets at least `CHANGES` changes, or it would not use its budget.
        """
        period = every * self.fraction / self.step
        return min(period, 1 / CHANGES) if self.timed else period

    def due(self, every: int) -> bool:
        """Whether a change is due that should happen every ``every`` steps."""
        if self.timed:
            return crossed(self.period(every), self.previous_fraction, self.fraction)
        return self.step % every == 0

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers for ``purpose`` at this step."""
        return generator(self.seed, purpose, self.step)
