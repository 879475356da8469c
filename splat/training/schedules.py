"""How settings change over a run, as functions of the fraction of it that is done (0 to 1)."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from splat.training.config import RatesConfig, TrainConfig


def log_linear(start: float, end: float, fraction: float) -> float:
    """From ``start`` to ``end`` along a straight line in the logarithm; both positive."""
    return start * (end / start) ** min(max(fraction, 0.0), 1.0)


def crossed(period: float, before: float, now: float) -> bool:
    """Whether a multiple of ``period`` above 0 lies in (before, now]; a period of 0 is never crossed."""
    # The tolerance keeps 0.3 / 0.1 from being 2.999…, whatever the number of steps.
    return period > 0 and math.floor(now / period + 1e-9) > math.floor(before / period + 1e-9)


def sh_degree(config: TrainConfig, fraction: float) -> int:
    """The band in use: one more every ``sh_every`` of the run."""
    if config.sh_every == 0:
        return config.sh_degree
    return min(config.sh_degree, int(fraction / config.sh_every + 1e-9))


@dataclass(frozen=True)
class Rates:
    """Learning rates of one step, by tensor; positions in world units."""

    means: float
    sh_dc: float
    sh_rest: float
    logit_opacities: float
    log_scales: float
    quats: float


def rates(config: RatesConfig, extent: float, fraction: float) -> Rates:
    """The learning rates at ``fraction`` of a run in a scene of size ``extent`` (world units)."""
    decay = log_linear(1.0, config.final, fraction)
    return Rates(
        means=log_linear(config.means, config.means_final, fraction) * extent,
        sh_dc=config.sh_dc * decay,
        sh_rest=config.sh_rest * decay,
        logit_opacities=config.opacities * decay,
        log_scales=config.scales * decay,
        quats=config.quats * decay,
    )


class Plan:
    """Where in its schedule a run is: by steps, or by time when the run has a number of minutes.

    By time, the fraction done is the share of the budget spent, so that every schedule stretches or shrinks with the
    speed of the machine as it is at that moment. The time that evaluating and writing will need at the end
    (``reserve``, seconds) is set aside.
    """

    def __init__(self, steps: int, minutes: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.step = 0
        self.fraction = 0.0
        self.before = 0.0
        self.reserve = 0.0
        self._steps = steps
        self._budget = None if minutes is None else 60.0 * minutes
        self._clock = clock
        self._origin = clock()

    @property
    def seconds(self) -> float:
        """Time spent on the run, including what a resumed run had spent before."""
        return self._clock() - self._origin

    def resume(self, step: int, fraction: float, seconds: float) -> None:
        """Go on where a checkpoint was."""
        self.step, self.fraction, self.before = step, fraction, fraction
        self._origin = self._clock() - seconds

    def advance(self) -> None:
        """One step is done."""
        self.step += 1
        self.before = self.fraction
        if self._budget is None:
            self.fraction = self.step / self._steps
        else:
            usable = max(self._budget - self.reserve, 0.1 * self._budget)
            self.fraction = max(self.fraction, min(1.0, self.seconds / usable))

    @property
    def finished(self) -> bool:
        return self.fraction >= 1.0

    @property
    def steps(self) -> int:
        """Number of steps of the whole run; with a number of minutes, what the speed so far predicts."""
        if self._budget is None:
            return self._steps
        return self.step if self.finished else max(self.step + 1, round(self.step / max(self.fraction, 1e-6)))
