"""How long the rest of a run will take: from the pace so far, and from how much more the steps to come have to do.

A step costs about as much per pixel as per Gaussian, and runs grow: from their first tenth, the mean pace so far would
promise half of the time that is left.
"""

import math

from splat.training.config.config import TrainConfig, resolved
from splat.training.hooks import coarse_to_fine

PIXEL_COST = 0.22  # in Gaussians; measured on a CPU, as is the next
STEP_COST = 3000  # in Gaussians: of a step, however small
_SAMPLES = 40  # of the rest of the run
_MEMORY = 0.05  # of the run: older steps count less than half
_LEAST_MEMORY = 20  # steps
_UPDATES = 500  # of the estimate in a run; between two of them the clock runs down
_CATCH_UP = 0.15  # of what a new estimate differs by
_UNSETTLED = 0.03  # of the run, after which estimates are smoothed
_APART = 1.25  # times or a fraction of the newest estimate that the smooth one may be
_PAUSE = 4.0  # times as long as a step is expected to take: it held an evaluation or a checkpoint
_MOST_GROWTH = 10.0  # times the first count, where a strategy's growth has not shown yet


class Remaining:
    """The seconds left of a run, as steps go by.

    Args:
        pixels: of a photo.
        first, most: Gaussians at the start, and at most.
    """

    def __init__(self, config: TrainConfig, pixels: float, first: int, most: int) -> None:
        self._config = resolved(config)
        self._pixels, self._first, self._most = pixels, first, max(most, 1)
        self._before: tuple[float, float] | None = None  # fraction and seconds at the step before
        self._start = (0.0, 0)  # fraction and count before the count grew
        self._changed = (0.0, 0)  # fraction and count when the count changed last
        self._time = self._cost = 0.0
        self._edits = self._pauses = 0.0  # seconds of densifications, and of evaluations and checkpoints
        self._left, self._waited = math.nan, 0.0  # as estimated last, and seconds since then
        self._next = 0.0

    def after(self, step: int, fraction: float, seconds: float, gaussians: int) -> float:
        """Seconds left when ``step`` has ended; NaN after the first one."""
        if self._config.minutes is not None:  # the fraction is that of time
            return seconds * (1 - fraction) / max(fraction, 1e-9)
        before, self._before = self._before, (fraction, seconds)
        if before is None:
            self._start = (fraction, gaussians)
            return math.nan
        took = seconds - before[1]
        if gaussians == self._start[1]:
            self._start = (fraction, gaussians)
        if gaussians != self._changed[1]:
            self._changed = (fraction, gaussians)
        cost = self._step_cost(fraction, gaussians)
        if self._cost > 0 and took > _PAUSE * self._time / self._cost * cost:
            if step % self._config.densify.every == 0 and fraction <= self._config.densify.stop:
                self._edits += took
            else:
                self._pauses += took
        else:
            keep = 1 - 1 / max(_LEAST_MEMORY, _MEMORY * self._config.steps)
            self._time, self._cost = keep * self._time + took, keep * self._cost + cost
        if fraction >= self._next or not math.isfinite(self._left):
            self._next = fraction + 1 / _UPDATES
            found = self._estimate(step, fraction, gaussians)
            known = math.isfinite(self._left) and fraction > _UNSETTLED
            smooth = self._left - self._waited - took if known else found
            smooth += (found - smooth) * _CATCH_UP
            self._left, self._waited = min(max(smooth, found / _APART), found * _APART), 0.0
        else:
            self._waited += took
        return 0.0 if fraction >= 1 else max(0.0, self._left - self._waited)

    def _estimate(self, step: int, fraction: float, gaussians: int) -> float:
        width = (1 - fraction) / _SAMPLES
        places = [fraction + (number + 0.5) * width for number in range(_SAMPLES)]
        mean = sum(self._step_cost(at, self._count(at, fraction, gaussians)) for at in places) / _SAMPLES
        left = (self._config.steps - step) * mean * self._time / self._cost
        edits = self._edits * max(self._config.densify.stop - fraction, 0.0) / fraction
        return left + edits + self._pauses * (1 - fraction) / fraction

    def _step_cost(self, fraction: float, gaussians: float) -> float:
        """Work of a step, in Gaussians."""
        config = self._config
        pixels = self._pixels / coarse_to_fine.factor(config.coarse, fraction) ** 2
        if fraction < config.dilate.until and self._pixels >= config.dilate.min_pixels:
            pixels /= config.dilate.stride**2
        photos = config.batch.size if fraction >= config.batch.start else 1
        return STEP_COST + photos * (PIXEL_COST * pixels + gaussians)

    def _count(self, at: float, now: float, gaussians: int) -> float:
        """Gaussians expected at the fraction ``at`` of the run, given how many there are ``now``."""
        config, most = self._config, self._most
        start, stop = config.densify.start, config.densify.stop
        limit = coarse_to_fine.cap(config.coarse, self._first, most, at)
        if config.strategy == "taming":
            x = min(max((at - start) / max(stop - start, 1e-9), 0.0), 1.0)
            expected = limit - (limit - min(self._first, limit)) * (1 - x) ** 2
        else:
            since = max(now, start)
            grown = max(0.0, min(at, stop) - since)
            expected = gaussians * math.exp(min(self._growth(since, gaussians) * grown, 50.0))
        return max(min(expected, limit, most), min(gaussians, most) if config.strategy == "mcmc" else 0)

    def _growth(self, since: float, gaussians: int) -> float:
        """Growth of the logarithm of the count per whole run, from the fraction ``since`` on."""
        config = self._config
        if config.strategy == "mcmc":
            needed = math.log(max(self._most / gaussians, 1.0)) / max(config.mcmc.full - since, 0.02)
            return max(needed, math.log(1.05) * config.steps / config.densify.every)
        begun, first = self._start
        if since - begun > 0.05 and gaussians > first:
            return math.log(gaussians / first) / (self._changed[0] - begun + config.densify.every / config.steps)
        most = min(self._most, _MOST_GROWTH * self._first)
        return math.log(max(most / gaussians, 1.0)) / max(config.densify.stop - since, 0.02)
