"""Quantization-aware training: on the codes of a file, at the coarseness that just meets a goal."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from splat.compression.finetuning.fine_tuner import FineTuner
from splat.compression.finetuning.straight_through import DETAIL_EXTRA, Rounding
from splat.compression.rate_control.target_format import COARSEST, FINEST, Trial
from splat.compression.rate_control.task import CompressionTask

CAUTION = 0.3  # fraction of the goal's tolerance that is aimed above it
LARGEST_MOVE = 8.0  # of quality, between two stages
SETTLED = 0.1  # pace at the end of a stage below which its result counts

Stages = Sequence[tuple[int, tuple[float, float]]]  # steps and pace of each


def train_quantized(
    tuner: FineTuner,
    task: CompressionTask,
    start: tuple[float, float],
    stages: Stages,
    price: float = 0.0,
    detail: torch.Tensor | None = None,
) -> Trial | None:
    """The best file that meets the goal of all that quantization-aware training came by; None if none did.

    Args:
        tuner: with axes in order; what it renders is rounded in every stage as the file at the end of it will be.
        start: quality to begin at, and the bits of such a file.
        stages: one whose rates fall to nearly nothing moves the quality towards the goal.
        price: hundredths that the loss may rise for a hundredth of the file.
        detail: (N,) digits of single Gaussians, see `splat.compression.rate_control.per_gaussian_precision`.
    """
    (quality, bits), best, goal = start, None, task.goal
    digits = None if detail is None else detail.numpy()
    for steps, pace in stages:
        rounding = Rounding.of(tuner.mean, task.target.steps_at(quality), digits)
        tuner.run(steps, pace, rounding, price / bits)
        result = tuner.mean.replace(extras={} if detail is None else {DETAIL_EXTRA: detail})
        trial = replace(task.target, grid=rounding.grid).trial(result, quality, task.metric)
        task.report(trial)
        if goal.met(trial) and (best is None or goal.better(trial, best)):
            best = trial
        bits = 8 * trial.size
        if pace[1] <= SETTLED:
            miss = goal.miss(trial) + CAUTION * goal.close * (1 if goal.psnr is None else -1)
            quality -= min(max(miss / task.slope, -LARGEST_MOVE), LARGEST_MOVE)
            quality = min(max(quality, COARSEST), FINEST)
    return best
