"""How one Gaussian becomes two, for the strategies that grow: clones of small ones, halves of large ones.

Both keep the picture nearly as it was, which cloning in the original does not (it doubles the opacity): the two share
the opacity as in Bulò et al. 2024, "Revising Densification", §3.4, and the halves lie along the longest axis.
"""

import math

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.ops.adam import parameters
from splat.training import population as edit
from splat.training.population import Population

_MOST = 1 - 1e-6  # opacity


def densify(population: Population, chosen: Tensor, to_prune: Tensor, small: float, factor: float) -> None:
    """Make two of each row of ``chosen`` and remove those of ``to_prune``, disjoint (N,) masks.

    Args:
        small: size, world units, up to which a Gaussian is cloned; larger ones are halved.
        factor: halves are this much narrower along the longest axis.
    """
    cloud = population.cloud
    rows = chosen.nonzero()[:, 0]
    parents = cloud.select(rows)
    opacity = shared_opacity(parents.opacities)
    one, other = split_along_axis(parents.replace(logit_opacities=torch.logit(opacity)), small, factor)
    values = parameters(one)
    edit.replace(population, rows, {name: values[name] for name in ("means", "log_scales", "logit_opacities")})
    edit.append(population, other)
    kept = torch.cat([~to_prune, torch.ones(len(rows), dtype=torch.bool, device=to_prune.device)])
    edit.keep(population, kept)


def fill(population: Population, count: int, small: float, factor: float, source: torch.Generator) -> None:
    """Double Gaussians drawn by opacity until there are ``count``: after a run of so few changes that some are missing.

    Args:
        small, factor: as in `densify`.
    """
    while 0 < len(population) < count:
        everyone = torch.ones(len(population), dtype=torch.bool, device=population.cloud.means.device)
        chosen = choose(population.cloud.opacities, everyone, count - len(population), source)
        densify(population, chosen, ~everyone, small, factor)


def choose(score: Tensor, candidates: Tensor, count: int, source: torch.Generator) -> Tensor:
    """(N,) mask of ``count`` of ``candidates`` (or all), drawn ∝ ``score`` without replacement (Gumbel-top-k)."""
    count = min(count, int(candidates.sum()))
    uniform = torch.rand(len(score), dtype=torch.float64, generator=source).clamp(1e-300, 1 - 1e-16).to(score.device)
    keys = torch.where(candidates, score.double().clamp_min(1e-300).log() - (-uniform.log()).log(), -math.inf)
    chosen = torch.zeros_like(candidates)
    chosen[keys.topk(count).indices] = True
    return chosen


def largest(values: Tensor, mask: Tensor, count: int) -> Tensor:
    """The ``count`` rows of ``mask`` (N,) with the largest ``values``, as a mask; all of them where they are fewer."""
    if int(mask.sum()) <= count:
        return mask
    order = torch.where(mask, values, -math.inf).argsort(descending=True, stable=True)
    chosen = torch.zeros_like(mask)
    chosen[order[: max(count, 0)]] = True
    return chosen


def shared_opacity(opacity: Tensor) -> Tensor:
    """The opacity of each of two that together cover as much as one of ``opacity``: 1 − √(1 − o)."""
    return 1 - (1 - opacity.clamp_max(_MOST)).sqrt()


def split_along_axis(parents: GaussianCloud, small: float, factor: float) -> tuple[GaussianCloud, GaussianCloud]:
    """The two halves of each of ``parents``; both at the parent's place where it is no larger than ``small``.

    A half is 1/``factor`` as long along the longest axis, and lies so far out that the variance of both together is
    the parent's.
    """
    scales = parents.scales
    size, axis = scales.max(1)
    large = size > small
    out = size * math.sqrt(max(1 - 1 / factor**2, 0.0))
    direction = parents.rotations[torch.arange(len(parents), device=axis.device), :, axis]
    offset = torch.where(large, out, torch.zeros_like(out))[:, None] * direction
    shrink = torch.zeros_like(scales).scatter(1, axis[:, None], math.log(factor)) * large[:, None]
    half = parents.replace(log_scales=parents.log_scales - shrink)
    return half.replace(means=parents.means + offset), half.replace(means=parents.means - offset)
