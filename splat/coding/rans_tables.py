"""Frequencies of the entropy coder of `.splatz`, and their two forms in a file: as they are, or as curves.

A curve holds how dense symbols are at a few places, ever farther apart, and the largest symbol; in between it is
straight. Even and odd symbols may have curves of their own, as those of signed codes are the two signs. Whole numbers
throughout, so that every machine finds the same frequencies.
"""

import zlib

import numpy as np

PRECISION = 14  # bits of the frequencies
TOTAL = 1 << PRECISION
# First symbols of the buckets whose densities a curve holds; 256 ends the last.
EDGES = np.array([0, 1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 224, 256])
BUCKETS = len(EDGES) - 1
LEVELS = np.array([256, 279, 304, 332, 362, 395, 431, 470])  # 256 · 2^(i/8)
REFITS = 3

_MIDDLES = EDGES[:-1] + EDGES[1:] - 1  # doubled
_BEFORE = np.clip(np.searchsorted(_MIDDLES, 2 * np.arange(256), side="right") - 1, 0, BUCKETS - 2)
_SPANS = _MIDDLES[_BEFORE + 1] - _MIDDLES[_BEFORE]
_PARTS = np.clip(2 * np.arange(256) - _MIDDLES[_BEFORE], 0, _SPANS)


class Damaged(ValueError):
    """The bytes are no stream of this coder."""


def normalise(counts: np.ndarray) -> np.ndarray:
    """Frequencies (C, 256) that sum to TOTAL in each row that has counts, at least 1 where a symbol occurs."""
    total = counts.sum(1, keepdims=True)
    wanted = (counts * TOTAL + total // 2) // np.maximum(total, 1)
    result = np.where(counts > 0, np.maximum(wanted, 1), 0).astype(np.int64)
    for row in np.flatnonzero(total[:, 0]):
        excess = int(result[row].sum()) - TOTAL
        while excess:
            largest = int(result[row].argmax())
            change = min(excess, int(result[row, largest]) // 2) if excess > 0 else excess
            result[row, largest] -= change
            excess -= change
    return result


def pack_tables(frequencies: np.ndarray) -> bytes:
    """All frequencies (C, 256)."""
    return zlib.compress(frequencies.astype("<u2").T.reshape(-1).view(np.uint8).reshape(-1, 2).T.tobytes(), 6)


def unpack_tables(data: bytes, kinds: int) -> np.ndarray:
    """The inverse of `pack_tables` for ``kinds`` rows. Raises Damaged."""
    planes = np.frombuffer(inflate(data, kinds * 512), np.uint8).reshape(2, 256, kinds).astype(np.int64)
    frequencies = (planes[0] + (planes[1] << 8)).T
    if not np.isin(frequencies.sum(1), (0, TOTAL)).all():
        raise Damaged("a table of frequencies does not sum up")
    return frequencies


def pack_curves(counts: np.ndarray, split: bool) -> bytes:
    """Curves whose frequencies come near to ``counts`` (C, 256) of symbols; ``split``: even and odd ones apart."""
    if split:
        halves = counts.reshape(-1, 128, 2).transpose(0, 2, 1).reshape(-1, 128)
        counts = np.concatenate([halves, np.zeros_like(halves)], 1)
    used = counts.sum(1) > 0
    last = np.where(used, 255 - (counts[:, ::-1] > 0).argmax(1), 0)
    wanted = np.add.reduceat(counts, EDGES[:-1], axis=1).astype(np.float64)
    widths = np.clip(last[:, None] + 1, EDGES[:-1], EDGES[1:]) - EDGES[:-1]
    density = wanted / np.maximum(widths, 1)

    def over_pairs(values: np.ndarray, reduce) -> np.ndarray:
        """One value for all buckets of a table, (curves, 1)."""
        tables = values.reshape(-1, (2 if split else 1) * BUCKETS)
        return np.repeat(reduce(tables, axis=1), 2 if split else 1)[:, None]

    floor = over_pairs(np.where(density > 0, density, np.inf), np.min)
    rises = np.where(density > 0, 8 * np.log2(np.maximum(density, 1e-9) / floor.clip(max=1e18)), -9.0)
    beyond = np.arange(BUCKETS) == np.searchsorted(EDGES, last, side="right")[:, None]
    for _ in range(REFITS):  # straight lines between cell_centers give other sums than steps
        rises = np.where(beyond, np.roll(rises, 1, axis=1), rises)
        codes = np.where(used[:, None], np.clip(np.rint(rises) + 9, 0, 255), 0).astype(np.uint8)
        weights = _weights(codes, last)
        found = np.add.reduceat(weights, EDGES[:-1], axis=1).astype(np.float64)
        target = wanted / np.maximum(over_pairs(wanted, np.sum), 1)
        got = found / np.maximum(over_pairs(found, np.sum), 1)
        better = (wanted > 0) & (found > 0)
        rises = rises + np.where(better, 8 * np.log2(np.where(better, target / np.maximum(got, 1e-12), 1.0)), 0.0)
    return zlib.compress(last.astype(np.uint8).tobytes() + codes.T.tobytes(), 9)


def unpack_curves(data: bytes, kinds: int, split: bool) -> np.ndarray:
    """Frequencies (``kinds``, 256) of what `pack_curves` made. Raises Damaged."""
    curves = kinds * (2 if split else 1)
    numbers = np.frombuffer(inflate(data, curves * (BUCKETS + 1)), np.uint8)
    weights = _weights(numbers[curves:].reshape(BUCKETS, curves).T, numbers[:curves].astype(np.int64))
    if split:
        weights = weights[:, :128].reshape(kinds, 2, 128).transpose(0, 2, 1).reshape(kinds, 256)
    return normalise(weights)


def _weights(codes: np.ndarray, last: np.ndarray) -> np.ndarray:
    """(C, 256) weights of the symbols up to ``last`` (C,), from the levels of all buckets (C, BUCKETS)."""
    codes = codes.astype(np.int64)
    density = np.where(codes > 0, LEVELS[(codes - 1) & 7] << ((codes - 1).clip(0) >> 3), 0)
    weights = (density[:, _BEFORE] * (_SPANS - _PARTS) + density[:, _BEFORE + 1] * _PARTS) // _SPANS
    used = (codes > 0).any(1, keepdims=True) & (np.arange(256) <= last[:, None])
    return np.where(used, np.maximum(weights, 1), 0)


def inflate(data: bytes, size: int) -> bytes:
    """``size`` bytes of zlib data. Raises Damaged."""
    try:
        out = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise Damaged("a table cannot be inflated") from error
    if len(out) != size:
        raise Damaged("a table has a wrong length")
    return out
