"""`Progress`: what a training run tells a callback after every step."""

import math
from dataclasses import dataclass

from splat.cloud import GaussianCloud


@dataclass(frozen=True)
class Progress:
    """What a callback learns after every step.

    Attributes:
        step, steps: done and in all (an estimate when the run has a number of minutes).
        fraction: of the run that is done.
        loss, psnr: running means over training photos; psnr in dB.
        gaussians: count.
        steps_per_second, seconds: speed lately, and time spent.
        eval_psnr: newest mean over the held-out photos, dB; None before the first evaluation.
        cloud: the Gaussians as they are now; they go on changing.
        remaining: seconds that the rest will take, about; NaN before that can be said.
    """

    step: int
    steps: int
    fraction: float
    loss: float
    psnr: float
    gaussians: int
    steps_per_second: float
    seconds: float
    eval_psnr: float | None
    cloud: GaussianCloud
    remaining: float = math.nan
