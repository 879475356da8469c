"""How much each Gaussian matters in pictures, guessed without any: bits should go where they are seen."""

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas

# Mixed steps compress less well than one step; below this ratio of weighted errors they still win.
WORTH_IT = 0.4


def importance(table: GaussianArrays, spread: float) -> np.ndarray:
    """(N,) float64 weights around 1: opacity times the largest face a Gaussian can show, within [1/spread, spread]."""
    if len(table) == 0:
        return np.zeros(0)
    log_scales = np.clip(table.log_scales, -20, 20)
    face = log_scales.sum(1, dtype=np.float64) - log_scales.min(1)
    weight = np.exp(np.clip(face - lower_median(face), -40, 40)) * alphas(table)
    return np.clip(weight / max(lower_median(weight), 1e-30), 1 / spread, spread)


def lower_median(values: np.ndarray) -> float:
    """The median of ``values`` (N > 0), of two middle ones the smaller."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle])


def step_factors(weights: np.ndarray, power: float, coarser: float) -> np.ndarray:
    """(N,) powers of two from 1/8 to 2 to multiply a quantizer's step by: fine where ``weights`` (N,) are large.

    Squared errors weighted by w at a fixed number of bits are least for steps ∝ 1/√w (reverse water-filling, Cover and
    Thomas, "Elements of information theory", 10.3); ``power`` 0.5 is that, less is more careful, as the weights are
    guesses. The steps are on average 2^``coarser`` times as large as without, which holds the size of the file. All 1
    where the weights are too much alike to gain.
    """
    wish = -power * np.log2(weights)
    low, high = -40.0, 40.0
    for _ in range(50):
        middle = (low + high) / 2
        if len(wish) and _rounded(wish + middle).mean() < coarser:
            low = middle
        else:
            high = middle
    factors = 2.0 ** _rounded(wish + high)
    gain = (weights * factors**2).mean() / weights.mean() if len(wish) else 1.0
    return factors if gain < WORTH_IT else np.ones(len(factors))


def _rounded(exponent: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(exponent), -3, 1)
