"""Gaussians that are hidden at random for a step, as DropGaussian has it."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from splat.cloud import GaussianCloud
from splat.training.rng import generator

_CEILING = 0.99  # opacity that compensation for hidden Gaussians does not exceed: what a backend draws at most
_HIDDEN = -20.0  # logit opacity of a hidden Gaussian: far below what is drawn


@contextmanager
def hiding(cloud: GaussianCloud, share: float, seed: int, step: int) -> Iterator[None]:
    """Hide ``share`` of the Gaussians, drawn by lot, and raise the opacity of the others, inside the block.

    DropGaussian (Park et al., CVPR 2025): opacities are multiplied by 0 or by 1/(1 − share). The change is made in
    place and taken back afterwards as a difference, so that a step of the optimiser inside the block stays: the step on
    the compensated logit is applied to the logit itself.
    """
    if share <= 0:
        yield
        return
    logits = cloud.logit_opacities
    before = logits.clone()
    lost = (torch.rand(len(logits), generator=generator(seed, "hidden", step)) < share).to(logits.device)
    shown = (before.sigmoid() / (1 - share)).clamp_max(_CEILING)
    # Opacities above the ceiling already are left alone.
    logits.copy_(torch.where(lost, _HIDDEN, torch.maximum(before, torch.logit(shown))))
    shift = logits - before
    try:
        yield
    finally:
        logits.sub_(shift)
