"""Gaussians that are drawn with a cloud in training and never change: they are no part of its population.

What cannot reach them cannot move them: neither Adam nor noise, neither pruning, relocation and resets nor averaging.
"""

from dataclasses import fields, replace
from typing import TypeVar

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.rendering.types import CloudGradients, Rendering

Rows = TypeVar("Rows", Rendering, CloudGradients)
_OF_PICTURES = ("world_to_camera", "rgb", "alpha", "depth", "median_depth", "normal", "square_depth", "features")


def with_frozen(cloud: GaussianCloud, frozen: GaussianCloud | None) -> GaussianCloud:
    """The rows of ``cloud``, then those of ``frozen`` bit for bit; extras of the latter are zero, SH bands padded."""
    if frozen is None:
        return cloud
    degree = max(cloud.sh_degree, frozen.sh_degree)
    first, last = cloud.with_sh_degree(degree), frozen.with_sh_degree(degree)
    tensors = {name: torch.cat([getattr(first, name), getattr(last, name)]) for name in FIELDS}
    extras = {
        name: torch.cat([values, values.new_zeros(len(last), *values.shape[1:])])
        for name, values in cloud.extras.items()
    }
    return GaussianCloud(**tensors, extras=extras, georeference=cloud.georeference)


def of_first_rows(values: Rows, count: int) -> Rows:
    """``values`` of a cloud, per pixel as they are, per Gaussian of its first ``count`` alone."""
    rows = {item.name: getattr(values, item.name) for item in fields(values) if item.name not in _OF_PICTURES}
    return replace(values, **{name: _first(each, count) for name, each in rows.items()})


def _first(values: Tensor | None, count: int) -> Tensor | None:
    return None if values is None else values[:count].contiguous()
