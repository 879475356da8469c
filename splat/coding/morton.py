"""Row orders: neighbours in space next to each other (Morton), or the most visible first."""

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas
from splat.coding.parallel import each, pieces


def morton(means: np.ndarray) -> np.ndarray:
    """(N,) order of finite centres (N, 3) along the Z-order curve of their bounding box, 21 bits an axis."""
    if len(means) == 0:
        return np.zeros(0, np.int64)
    low = means.min(0).astype(np.float64)
    extent = means.max(0) - low
    step = ((1 << 21) - 1) / np.where(extent > 0, extent, 1)
    code = np.empty(len(means), np.uint64)

    def encode(rows: slice) -> None:
        cells = ((means[rows] - low) * step).astype(np.uint64)
        code[rows] = sum(spread_bits(cells[:, axis]) << np.uint64(axis) for axis in range(3))

    each(encode, pieces(len(means)))
    return np.argsort(code, kind="stable")


def spread_bits(bits: np.ndarray) -> np.ndarray:
    """Move bit i of 21-bit integers to bit 3i (Baert 2013, "Morton encoding: magic bits")."""
    masks = (0x1F00000000FFFF, 0x1F0000FF0000FF, 0x100F00F00F00F00F, 0x10C30C30C30C30C3, 0x1249249249249249)
    for shift, mask in zip((32, 16, 8, 4, 2), masks, strict=True):
        bits = (bits | bits << np.uint64(shift)) & np.uint64(mask)
    return bits


def visibility(table: GaussianArrays) -> np.ndarray:
    """(N,) order with the largest volume times opacity first: what progressive viewers should get early."""
    score = table.log_scales.sum(1) + np.log(np.maximum(alphas(table), np.float32(1e-30)))
    bits = score.astype(np.float32).view(np.uint32)
    # Floats order as integers once the signs are seen to; with the row behind it no two keys are equal, so that the
    # fastest sort gives a stable order.
    falling = np.where(bits >> 31, bits, ~bits & np.uint32(0x7FFFFFFF))
    keys = falling.astype(np.uint64) << np.uint64(32) | np.arange(len(table), dtype=np.uint64)
    keys.sort()
    return (keys & np.uint64(0xFFFFFFFF)).astype(np.int64)
