"""The best few numbers to stand for many: scalar quantizers with a free codebook."""

import numpy as np

ITERATIONS = 100
# Sorted values beyond this many are thinned evenly; quantiles of 2^20 samples are exact enough for 256 codes.
MAX_SAMPLES = 1 << 20


def fit(values: np.ndarray, weights: np.ndarray | None = None, size: int = 256) -> np.ndarray:
    """(size,) ascending float32 codes that minimise the squared error over finite ``values`` (any shape).

    Lloyd's algorithm (1957) on sorted values, where a step costs only ``size`` look-ups in their running sum; it starts
    from the asymptotically optimal density, the cube root of that of the values (Panter and Dite 1951).
    Values with at most ``size`` distinct numbers are kept exactly.

    Args:
        weights: of the same shape, positive; how much an error counts. All 1 if None.
    """
    order = np.argsort(values, axis=None, kind="stable")
    values = values.reshape(-1)[order]
    if len(values) == 0:
        return np.zeros(size, np.float32)
    distinct = values[np.concatenate([[True], values[1:] != values[:-1]])]
    if len(distinct) <= size:
        return np.concatenate([distinct, np.full(size - len(distinct), distinct[-1])]).astype(np.float32)
    weights = np.ones(len(values)) if weights is None else weights.reshape(-1)[order].astype(np.float64)
    if len(values) > MAX_SAMPLES:
        chosen = np.linspace(0, len(values) - 1, MAX_SAMPLES).astype(np.int64)
        values, weights = values[chosen], weights[chosen]
    values = values.astype(np.float64)
    codes = _start(values, weights, size)
    mass, moment = (np.concatenate([[0.0], np.cumsum(part)]) for part in (weights, weights * values))
    for _ in range(ITERATIONS):
        edges = np.searchsorted(values, (codes[1:] + codes[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(values)]])
        share = np.diff(mass[edges])
        # A code that no value chose stays where it is until its neighbours move.
        codes = np.where(np.diff(edges) > 0, np.diff(moment[edges]) / np.maximum(share, 1e-300), codes)
        codes.sort()
    return codes.astype(np.float32)


def _start(values: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Codes spread like the cube root of the weighted density of the sorted ``values``."""
    mass, edges = np.histogram(values, 4096, weights=weights)
    cumulative = np.concatenate([[0], np.cumsum(np.cbrt(mass))])
    at = (np.arange(size) + 0.5) / size * cumulative[-1]
    return np.interp(at, cumulative, edges)


def nearest(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Index (same shape as ``values``, uint8 for up to 256 codes) of the nearest of the ascending ``codes``."""
    middle = (codes[1:].astype(np.float64) + codes[:-1]) / 2
    index = np.searchsorted(middle, values, side="left")
    return index.astype(np.uint8 if len(codes) <= 256 else np.int64)
