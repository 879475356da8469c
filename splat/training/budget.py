"""How many Gaussians a run may have: what `gaussians`, `size` and `gaussians_per_root_step` allow. Needs no PyTorch.

The root is measured: on `fox` at 135×240, runs of 700 steps gained most for their time up to 30,000 Gaussians, runs of
2,100 up to 60,000.
"""

import dataclasses
import math

from splat.training.config.config import TrainConfig
from splat.training.config.size_limit import gaussians_within


def max_gaussians(config: TrainConfig, steps: int | None = None, pixels: float = math.inf) -> int:
    """Largest number of Gaussians that `gaussians`, `size` and `gaussians_per_root_step` all allow.

    Args:
        steps: of the whole run; None takes those of ``config``, and in a run by time, knows of none.
        pixels: of a photo.
    """
    steps = config.steps if steps is None and config.minutes is None else steps
    most = config.gaussians
    if config.gaussians_per_root_step > 0:
        placed = math.inf if steps is None else config.gaussians_per_root_step * math.sqrt(steps)
        most = max(1, int(min(most, 2 * pixels, placed)))
    if config.size is None:
        return most
    return min(most, gaussians_within(config.size, config.sh_degree, config.appearance.features))


def use_whole_size(config: TrainConfig) -> TrainConfig:
    """``config`` with as many Gaussians as its `size` has room for."""
    free = dataclasses.replace(config, gaussians=2**40, gaussians_per_root_step=0.0)
    return dataclasses.replace(free, gaussians=max_gaussians(free))
