"""What a step may do to the cloud for its own duration: hide Gaussians at random, hold positions back."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from splat.cloud import GaussianCloud
from splat.training.rng import generator

_CEILING = 0.99  # opacity that compensation for hidden Gaussians does not exceed: what a backend draws at most
_HIDDEN = -20.0  # logit opacity of a hidden Gaussian: far below what is drawn

POSITION_STEP = "freedom"
"""Name, as it stands in checkpoints, of the extra that says what fraction of a step each Gaussian's position makes."""


def without_position_step(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` without the extra `POSITION_STEP`, which only training needs."""
    return cloud.replace(extras={name: values for name, values in cloud.extras.items() if name != POSITION_STEP})


@contextmanager
def gaussian_dropout(cloud: GaussianCloud, fraction: float, seed: int, step: int) -> Iterator[None]:
    """Hide ``fraction`` of the Gaussians, drawn at random, and raise the opacity of the others, inside the block.

    DropGaussian (Park et al., CVPR 2025): opacities are multiplied by 0 or by 1/(1 − fraction). The change is made in
    place and taken back afterwards as a difference, so that a step of the optimiser inside the block stays: the step on
    the compensated logit is applied to the logit itself.
    """
    if fraction <= 0:
        yield
        return
    logits = cloud.logit_opacities
    before = logits.clone()
    lost = (torch.rand(len(logits), generator=generator(seed, "hidden", step)) < fraction).to(logits.device)
    shown = (before.sigmoid() / (1 - fraction)).clamp_max(_CEILING)
    # Opacities above the ceiling already are left alone.
    logits.copy_(torch.where(lost, _HIDDEN, torch.maximum(before, torch.logit(shown))))
    shift = logits - before
    try:
        yield
    finally:
        logits.sub_(shift)


@contextmanager
def scale_position_step(cloud: GaussianCloud) -> Iterator[None]:
    """Let the positions of a cloud with the extra `POSITION_STEP` make only that fraction of a step in the block."""
    fraction = cloud.extras.get(POSITION_STEP)
    if fraction is None:
        yield
        return
    before = cloud.means.clone()
    try:
        yield
    finally:
        cloud.means.copy_(torch.lerp(before, cloud.means, fraction[:, None]))
