"""`.splat` (antimatter15's viewer): 32 bytes a Gaussian, no header, no SH beyond the base colour.

Layout: float32 ×3 centre, float32 ×3 linear scale, uint8 ×4 RGBA, uint8 ×4 quaternion w x y z as 128 + 128·q.
Same frame as the training cameras; Gaussians sorted by volume × opacity so that the first ones matter most.
"""

from pathlib import Path

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats.limits import check_claim
from splat.formats.order import visibility
from splat.formats.quantize import alphas, logits, prepare, to_uint, unit_quats
from splat.sh import C0

RECORD = np.dtype([("center", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
# Linear scales of 0 have no logarithm; this is far below anything visible and keeps arithmetic finite.
MIN_SCALE = 1e-30


def read(path: Path) -> GaussianCloud:
    """Read ``path``. Raises InputError when its size is no multiple of 32 bytes."""
    size = path.stat().st_size
    if size % RECORD.itemsize:
        raise InputError(f"{path}: {size:,} bytes is no multiple of 32, so it is no whole .splat file; copy it again")
    check_claim(path, size // RECORD.itemsize, 0, RECORD.itemsize, size)
    table = np.fromfile(path, RECORD)
    return decode(table["center"], table["scale"], table["rgba"], table["quat"].astype(np.float32) / 128 - 1)


def decode(center: np.ndarray, scale: np.ndarray, rgba: np.ndarray, quats: np.ndarray) -> GaussianCloud:
    """A cloud of degree 0 from linear scales, 8-bit RGBA and quaternions w x y z."""
    # No unit quaternion is all zero; damaged files may hold one.
    quats = np.where((quats == 0).all(1, keepdims=True), np.float32([1, 0, 0, 0]), quats)
    with np.errstate(invalid="ignore", over="ignore"):
        log_scales = np.log(np.maximum(scale.astype(np.float32), MIN_SCALE))
    sh = (rgba[:, None, :3] / np.float32(255) - np.float32(0.5)) / np.float32(C0)
    arrays = (center.astype(np.float32), log_scales, quats.astype(np.float32), logits(rgba[:, 3] / 255), sh)
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays))


def encode_rgba(cloud: GaussianCloud) -> np.ndarray:
    """(N, 4) bytes: base colour and opacity, rounded to the nearest."""
    rgb = cloud.sh[:, 0].numpy() * C0 + 0.5
    return to_uint(np.concatenate([rgb, alphas(cloud)[:, None]], 1) * 255, 255)


def write(cloud: GaussianCloud, path: Path, *, reorder: bool = True) -> None:
    """Write ``cloud``; SH beyond the base colour is lost, as the format has no place for it.

    Args:
        reorder: sort by volume × opacity, largest first, as viewers that load progressively expect.
    """
    cloud = prepare(cloud, path, max_degree=0)
    if reorder:
        cloud = cloud.permute(torch.from_numpy(visibility(cloud)))
    table = np.empty(len(cloud), RECORD)
    table["center"] = cloud.means.numpy()
    with np.errstate(over="ignore"):
        table["scale"] = np.minimum(np.exp(cloud.log_scales.numpy()), np.finfo(np.float32).max)
    table["rgba"] = encode_rgba(cloud)
    # Readers decode by (u - 128) / 128, so that +1 has no code; the sign with the smaller loss is free to choose.
    quats = unit_quats(cloud)
    flip = quats.max(1, keepdims=True, initial=0) > -quats.min(1, keepdims=True, initial=0)
    table["quat"] = to_uint(np.where(flip, -quats, quats) * 128 + 128, 255)
    with atomic_path(path) as temporary:
        table.tofile(temporary)


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
