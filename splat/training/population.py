"""The only module in which a cloud in training changes its rows.

A `Population` holds everything that has one row per Gaussian: parameters, both Adam moments, statistics. `keep`,
`append` and `replace` change all of them together, so that no strategy can leave a moment behind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.ops.adam import AdamState


@dataclass
class Population:
    """A cloud in training. Changed in place, by the optimiser and by the functions of this module only.

    Attributes:
        cloud: the parameters, N rows.
        adam: Adam's two moments of every parameter tensor.
        statistics: float32 tensors (N,) by name, what the strategy in use wants accumulated.
        mean: running mean of the parameters by name, as of `splat.training.weight_averaging`; empty before the first.
        averaged: how many moments of the run are in ``mean``.
    """

    cloud: GaussianCloud
    adam: AdamState
    statistics: dict[str, Tensor]
    mean: dict[str, Tensor] = field(default_factory=dict)
    averaged: int = 0

    def __len__(self) -> int:
        return len(self.cloud)


def populate(cloud: GaussianCloud, statistics: Iterable[str] = ()) -> Population:
    """A population of ``cloud``'s rows, which it owns from now on; moments and the named statistics are zero."""
    cloud = cloud.map(torch.Tensor.contiguous)
    zeros = {name: torch.zeros(len(cloud), device=cloud.device) for name in statistics}
    return Population(cloud, AdamState.zeros(cloud), zeros)


def aligned(population: Population) -> bool:
    """Whether everything in ``population`` has the same number of rows; not so if an edit was cut short."""
    tensors = [*_named(population.cloud).values(), *population.adam.m.values(), *population.adam.v.values()]
    return all(len(tensor) == len(population) for tensor in [*tensors, *population.statistics.values()])


def keep(population: Population, mask: Tensor) -> None:
    """Remove the rows where ``mask`` (N,) bool is false; the others keep their order."""
    _check_length(mask, len(population), "mask")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}, expected bool")
    rows = mask.nonzero()[:, 0]
    population.cloud = population.cloud.select(rows)
    for moments in (population.adam.m, population.adam.v):
        for name in moments:  # one tensor at a time, so that little exists twice at once
            moments[name] = moments[name][rows]
    population.statistics = {name: values[rows] for name, values in population.statistics.items()}
    forget_mean(population)


def permute(population: Population, order: Tensor) -> None:
    """Put the rows into ``order`` (N,) int64, a permutation."""
    _check_length(order, len(population), "order")
    population.cloud = population.cloud.permute(order)
    for moments in (population.adam.m, population.adam.v):
        for name in moments:
            moments[name] = moments[name][order]
    population.statistics = {name: values[order] for name, values in population.statistics.items()}
    forget_mean(population)


def append(population: Population, rows: GaussianCloud) -> None:
    """Add ``rows`` (M Gaussians, the population's SH degree and extras) at the end; moments and statistics zero."""
    _check_alike(population.cloud, rows)
    population.cloud = _join(population.cloud, rows)
    for tensors in (population.adam.m, population.adam.v, population.statistics):
        for name, values in tensors.items():
            tensors[name] = torch.cat([values, values.new_zeros(len(rows), *values.shape[1:])])
    forget_mean(population)


def replace(population: Population, index: Tensor, rows: GaussianCloud | Mapping[str, Tensor]) -> None:
    """Overwrite the rows ``index`` (M,) int64, each named once.

    Args:
        rows: M whole Gaussians: their moments and statistics become zero. Or some tensors by name (leading dimension
            M): only those tensors and their moments change.
    """
    if index.ndim != 1 or index.dtype != torch.int64:
        raise ValueError(f"index is {index.dtype} {tuple(index.shape)}, expected int64 (M,)")
    if index.numel() and not (0 <= int(index.min()) and int(index.max()) < len(population)):
        raise ValueError(
            f"rows {int(index.min())} to {int(index.max())} are to be replaced, there are {len(population)}"
        )
    if index.numel() != index.unique().numel():
        raise ValueError("a row is to be replaced twice at once")
    if isinstance(rows, GaussianCloud):
        _check_alike(population.cloud, rows)
        tensors = _named(rows)
        for values in population.statistics.values():
            values[index] = 0
    else:
        tensors = dict(rows)
    cloud = _named(population.cloud)
    for name, values in tensors.items():
        _check_length(values, index.numel(), name)
        cloud[name][index] = values
        for moments in (population.adam.m, population.adam.v):
            if name in moments:
                moments[name][index] = 0
    forget_mean(population)


def forget_mean(population: Population) -> None:
    """Begin the running mean of the parameters anew: what it averaged are no longer the same Gaussians."""
    population.mean, population.averaged = {}, 0


def clear_statistics(population: Population) -> None:
    """Begin a new interval: all statistics become zero."""
    for values in population.statistics.values():
        values.zero_()


def _named(cloud: GaussianCloud) -> dict[str, Tensor]:
    return {name: getattr(cloud, name) for name in FIELDS} | dict(cloud.extras)


def _join(a: GaussianCloud, b: GaussianCloud) -> GaussianCloud:
    """All rows of both, extras included (`GaussianCloud.concat` would drop extras that are not common)."""
    left, right = _named(a), _named(b)
    joined = {name: torch.cat([left[name], right[name]]) for name in left}
    return GaussianCloud(**{name: joined[name] for name in FIELDS}, extras={name: joined[name] for name in a.extras})


def _check_length(values: Tensor, length: int, name: str) -> None:
    if values.shape[:1] != (length,):
        raise ValueError(f"{name} has shape {tuple(values.shape)}, expected leading dimension {length}")


def _check_alike(cloud: GaussianCloud, rows: GaussianCloud) -> None:
    if rows.sh_degree != cloud.sh_degree or set(rows.extras) != set(cloud.extras):
        raise ValueError(
            f"rows have SH degree {rows.sh_degree} and extras {sorted(rows.extras)}, "
            f"expected {cloud.sh_degree} and {sorted(cloud.extras)}"
        )
