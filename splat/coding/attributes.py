"""What lossy writers share: a clean float32 cloud, rounding to integers, quaternions by their three smallest parts."""

from pathlib import Path

import numpy as np

from splat.cloud_arrays import FIELDS, GaussianArrays
from splat.coding.parallel import each, pieces
from splat.errors import InputError

# Opacities 0 and 1 have infinite logits; formats of 8 bits cannot tell them from these.
MIN_ALPHA = 1e-6
SQRT2 = 2**0.5


def broken(table: GaussianArrays) -> np.ndarray:
    """(N,) mask of Gaussians that mean nothing: NaN anywhere, or infinite where infinity has no sense.

    Infinite opacity logits mean 0 and 1, and a log scale of -inf means flat, so that these are not broken.
    """
    bad = np.zeros(len(table), bool)

    def look(rows: slice) -> None:
        # A sum is finite when its terms are, up to overflow; only where it is not, rows are looked at one by one.
        arrays = (table.means[rows], table.quats[rows], table.sh[rows])
        log_scales, logit = table.log_scales[rows], table.logit_opacities[rows]
        with np.errstate(over="ignore", invalid="ignore"):
            total = sum(array.sum(dtype=np.float64) for array in arrays)
            if np.isfinite(total + log_scales.sum(dtype=np.float64) + logit.sum(dtype=np.float64)):
                return
        for array in arrays:
            bad[rows] |= ~np.isfinite(array).reshape(len(array), -1).all(1)
        bad[rows] |= np.isnan(logit) | ~(log_scales < np.inf).all(1)

    each(look, pieces(len(table)))
    return bad


def finite(table: GaussianArrays) -> np.ndarray:
    """(N,) mask of Gaussians without any NaN or infinity."""
    good = np.ones(len(table), bool)
    for name in FIELDS:
        array = getattr(table, name)
        good &= np.isfinite(array).all(tuple(range(1, array.ndim)))
    return good


def prepare(table: GaussianArrays, path: Path, max_degree: int = 4) -> GaussianArrays:
    """``table`` in float32 with SH up to ``max_degree``, for a format that cannot hold NaN.

    Raises InputError when Gaussians are ``broken``.
    """
    table = table.replace(extras={}).map(lambda array: np.asarray(array, np.float32))
    bad = int(broken(table).sum())
    if bad:
        raise InputError(
            f"{path}: {bad:,} of {len(table):,} Gaussians hold NaN or infinite values, which this format cannot "
            "store; drop them with `splat convert` or cloud.select(cloud.finite())"
        )
    return table.with_sh_degree(max_degree) if table.sh_degree > max_degree else table


def without_zero_bands(table: GaussianArrays) -> GaussianArrays:
    """``table`` without the highest SH bands that are zero everywhere: they cost bytes and say nothing."""
    degree = table.sh_degree
    while degree and not any(table.sh[rows, degree * degree :].any() for rows in pieces(len(table))):
        degree -= 1
    return table.with_sh_degree(degree)


def to_uint(values: np.ndarray, top: int, dtype: type = np.uint8) -> np.ndarray:
    """``values`` rounded to the nearest integer and clamped to [0, top]."""
    return np.clip(np.rint(values), 0, top).astype(dtype)


def alphas(table: GaussianArrays) -> np.ndarray:
    """(N,) opacities in [0, 1], float32."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-table.logit_opacities))


def logits(alpha: np.ndarray) -> np.ndarray:
    """(N,) finite float32 logits of opacities, those of 0 and 1 limited by ``MIN_ALPHA``."""
    alpha = np.clip(alpha.astype(np.float64), MIN_ALPHA, 1 - MIN_ALPHA)
    return np.log(alpha / (1 - alpha)).astype(np.float32)


def byte_logits(codes: np.ndarray) -> np.ndarray:
    """(N,) `logits` of opacities that are bytes of 255."""
    return logits(np.arange(256) / 255)[codes]


def scales(table: GaussianArrays) -> np.ndarray:
    """(N, 3) linear standard deviations, float32, none infinite."""
    with np.errstate(over="ignore"):
        return np.minimum(np.exp(table.log_scales), np.finfo(np.float32).max)


def unit_quats(table: GaussianArrays) -> np.ndarray:
    """(N, 4) float32 unit quaternions w x y z; a zero quaternion becomes the identity."""
    quats = table.quats
    with np.errstate(over="ignore", under="ignore"):
        square = np.einsum("ij,ij->i", quats, quats)[:, None]
    if square.size and (square.min() < 1e-30 or square.max() > 1e30):
        # Dividing by the largest part first keeps tiny and huge quaternions from under- and overflowing.
        largest = np.abs(quats).max(1, keepdims=True)
        quats = np.where(largest > 0, quats / np.where(largest > 0, largest, 1), np.float32([1, 0, 0, 0]))
        square = np.einsum("ij,ij->i", quats, quats)[:, None]
    return quats / np.sqrt(square)


# The three parts that are left when part i is left out.
_OTHERS = np.array([[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]])


def smallest_three(quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit quaternions (N, 4) → index (N,) of the largest part, and the other three (N, 3) in order.

    The sign is chosen so that the left-out part is positive; the three lie in [-1/√2, 1/√2].
    """
    return without(quats, np.abs(quats).argmax(1))


def without(quats: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``index`` (N,), and the parts of ``quats`` (N, 4) other than these, of the sign that makes these positive."""
    largest = np.take_along_axis(quats, index[:, None], 1)
    return index, np.copysign(np.float32(1), largest) * np.take_along_axis(quats, _OTHERS[index], 1)


def from_smallest_three(index: np.ndarray, three: np.ndarray) -> np.ndarray:
    """The inverse of ``smallest_three``: (N, 4) float32 quaternions in the same part order."""
    quats = np.empty((len(three), 4), np.float32)
    fill_from_smallest_three(quats, index, three[:, 0], three[:, 1], three[:, 2])
    return quats


def fill_from_smallest_three(
    quats: np.ndarray, index: np.ndarray, first: np.ndarray, second: np.ndarray, third: np.ndarray
) -> None:
    """``from_smallest_three`` of columns (N,), into ``quats`` (N, 4): a column at a time keeps to vector registers."""
    largest = np.sqrt(np.maximum(np.float32(0), 1 - (first * first + second * second + third * third)))
    quats[:, 0] = np.where(index == 0, largest, first)
    quats[:, 1] = np.where(index == 0, first, np.where(index == 1, largest, second))
    quats[:, 2] = np.where(index <= 1, second, np.where(index == 2, largest, third))
    quats[:, 3] = np.where(index == 3, largest, third)
