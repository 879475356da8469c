"""Training on the codes of a file, at the coarseness that just meets a goal."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from splat.compression.finetuning.fine_tuner import Recovery
from splat.compression.finetuning.straight_through import Rounding
from splat.compression.rate_control.judge import Judge
from splat.compression.rate_control.per_gaussian_precision import NAME
from splat.compression.rate_control.search import COARSEST, FINEST, Codec, Goal, Trial

CAUTION = 0.3  # share of the goal's tolerance that is aimed above it
LARGEST_MOVE = 8.0  # of quality, between two stages
SETTLED = 0.1  # pace at the end of a stage below which its result counts


def train_coded(
    recovery: Recovery,
    codec: Codec,
    judge: Judge,
    goal: Goal,
    start: tuple[float, float],
    stages: Sequence[tuple[int, tuple[float, float]]],
    *,
    note: Callable[[Trial], None],
    slope: float,
    price: float = 0.0,
    detail: torch.Tensor | None = None,
) -> Trial | None:
    """The best file that meets the ``goal`` of all that training on the rounded came by; None if none did.

    Args:
        recovery: with axes in order; what it shows is rounded in every stage as the file at the end of it will be.
        start: quality to begin at, and the bits of such a file.
        stages: steps and pace of each. One whose rates fall to nearly nothing moves the quality towards the goal.
        note: called with every trial. slope: by how much a step of one in quality changes `Goal.miss`.
        price: hundredths that the loss may rise for a hundredth of the file.
        detail: (N,) digits of single Gaussians, see `splat.compression.rate_control.per_gaussian_precision`.
    """
    (quality, bits), best = start, None
    digits = None if detail is None else detail.numpy()
    for steps, pace in stages:
        rounding = Rounding.of(recovery.mean, codec.steps_at(quality), digits)
        recovery.run(steps, pace, rounding, price / bits)
        found = recovery.mean.replace(extras={} if detail is None else {NAME: detail})
        trial = replace(codec, frame=rounding.frame).trial(found, quality, judge)
        note(trial)
        if goal.met(trial) and (best is None or goal.better(trial, best)):
            best = trial
        bits = 8 * trial.size
        if pace[1] <= SETTLED:
            miss = goal.miss(trial) + CAUTION * goal.close * (1 if goal.psnr is None else -1)
            quality -= min(max(miss / slope, -LARGEST_MOVE), LARGEST_MOVE)
            quality = min(max(quality, COARSEST), FINEST)
    return best
