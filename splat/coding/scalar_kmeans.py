"""The best few numbers to stand for many: scalar quantizers with a free codebook."""

import numpy as np

ROUNDS, STEPS = 24, 12
# Sorted values beyond this many are thinned evenly; quantiles of 2^20 samples are exact enough for 256 codes.
MAX_SAMPLES = 1 << 20
# Of more values than this only some rows are sorted at all.
MAX_SORTED = 1 << 21


def fit(values: np.ndarray, weights: np.ndarray | None = None, size: int = 256, keep: int = 0) -> np.ndarray:
    """(size,) ascending float32 codes that minimise the squared error over finite ``values`` (any shape).

    Lloyd's algorithm (1957) on sorted values, where a step costs only ``size`` look-ups in running sums; it starts
    from the asymptotically optimal density, the cube root of that of the values (Panter and Dite 1951), and moves codes
    out of local optima.
    Values with at most ``size`` (or ``keep``) distinct numbers are kept exactly. The last code fills up ``keep``.

    Args:
        weights: (N,) of the rows of ``values``, positive; how much an error counts. All 1 if None.
    """
    if values.size == 0:
        return np.zeros(max(size, keep), np.float32)
    weights = np.ones(len(values)) if weights is None else weights
    if values.size > MAX_SORTED:
        step = -(-values.size // MAX_SORTED)
        if len(np.unique(values[::step])) > max(size, keep):
            values, weights = values[::step], weights[::step]
    weights = np.broadcast_to(weights.reshape(-1, *(1,) * (values.ndim - 1)), values.shape)
    order = np.argsort(values, axis=None, kind="stable")
    values = values.reshape(-1)[order]
    distinct = values[np.concatenate([[True], values[1:] != values[:-1]])]
    if len(distinct) <= max(size, keep):
        return _filled(distinct, max(size, keep))
    weights = weights.reshape(-1)[order].astype(np.float64)
    if len(values) > MAX_SAMPLES:
        chosen = np.linspace(0, len(values) - 1, MAX_SAMPLES).astype(np.int64)
        values, weights = values[chosen], weights[chosen]
    values = values.astype(np.float64)
    sums = _Sums(values, weights)
    codes = sums.lloyd(_start(values, weights, size))
    for _ in range(ROUNDS):
        moved = sums.lloyd(_relocate(sums, codes))
        if sums.errors(moved)[0].sum() >= sums.errors(codes)[0].sum():
            break
        codes = moved
    return _filled(codes, max(size, keep))


def _filled(codes: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([codes, np.full(size - len(codes), codes[-1])]).astype(np.float32)


class _Sums:
    """Running sums of sorted values, which give the mass, mean and squared error of any cell by look-up."""

    def __init__(self, values: np.ndarray, weights: np.ndarray) -> None:
        self.values = values
        moments = (weights, weights * values, weights * values**2)
        self.sums = [np.concatenate([[0.0], np.cumsum(moment)]) for moment in moments]

    def cells(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mass, first and second moment of each code's cell."""
        edges = np.searchsorted(self.values, (codes[1:] + codes[:-1]) / 2)
        edges = np.concatenate([[0], edges, [len(self.values)]])
        return tuple(np.diff(total[edges]) for total in self.sums)

    def lloyd(self, codes: np.ndarray) -> np.ndarray:
        """Codes after some steps; one that no value chose stays where it is until its neighbours move."""
        for _ in range(STEPS):
            mass, moment, _ = self.cells(codes)
            codes = np.sort(np.where(mass > 0, moment / np.maximum(mass, 1e-300), codes))
        return codes

    def errors(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Squared error and mass of each cell."""
        mass, moment, square = self.cells(codes)
        return np.maximum(square - 2 * codes * moment + codes**2 * mass, 0), mass


def _relocate(sums: _Sums, codes: np.ndarray) -> np.ndarray:
    """Move codes from where two could be one to where one should be two, as far as that gains."""
    error, mass = sums.errors(codes)
    gap = codes[1:] - codes[:-1]
    price = mass[1:] * mass[:-1] / np.maximum(mass[1:] + mass[:-1], 1e-300) * gap**2
    cheap, worst = np.argsort(price), np.argsort(-error)
    # Halving a cell of even density saves three quarters of its error.
    moves = [(i, j) for i, j in zip(cheap, worst, strict=False) if 0.75 * error[j] > price[i]][: len(codes) // 8]
    codes = codes.copy()
    width = np.sqrt(3 * error / np.maximum(mass, 1e-300)) / 2
    for i, j in moves:
        if i + 1 != j and i != j:
            codes[i + 1] = codes[j] + width[j]
            codes[j] -= width[j]
    return np.sort(codes)


def _start(values: np.ndarray, weights: np.ndarray, size: int) -> np.ndarray:
    """Codes spread like the cube root of the weighted density of the sorted ``values``."""
    mass, edges = np.histogram(values, max(8, min(4096, len(values) // 16)), weights=weights)
    cumulative = np.concatenate([[0], np.cumsum(np.cbrt(mass))])
    at = (np.arange(size) + 0.5) / size * cumulative[-1]
    return np.interp(at, cumulative, edges)


def nearest(values: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Index (same shape as ``values``, uint8 for up to 256 codes) of the nearest of the ascending ``codes``."""
    middle = (codes[1:].astype(np.float64) + codes[:-1]) / 2
    index = np.searchsorted(middle, values, side="left")
    return index.astype(np.uint8 if len(codes) <= 256 else np.int64)
