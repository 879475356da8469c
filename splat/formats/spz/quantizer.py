"""The six attribute blocks of an SPZ file: centres, opacities, base colours, ln-scales, quaternions, SH."""

from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import (
    SQRT2,
    alphas,
    byte_logits,
    from_smallest_three,
    smallest_three,
    to_uint,
    unit_quats,
    without,
)
from splat.coding.importance import importance, step_factors
from splat.coding.parallel import each, pieces
from splat.errors import InputError

COLOR_SCALE = 0.15  # f_dc · 0.15 + 0.5 fills a byte's range
SCALE_FLOOR, SCALE_STEPS = -10.0, 16.0  # ln-scale = byte / 16 - 10
SH_BITS = (5, 4)  # of band 1 and of the bands above: the reference encoder's
# SH steps vary with importance; with these numbers files are as large as with one step for all, and 0 to 10 dB better.
SH_SPREAD, SH_POWER, SH_COARSER = 1e4, 0.4, 0.5
MAX_FRACTION = 20
_QUAT_TOP = 511  # magnitude of a 9-bit quaternion part
SMALL_W = 0.5  # below it version 2's rotations are rounded with care


def sizes(version: int, degree: int) -> list[int]:
    """Bytes per Gaussian of each block."""
    return [6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4, 3 * ((degree + 1) ** 2 - 1)]


def decode(
    blocks: Sequence[bytes], version: int, count: int, degree: int, fraction: int, max_degree: int = 4
) -> GaussianArrays:
    """The cloud in ``blocks``, whose sizes are right for ``count`` and ``degree``, with SH up to ``max_degree``."""
    center, alpha, color, scale, quat, sh = (np.frombuffer(block, np.uint8) for block in blocks)
    means = center.view("<f2").reshape(count, 3) if version == 1 else center.reshape(count, 3, 3)
    color, scale, sh = color.reshape(count, 3), scale.reshape(count, 3), sh.reshape(count, (degree + 1) ** 2 - 1, 3)
    quat = quat.reshape(count, 3) if version < 3 else quat.view("<u4")
    coefficients = (min(degree, max_degree) + 1) ** 2
    shapes = ((count, 3), (count, 3), (count, 4), (count,), (count, coefficients, 3))
    out = GaussianArrays(*(np.empty(shape, np.float32) for shape in shapes))

    def fill(rows: slice) -> None:
        out.means[rows] = means[rows] if version == 1 else _from_int24(means[rows]) * np.float32(2.0**-fraction)
        out.log_scales[rows] = scale[rows] / np.float32(SCALE_STEPS) + np.float32(SCALE_FLOOR)
        out.quats[rows] = _first_three(quat[rows]) if version < 3 else _unpack_quats(quat[rows])
        out.logit_opacities[rows] = byte_logits(alpha[rows])
        out.sh[rows, 0] = (color[rows] / np.float32(255) - np.float32(0.5)) / np.float32(COLOR_SCALE)
        out.sh[rows, 1:] = (sh[rows, : coefficients - 1] - np.float32(128)) / np.float32(128)

    each(fill, pieces(count))
    return out


def _from_int24(parts: np.ndarray) -> np.ndarray:
    """(N, 3, 3) little-endian bytes → (N, 3) float32 of two's-complement 24-bit integers."""
    wide = np.zeros((*parts.shape[:2], 4), np.uint8)
    wide[..., 1:] = parts  # the sign bit comes to its place; the shift back keeps it
    return (wide.view("<i4")[..., 0] >> 8).astype(np.float32)


def _first_three(quat: np.ndarray) -> np.ndarray:
    """Bytes of x y z, w ≥ 0 to be found, → quaternions w x y z."""
    vector = quat / np.float32(127.5) - 1
    w = np.sqrt(np.maximum(0, 1 - np.square(vector).sum(1, keepdims=True)))
    return np.concatenate([w, vector], 1)


def _unpack_quats(code: np.ndarray) -> np.ndarray:
    """2-bit index in the order x y z w, then three parts of sign and 9 bits → quaternions w x y z."""
    parts = np.stack([code >> 20 & 1023, code >> 10 & 1023, code & 1023], 1).astype(np.int32)
    three = (parts & _QUAT_TOP) * np.where(parts >> 9, np.float32(-1), np.float32(1))
    three *= np.float32(1 / (SQRT2 * _QUAT_TOP))
    return from_smallest_three((code >> 30).astype(np.intp), three)[:, [3, 0, 1, 2]]


def fraction_bits(table: GaussianArrays, path: Path) -> int:
    """Fractional bits of the centres: 12 as usual, more where the Gaussians are small, fewer where the scene is large.

    A step is kept under half of the smaller Gaussians' size (5th percentile of the largest axis); without that,
    small scenes come out on a lattice. Centres that do not fit 24 bits wrap around in readers, so they bound it.
    """
    if len(table) == 0:
        return 12
    reach = float(np.abs(table.means).max())
    if reach >= 2.0**23:
        raise InputError(
            f"{path}: a centre lies at {reach:g} units, SPZ holds at most 8,388,607; scale or crop the cloud"
        )
    most = min(MAX_FRACTION, int(np.floor(np.log2((2**23 - 1) / max(reach, 2.0**-MAX_FRACTION)))))
    size = np.exp(np.quantile(np.clip(table.log_scales.max(1), -20, 20), 0.05))
    wanted = int(np.ceil(-np.log2(size / 2)))
    return max(0, min(most, max(12, wanted)))


