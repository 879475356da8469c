"""Search on one knob: the setting that gives the smallest file of a quality, or the best quality in a size."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from splat.compression.rate_control.target_format import Trial
from splat.errors import InputError

ROUNDS = 5  # of closing in on the goal, after both ends
CLOSE = 0.1  # dB, or sixths of a factor of two in size: near enough to stop, unless the goal says


@dataclass(frozen=True)
class Goal:
    """What is wanted: at least ``psnr`` dB, or at most ``size`` bytes; the other is to be as good as it gets.

    Attributes:
        close: dB, or sixths of a factor of two in size, within which the search stops.
        reference, drop: PSNR of the input and the dB that may be lost of it, where ``psnr`` is their difference.
    """

    psnr: float | None = None
    size: int | None = None
    close: float = CLOSE
    reference: float = math.nan
    drop: float = math.nan

    @staticmethod
    def below(reference: float, drop: float) -> "Goal":
        """At most ``drop`` dB below ``reference``."""
        return Goal(psnr=reference - drop, close=0.15 * drop, reference=reference, drop=drop)

    def met(self, trial: Trial) -> bool:
        """Whether ``trial`` is within the goal."""
        return trial.psnr >= self.psnr if self.psnr is not None else trial.size <= self.size

    def miss(self, trial: Trial) -> float:
        """How far ``trial`` lies on the fine side of the goal: dB, or its size in sixths of a factor of two."""
        if self.psnr is not None:
            return min(trial.psnr, 200.0) - self.psnr
        return 6 * math.log2(trial.size / self.size)

    def better(self, a: Trial, b: Trial) -> bool:
        """Whether ``a`` beats ``b``, both meeting the goal."""
        return a.size < b.size if self.psnr is not None else a.psnr > b.psnr


def search(
    candidates: Iterable[Callable[[float], Trial]],
    goal: Goal,
    knob: tuple[float, float],
    report: Callable[[Trial], None],
    guess: tuple[float, float] | None = None,
) -> Trial:
    """The best trial that meets the ``goal``.

    Args:
        candidates: each makes a trial at a position of the ``knob`` (smallest and coarsest … largest and finest).
        report: called with every trial.
        guess: a position to begin at, and by how much a step of one on the knob brings a trial nearer (see
            `Goal.miss`); None begins at the ends.

    Raises InputError naming the nearest trial when none meets the goal.
    """
    best: Trial | None = None
    nearest: Trial | None = None

    for candidate in candidates:

        def ask(position: float, candidate=candidate) -> float:
            nonlocal best, nearest
            trial = candidate(position)
            report(trial)
            best, nearest = _rank(trial, goal, best, nearest)
            return goal.miss(trial)

        position = _close_in(ask, knob, goal, guess)
        guess = guess and (position, guess[1])  # the next candidate will end up near
    if best is None:
        raise InputError(_unmet(goal, nearest))
    return best


def _close_in(ask: Callable[[float], float], knob: tuple[float, float], goal: Goal, guess) -> float:
    """Ask at positions ever nearer to where the miss is 0.

    Returns the last position asked.
    """
    above = goal.psnr is not None  # on this side of 0 the goal is met
    ends: list[float | None] = [None, None]  # the coarse and the fine one
    misses, position, last, stride = [0.0, 0.0], knob[1] if above else knob[0], knob[0], 0.0
    if guess is not None:
        position = guess[0]
    for _ in range(ROUNDS + 2):
        last, miss = position, ask(position)
        met = miss >= 0 if above else miss <= 0
        if met and abs(miss) < goal.close:
            break
        end = 1 if miss >= 0 else 0
        if position == knob[1 - end]:
            break  # even this end is beyond the goal
        ends[end], misses[end] = position, miss
        if ends[1 - end] is not None:
            fraction = misses[0] / (misses[0] - misses[1]) if misses[0] != misses[1] else 0.5
            position = ends[0] + min(max(fraction, 0.08), 0.92) * (ends[1] - ends[0])
            # Bias towards the feasible side so the final trial meets the goal.
            position += (1 if above else -1) * (knob[1] - knob[0]) * (0.001 if guess else 0.01)
        elif guess is None:
            position = knob[1 - end]
        else:
            # Near a ceiling the slope is far less than guessed, so that steps grow until the goal lies between.
            stride = max(abs(miss) / guess[1] + 0.5, 1.8 * stride)
            position = min(max(position + (-stride if end else stride), knob[0]), knob[1])
        if position == last:
            break
    return last


def _rank(trial: Trial, goal: Goal, best: Trial | None, nearest: Trial | None) -> tuple[Trial | None, Trial | None]:
    """The best trial that meets the goal and the nearest that does not, with one more seen."""
    if goal.met(trial):
        return (trial if best is None or goal.better(trial, best) else best), nearest
    return best, (trial if nearest is None or abs(goal.miss(trial)) < abs(goal.miss(nearest)) else nearest)


def _unmet(goal: Goal, nearest: Trial | None) -> str:
    if nearest is None:
        return "no setting could be tried; give another cloud or format"
    reached = f"the nearest is {nearest.psnr:.2f} dB in {nearest.size:,} bytes ({nearest.gaussians:,} Gaussians)"
    if goal.psnr is not None:
        return f"{goal.psnr:.2f} dB cannot be reached in this format; {reached}, so ask for less or for another format"
    return f"{goal.size:,} bytes cannot be reached in this format; {reached}, so ask for more or for another format"
