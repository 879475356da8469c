"""How settings change over a run, as functions of the fraction of it that is done (0 to 1)."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from splat.training.config.config import RatesConfig, TrainConfig

_LATELY = 6  # hundredths of a run by time, whose pace is expected of the rest


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
    return max(0, min(config.sh_degree, int(fraction / config.sh_every + 1e-9)))


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


class Schedule:
    """Where in its schedule a run is: by steps, or by time when the run has a number of minutes.

    By time, the fraction done is that of the budget spent, so that every schedule stretches or shrinks with the
    speed of the machine as it is at that moment. The time that evaluating and writing will need at the end
    (``reserve``, seconds) is set aside; ``spent`` seconds of the budget were gone before.
    """

    def __init__(
        self, steps: int, minutes: float | None, clock: Callable[[], float] = time.monotonic, spent: float = 0.0
    ) -> None:
        self.step = 0
        self.fraction = 0.0
        self.previous_fraction = 0.0
        self.reserve = 0.0
        self._steps = steps
        self._budget = None if minutes is None else 60.0 * minutes
        self._clock = clock
        self._origin = clock() - spent
        self._marks: deque[tuple[int, float]] = deque(maxlen=_LATELY)  # steps and seconds at hundredths of the run

    @property
    def seconds(self) -> float:
        """Time spent on the run, including what a resumed run had spent before."""
        return self._clock() - self._origin

    def resume(self, step: int, fraction: float, seconds: float) -> None:
        """Go on where a checkpoint was. Raises ValueError for a place where no run can be."""
        if not (step >= 0 and 0 <= fraction <= 1 and 0 <= seconds < math.inf):
            raise ValueError(
                f"a run cannot go on at step {step}, fraction {fraction}, {seconds} seconds: "
                "expected a step from 0 on, a fraction from 0 to 1, and seconds from 0 on"
            )
        self.step, self.fraction = step, fraction
        self.previous_fraction = fraction if self._budget is not None else max(step - 1, 0) / self._steps
        self._origin = self._clock() - seconds

    def advance(self) -> None:
        """One step is done."""
        self.step += 1
        self.previous_fraction = self.fraction
        if self._budget is None:
            self.fraction = self.step / self._steps
        else:
            usable = max(self._budget - self.reserve, 0.1 * self._budget)
            self.fraction = max(self.fraction, min(1.0, self.seconds / usable))
            if crossed(0.01, self.previous_fraction, self.fraction):
                self._marks.append((self.step, self.seconds))

    @property
    def finished(self) -> bool:
        return self.fraction >= 1.0

    @property
    def steps(self) -> int:
        """Number of steps of the whole run; with a number of minutes, what the speed so far predicts."""
        if self._budget is None:
            return self._steps
        return self.step if self.finished else max(self.step + 1, round(self.step / max(self.fraction, 1e-6)))

    @property
    def expected(self) -> int:
        """Number of steps of the whole run if those to come take as long as those lately."""
        if self._budget is None or len(self._marks) < 2 or self.finished:
            return self.steps
        (first_step, first), (last_step, last) = self._marks[0], self._marks[-1]
        left = self.seconds * (1 / self.fraction - 1)
        return self.step + max(1, round(left * (last_step - first_step) / max(last - first, 1e-9)))