def encode(table: GaussianArrays, order: np.ndarray, version: int, fraction: int) -> list[np.ndarray]:
    """The six blocks (N, …) uint8 of the rows ``order`` (N,) of ``table``, every value rounded to the nearest code."""
    blocks = [np.empty((len(table), size), np.uint8) for size in sizes(version, table.sh_degree)]
    center, alpha, color, scale, quat, sh = blocks
    factors = step_factors(importance(table, SH_SPREAD), SH_POWER, SH_COARSER) if table.sh_degree else None

    def fill(rows: slice) -> None:
        part = table.select(order[rows])
        fixed = np.rint(part.means * 2.0**fraction).astype("<i4")
        center[rows] = fixed.view(np.uint8).reshape(-1, 3, 4)[..., :3].reshape(-1, 9)
        alpha[rows, 0] = to_uint(alphas(part) * np.float32(255), 255)
        color[rows] = to_uint((part.sh[:, 0] * np.float32(COLOR_SCALE) + np.float32(0.5)) * np.float32(255), 255)
        scale[rows] = to_uint((part.log_scales - np.float32(SCALE_FLOOR)) * np.float32(SCALE_STEPS), 255)
        quats = unit_quats(part)
        quat[rows] = _pack_first_three(quats) if version < 3 else _pack_quats(quats)
        if factors is not None:
            sh[rows] = _pack_sh(part.sh[:, 1:], factors[order[rows]]).reshape(len(part), -1)

    each(fill, pieces(len(table)))
    return blocks


def _pack_sh(rest: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(N, K-1, 3) values → bytes on grids around 128, which hold exact zeros and compress well.

    The step is 2^(8-bits) times the Gaussian's ``factors`` (N,); readers need not know, as any byte is a valid code.
    """
    codes = np.empty(rest.shape, np.uint8)
    for rows, bits in ((slice(0, 3), SH_BITS[0]), (slice(3, None), SH_BITS[1])):
        step = np.maximum(2 ** (8 - bits) * factors, 1).astype(np.float32)[:, None, None]
        codes[:, rows] = to_uint(np.rint(rest[:, rows] * (np.float32(128) / step)) * step + np.float32(128), 255)
    return codes


def _pack_first_three(quats: np.ndarray) -> np.ndarray:
    """(N, 3) bytes of x y z, w made positive."""
    scaled = (quats[:, 1:] * np.copysign(np.float32(1), quats[:, :1]) + 1) * np.float32(127.5)
    codes = to_uint(scaled, 255)
    # The smaller w is, the more of it is lost to rounding; of the eight codes around, one leaves it almost as it is.
    rows = np.flatnonzero(np.abs(quats[:, 0]) < SMALL_W)
    if len(rows):
        corners = [to_uint(np.floor(scaled[rows]) + corner, 255) for corner in product((0, 1), repeat=3)]
        codes[rows] = _nearest(quats[rows], [codes[rows], *corners], _first_three)
    return codes


def _pack_quats(quats: np.ndarray) -> np.ndarray:
    """(N, 4) bytes: the index of the part that is left out, and the others."""
    parts = quats[:, [1, 2, 3, 0]]
    codes = _pack_parts(*smallest_three(parts))
    # Of two parts as large, either may be left out; rotations that come from such codes find theirs again.
    size = np.sort(np.abs(parts), 1)
    rows = np.flatnonzero(size[:, 2] > size[:, 3] - 4 / _QUAT_TOP)
    if len(rows):
        second = np.abs(parts[rows]).argsort(1)[:, 2]
        codes[rows] = _nearest(quats[rows], [codes[rows], _pack_parts(*without(parts[rows], second))], _unpack_quats)
    return codes.astype("<u4").view(np.uint8).reshape(-1, 4)


def _pack_parts(index: np.ndarray, three: np.ndarray) -> np.ndarray:
    magnitude = to_uint(np.abs(three) * np.float32(SQRT2 * _QUAT_TOP), _QUAT_TOP, np.uint32)
    parts = magnitude | (three < 0).astype(np.uint32) << 9
    return index.astype(np.uint32) << 30 | parts[:, 0] << 20 | parts[:, 1] << 10 | parts[:, 2]


def _nearest(quats: np.ndarray, options: Sequence[np.ndarray], unpack: Callable) -> np.ndarray:
    """Row by row the one of ``options``, codes of the N rotations ``quats``, whose rotation is the nearest."""
    best, closest = options[0].copy(), np.full(len(quats), -1.0)
    for codes in options:
        unpacked = unpack(codes).astype(np.float64)
        alike = np.abs(np.einsum("ij,ij->i", unpacked, quats)) / np.linalg.norm(unpacked, axis=1)
        better = alike > closest
        best[better], closest[better] = codes[better], alike[better]
    return best
