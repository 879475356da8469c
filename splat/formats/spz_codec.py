"""The six attribute blocks of an SPZ file: centres, opacities, base colours, ln-scales, quaternions, SH."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.formats.importance import importance, step_factors
from splat.formats.quantize import SQRT2, alphas, from_smallest_three, logits, smallest_three, to_uint, unit_quats

COLOR_SCALE = 0.15  # f_dc · 0.15 + 0.5 fills a byte's range
SCALE_FLOOR, SCALE_STEPS = -10.0, 16.0  # ln-scale = byte / 16 - 10
SH_BITS = (5, 4)  # of band 1 and of the bands above: the reference encoder's
# SH steps vary with importance; with these numbers files are as large as with one step for all, and 0 to 10 dB better.
SH_SPREAD, SH_POWER, SH_COARSER = 1e4, 0.4, 0.5
MAX_FRACTION = 20
_QUAT_TOP = 511  # magnitude of a 9-bit quaternion part


def sizes(version: int, degree: int) -> list[int]:
    """Bytes per Gaussian of each block."""
    return [6 if version == 1 else 9, 1, 3, 3, 3 if version < 3 else 4, 3 * ((degree + 1) ** 2 - 1)]


def decode(blocks: Sequence[bytes], version: int, count: int, degree: int, fraction: int) -> GaussianCloud:
    """The cloud in ``blocks``, whose sizes are right for ``count`` and ``degree``."""
    center, alpha, color, scale, quat, sh = (np.frombuffer(block, np.uint8) for block in blocks)
    if version == 1:
        means = center.view("<f2").astype(np.float32).reshape(count, 3)
    else:
        means = _from_int24(center.reshape(count, 3, 3)) * np.float32(2.0**-fraction)
    log_scales = scale.reshape(count, 3) / np.float32(SCALE_STEPS) + np.float32(SCALE_FLOOR)
    dc = (color.reshape(count, 1, 3) / np.float32(255) - np.float32(0.5)) / np.float32(COLOR_SCALE)
    rest = (sh.reshape(count, (degree + 1) ** 2 - 1, 3) - np.float32(128)) / np.float32(128)
    quats = _first_three(quat.reshape(count, 3)) if version < 3 else _unpack_quats(quat.view("<u4"))
    arrays = (means, log_scales, quats, logits(alpha / 255), np.concatenate([dc, rest], 1) if degree else dc)
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays))


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
    three = (parts & _QUAT_TOP) * np.float32(1 / (SQRT2 * _QUAT_TOP)) * np.where(parts >> 9, -1, 1)
    return from_smallest_three((code >> 30).astype(np.intp), three.astype(np.float32))[:, [3, 0, 1, 2]]


def fraction_bits(cloud: GaussianCloud, path: Path) -> int:
    """Fractional bits of the centres: 12 as usual, more where the Gaussians are small, fewer where the scene is large.

    A step is kept under a tenth of the smaller Gaussians' size (5th percentile of the largest axis); without that,
    small scenes come out on a lattice. Centres that do not fit 24 bits wrap around in readers, so they bound it.
    """
    if len(cloud) == 0:
        return 12
    reach = float(cloud.means.abs().max())
    if reach >= 2.0**23:
        raise InputError(
            f"{path}: a centre lies at {reach:g} units, SPZ holds at most 8,388,607; scale or crop the cloud"
        )
    most = min(MAX_FRACTION, int(np.floor(np.log2((2**23 - 1) / max(reach, 2.0**-MAX_FRACTION)))))
    size = np.exp(np.quantile(cloud.log_scales.amax(1).clamp(-20, 20).numpy(), 0.05))
    wanted = int(np.ceil(-np.log2(0.1 * size)))
    return max(0, min(most, max(12, wanted)))


def encode(cloud: GaussianCloud, version: int, fraction: int) -> list[bytes]:
    """The six blocks of ``cloud``, every value rounded to the nearest code."""
    fixed = np.rint(cloud.means.double().numpy() * 2.0**fraction).astype("<i4")
    center = np.ascontiguousarray(fixed).view(np.uint8).reshape(-1, 3, 4)[..., :3]
    color = to_uint((cloud.sh[:, 0].numpy() * COLOR_SCALE + 0.5) * 255, 255)
    scale = to_uint((cloud.log_scales.numpy() - SCALE_FLOOR) * SCALE_STEPS, 255)
    quats = unit_quats(cloud)
    quat = _pack_first_three(quats) if version < 3 else _pack_quats(quats)
    factors = step_factors(importance(cloud, SH_SPREAD).numpy(), SH_POWER, SH_COARSER)
    sh = _pack_sh(cloud.sh[:, 1:].numpy(), factors)
    blocks = (center, to_uint(alphas(cloud) * 255, 255), color, scale, quat, sh)
    return [np.ascontiguousarray(block).tobytes() for block in blocks]


def _pack_sh(rest: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """(N, K-1, 3) values → bytes on grids around 128, which hold exact zeros and compress well.

    The step is 2^(8-bits) times the Gaussian's ``factors`` (N,); readers need not know, as any byte is a valid code.
    """
    codes = np.empty(rest.shape, np.uint8)
    for rows, bits in ((slice(0, 3), SH_BITS[0]), (slice(3, None), SH_BITS[1])):
        step = np.maximum(2 ** (8 - bits) * factors, 1)[:, None, None]
        codes[:, rows] = to_uint(np.rint(rest[:, rows] * (128 / step)) * step + 128, 255)
    return codes


def _pack_first_three(quats: np.ndarray) -> np.ndarray:
    vector = quats[:, 1:] * np.where(quats[:, :1] < 0, -1, 1)
    return to_uint((vector + 1) * 127.5, 255)


def _pack_quats(quats: np.ndarray) -> np.ndarray:
    index, three = smallest_three(quats[:, [1, 2, 3, 0]])
    magnitude = to_uint(np.abs(three) * (SQRT2 * _QUAT_TOP), _QUAT_TOP, np.uint32)
    parts = magnitude | (three < 0).astype(np.uint32) << 9
    return (index.astype(np.uint32) << 30 | parts[:, 0] << 20 | parts[:, 1] << 10 | parts[:, 2]).astype("<u4")
