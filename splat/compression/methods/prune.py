"""Leaving out the Gaussians that matter least."""

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.errors import InputError


def prune(cloud: GaussianCloud, scores: Tensor, fraction: float) -> GaussianCloud:
    """``cloud`` without the ``fraction`` (0 to 1) of its rows with the lowest ``scores`` (N,); at least one stays."""
    if not 0 <= fraction <= 1:
        raise InputError(f"the fraction to prune is {fraction:g}, expected 0 to 1")
    _check(cloud, scores)
    drop = min(int(fraction * len(cloud)), max(len(cloud) - 1, 0))
    kept = torch.ones(len(cloud), dtype=torch.bool, device=cloud.device)
    kept[torch.argsort(scores, stable=True)[:drop]] = False
    return cloud.select(kept)


def prune_below(cloud: GaussianCloud, scores: Tensor, threshold: float) -> GaussianCloud:
    """``cloud`` without the rows whose score is below ``threshold``."""
    _check(cloud, scores)
    return cloud.select(scores >= threshold)


def _check(cloud: GaussianCloud, scores: Tensor) -> None:
    if scores.shape != (len(cloud),):
        raise ValueError(f"scores have shape {tuple(scores.shape)}, expected ({len(cloud)},)")
