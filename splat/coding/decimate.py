"""Fewer Gaussians without photos: neighbours that look alike are merged, pair by pair.

A pair becomes the Gaussian with its summed mass, mean and covariance (moment matching, as in hierarchical 3DGS, Kerbl
et al. 2024, section 4.1); mass is opacity times surface area. Pairs are taken in order of how much the merge changes.
"""

import math

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas, unit_quats
from splat.coding.neighbours import nearest
from splat.coding.parallel import each, pieces
from splat.errors import InputError

NEIGHBOURS = 8
# At most this part of the Gaussians disappears before neighbours are searched again.
ROUND = 0.3
# Weight of a colour difference against a relative change of shape.
COLOR_WEIGHT = 2.0
_P = 1.6075  # Thomsen's exponent for the surface area of an ellipsoid


def decimate(table: GaussianArrays, count: int) -> GaussianArrays:
    """``table`` merged down to ``count`` Gaussians; extras are dropped where rows were merged, so always.

    Raises InputError when ``count`` is not positive.
    """
    if count < 1:
        raise InputError(f"decimation to {count} Gaussians was asked for; give a positive number or percentage")
    table = table.replace(extras={})
    while len(table) > count:
        mass = _mass(table)
        first, second = _pairs(table, mass, min(len(table) - count, math.ceil(ROUND * len(table))))
        keep = np.ones(len(table), bool)
        keep[first] = keep[second] = False
        table = GaussianArrays.concat([table.select(keep), _merge(table, mass, first, second)])
    return table


def _mass(table: GaussianArrays) -> np.ndarray:
    """(N,) float64 opacity times surface area."""
    return alphas(table) * _area(np.exp(np.clip(table.log_scales.astype(np.float64), -30, 30))) + 1e-30


def _area(s: np.ndarray) -> np.ndarray:
    """Surface of ellipsoids from their half axes (N, 3)."""
    products = np.stack([s[:, 0] * s[:, 1], s[:, 0] * s[:, 2], s[:, 1] * s[:, 2]], 1)
    return 4 * math.pi * np.power(products, _P).mean(1) ** (1 / _P)


