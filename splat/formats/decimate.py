"""Fewer Gaussians without photos: neighbours that look alike are merged, pair by pair.

A pair becomes the Gaussian with its summed mass, mean and covariance (moment matching, as in hierarchical 3DGS, Kerbl
et al. 2024, section 4.1); mass is opacity times surface area. Pairs are taken in order of how much the merge changes.
"""

import math

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.errors import InputError

NEIGHBOURS = 8
# At most this part of the Gaussians disappears before neighbours are searched again.
ROUND = 0.3
# Weight of a colour difference against a relative change of shape.
COLOR_WEIGHT = 2.0
_P = 1.6075  # Thomsen's exponent for the surface area of an ellipsoid


def decimate(cloud: GaussianCloud, count: int) -> GaussianCloud:
    """``cloud`` merged down to ``count`` Gaussians; extras are dropped where rows were merged, so always.

    Raises InputError when ``count`` is not positive.
    """
    if count < 1:
        raise InputError(f"decimation to {count} Gaussians was asked for; give a positive number or percentage")
    cloud = cloud.replace(extras={})
    while len(cloud) > count:
        first, second = _pairs(cloud, min(len(cloud) - count, math.ceil(ROUND * len(cloud))))
        keep = torch.ones(len(cloud), dtype=torch.bool)
        keep[first] = keep[second] = False
        cloud = GaussianCloud.concat([cloud.select(keep), _merge(cloud, first, second)])
    return cloud


def _mass(cloud: GaussianCloud) -> Tensor:
    """(N,) float64 opacity times surface area."""
    s = cloud.log_scales.double().clamp(-30, 30).exp()
    pairs = torch.stack([s[:, 0] * s[:, 1], s[:, 0] * s[:, 2], s[:, 1] * s[:, 2]], 1)
    return cloud.logit_opacities.double().sigmoid() * _area(pairs) + 1e-30


def _area(products: Tensor) -> Tensor:
    """Surface of an ellipsoid from the products (N, 3) of its half axes."""
    return 4 * math.pi * products.pow(_P).mean(1).pow(1 / _P)


def _pairs(cloud: GaussianCloud, wanted: int) -> tuple[Tensor, Tensor]:
    """Up to ``wanted`` disjoint pairs of neighbours, at least one, the most alike first."""
    from scipy.spatial import cKDTree

    means = cloud.means.double().numpy()
    k = min(NEIGHBOURS + 1, len(means))
    neighbour = cKDTree(means).query(means, k, workers=-1)[1][:, 1:]
    a = np.repeat(np.arange(len(means)), k - 1)
    b = neighbour.reshape(-1)
    once = a != b
    low, high = np.minimum(a, b)[once], np.maximum(a, b)[once]
    edges = np.unique(low * len(means) + high)
    low, high = torch.from_numpy(edges // len(means)), torch.from_numpy(edges % len(means))
    order = torch.argsort(_cost(cloud, low, high), stable=True)
    return _matching(low[order], high[order], len(cloud), wanted)


def _matching(low: Tensor, high: Tensor, n: int, wanted: int) -> tuple[Tensor, Tensor]:
    """Greedy matching of edges in order: an edge is taken when it is the first left of both its ends."""
    rank = torch.arange(len(low))
    taken: list[Tensor] = []
    free = torch.ones(n, dtype=torch.bool)
    for _ in range(32):
        best = torch.full((n,), len(low) + n)
        best.scatter_reduce_(0, low, rank, "amin")
        best.scatter_reduce_(0, high, rank, "amin")
        chosen = rank[(best[low] == rank) & (best[high] == rank)]
        if len(chosen) == 0:
            break
        place = torch.searchsorted(rank, chosen)
        taken.append(torch.stack([low[place], high[place], chosen]))
        free[low[place]] = free[high[place]] = False
        left = free[low] & free[high]
        low, high, rank = low[left], high[left], rank[left]
    pairs = torch.cat(taken, 1)
    pairs = pairs[:, torch.argsort(pairs[2])][:2, :wanted]
    return pairs[0], pairs[1]


def _cost(cloud: GaussianCloud, a: Tensor, b: Tensor, chunk: int = 1 << 18) -> Tensor:
    """(E,) what a merge changes: mass × (relative growth of the covariance's volume + colour difference)."""
    mass, color = _mass(cloud), cloud.sh[:, 0].double()
    out = torch.empty(len(a), dtype=torch.float64)
    for first in range(0, len(a), chunk):
        i, j = a[first : first + chunk], b[first : first + chunk]
        weight = mass[i] / (mass[i] + mass[j])
        _, covariance = _moments(cloud, i, j, weight)
        logdet = torch.logdet(covariance).nan_to_num(0, 0, -100)
        own = 2 * (weight * cloud.log_scales[i].double().sum(1) + (1 - weight) * cloud.log_scales[j].double().sum(1))
        growth = (logdet - own).clamp(0, 60) / 2
        difference = (color[i] - color[j]).square().sum(1)
        out[first : first + chunk] = torch.minimum(mass[i], mass[j]) * (growth + COLOR_WEIGHT * difference)
    return out


def _moments(cloud: GaussianCloud, i: Tensor, j: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (M, 3) and covariance (M, 3, 3) of pairs whose first has the share ``weight``."""
    one, two = cloud.select(i).to(dtype=torch.float64), cloud.select(j).to(dtype=torch.float64)
    w = weight[:, None]
    mean = w * one.means + (1 - w) * two.means
    between = one.means - two.means
    covariance = w[..., None] * one.covariances + (1 - w[..., None]) * two.covariances
    covariance = covariance + (w * (1 - w))[..., None] * between[:, :, None] * between[:, None, :]
    return mean, covariance


def _merge(cloud: GaussianCloud, i: Tensor, j: Tensor) -> GaussianCloud:
    mass = _mass(cloud)
    weight = mass[i] / (mass[i] + mass[j])
    mean, covariance = _moments(cloud, i, j, weight)
    values, vectors = torch.linalg.eigh(covariance)
    vectors = vectors * torch.linalg.det(vectors).sign()[:, None, None]
    log_scales = values.clamp_min(1e-24).log() / 2
    s = log_scales.exp()
    area = _area(torch.stack([s[:, 0] * s[:, 1], s[:, 0] * s[:, 2], s[:, 1] * s[:, 2]], 1))
    opacity = ((mass[i] + mass[j]) / area).clamp(1e-6, 1 - 1e-6)
    w = weight[:, None, None].to(cloud.sh)
    return GaussianCloud(
        mean.to(cloud.dtype),
        log_scales.to(cloud.dtype),
        _quaternions(vectors).to(cloud.dtype),
        torch.logit(opacity).to(cloud.dtype),
        w * cloud.sh[i] + (1 - w) * cloud.sh[j],
    )


def _quaternions(matrices: Tensor) -> Tensor:
    """(M, 4) unit quaternions w x y z of proper rotations (M, 3, 3)."""
    from scipy.spatial.transform import Rotation

    if len(matrices) == 0:
        return torch.zeros(0, 4, dtype=torch.float64)
    return torch.from_numpy(Rotation.from_matrix(matrices.numpy()).as_quat())[:, [3, 0, 1, 2]]