def _pairs(table: GaussianArrays, mass: np.ndarray, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Up to ``wanted`` disjoint pairs of neighbours, at least one, the most alike first."""
    n = len(table)
    found = [
        np.unique(np.minimum(rows[:, None], near) * n + np.maximum(rows[:, None], near))
        for rows, _, near in nearest(table.means.astype(np.float64), NEIGHBOURS)
    ]
    edges = np.unique(np.concatenate(found))
    low, high = edges // n, edges % n
    cost = np.empty(len(edges))

    def measure(rows: slice) -> None:
        cost[rows] = _cost(table, mass, low[rows], high[rows])

    each(measure, pieces(len(edges)))
    # Edges of one cost, as equal Gaussians have, come in a mixed order: along a chain in its own order each would wait
    # for the one before.
    mixed = np.random.default_rng(0).permutation(len(edges))
    order = mixed[np.argsort(cost[mixed], kind="stable")]
    return _matching(low[order], high[order], n, wanted)


def _matching(low: np.ndarray, high: np.ndarray, n: int, wanted: int) -> tuple[np.ndarray, np.ndarray]:
    """Greedy matching of edges in order: an edge is taken when it is the first left of both its ends."""
    rank = np.arange(len(low))
    taken = []
    free = np.ones(n, bool)
    for _ in range(32):
        best_low, best_high = np.full(n, len(free) + len(low)), np.full(n, len(free) + len(low))
        # Of several edges at one end the last that is assigned stays, which is the first in order.
        best_low[low[::-1]], best_high[high[::-1]] = np.arange(len(low))[::-1], np.arange(len(low))[::-1]
        best = np.minimum(best_low, best_high)
        index = np.arange(len(low))
        chosen = np.flatnonzero((best[low] == index) & (best[high] == index))
        if len(chosen) == 0:
            break
        taken.append(np.stack([rank[chosen], low[chosen], high[chosen]]))
        free[low[chosen]] = free[high[chosen]] = False
        left = free[low] & free[high]
        low, high, rank = low[left], high[left], rank[left]
    pairs = np.concatenate(taken, 1)
    pairs = pairs[:, np.argsort(pairs[0])][:, :wanted]
    return pairs[1], pairs[2]


def _cost(table: GaussianArrays, mass: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """(E,) what a merge changes: mass × (relative growth of the covariance's volume + colour difference)."""
    weight = mass[i] / (mass[i] + mass[j])
    _, covariance = _moments(table, i, j, weight)
    volume = 2 * (weight * table.log_scales[i].sum(1) + (1 - weight) * table.log_scales[j].sum(1))
    growth = np.clip(_log_determinant(covariance) - volume, 0, 60) / 2
    difference = np.square(table.sh[i, 0] - table.sh[j, 0].astype(np.float64)).sum(1)
    return np.minimum(mass[i], mass[j]) * (growth + COLOR_WEIGHT * difference)


def _log_determinant(m: np.ndarray) -> np.ndarray:
    """(E,) of positive definite matrices (E, 3, 3), by their pivots; at least -100."""
    with np.errstate(divide="ignore", invalid="ignore"):
        first, ratio = m[:, 0, 0], m[:, 0, 1] / m[:, 0, 0]
        second = m[:, 1, 1] - ratio * m[:, 0, 1]
        cross = m[:, 1, 2] - ratio * m[:, 0, 2]
        third = m[:, 2, 2] - m[:, 0, 2] * (m[:, 0, 2] / first) - cross * (cross / second)
        return np.maximum(np.nan_to_num(np.log(first) + np.log(second) + np.log(third), nan=-100.0), -100)


def _covariances(table: GaussianArrays) -> np.ndarray:
    """(N, 3, 3) float64."""
    w, x, y, z = unit_quats(table).astype(np.float64).T
    axes = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]) * np.exp(table.log_scales.astype(np.float64)).T  # fmt: skip
    return np.einsum("ikn,jkn->nij", axes, axes)


def _moments(table: GaussianArrays, i: np.ndarray, j: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (M, 3) and covariance (M, 3, 3) of pairs whose first has the fraction ``weight``."""
    thin = table.replace(sh=table.sh[:, :1])
    one, two, w = thin.select(i), thin.select(j), weight[:, None]
    between = one.means.astype(np.float64) - two.means
    covariance = w[..., None] * _covariances(one) + (1 - w[..., None]) * _covariances(two)
    covariance += (w * (1 - w))[..., None] * between[:, :, None] * between[:, None, :]
    return two.means + w * between, covariance


def _merge(table: GaussianArrays, mass: np.ndarray, i: np.ndarray, j: np.ndarray) -> GaussianArrays:
    weight = mass[i] / (mass[i] + mass[j])
    mean, covariance = _moments(table, i, j, weight)
    values, vectors = np.linalg.eigh(covariance)
    vectors *= np.sign(np.linalg.det(vectors))[:, None, None]
    log_scales = np.log(np.maximum(values, 1e-24)) / 2
    opacity = np.clip((mass[i] + mass[j]) / _area(np.exp(log_scales)), 1e-6, 1 - 1e-6)
    w, kind = weight[:, None, None].astype(table.sh.dtype), table.sh.dtype
    return GaussianArrays(
        mean.astype(table.means.dtype),
        log_scales.astype(kind),
        _quaternions(vectors).astype(kind),
        np.log(opacity / (1 - opacity)).astype(kind),
        w * table.sh[i] + (1 - w) * table.sh[j],
        georeference=table.georeference,
    )


def _quaternions(matrices: np.ndarray) -> np.ndarray:
    """(M, 4) unit quaternions w x y z of proper rotations (M, 3, 3)."""
    from scipy.spatial.transform import Rotation

    if len(matrices) == 0:
        return np.zeros((0, 4))
    return Rotation.from_matrix(matrices).as_quat()[:, [3, 0, 1, 2]]
