"""`.splat` (antimatter15's viewer): 32 bytes a Gaussian, no header, no SH beyond the base colour.

Layout: float32 ×3 centre, float32 ×3 linear scale, uint8 ×4 RGBA, uint8 ×4 quaternion w x y z as 128 + 128·q.
Same frame as the training cameras; Gaussians sorted by volume × opacity so that the first ones matter most.
"""

from functools import reduce
from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import alphas, byte_logits, prepare, scales, to_uint, unit_quats
from splat.coding.limits import check_claim
from splat.coding.morton import visibility
from splat.coding.parallel import BLOCK, each, pieces
from splat.errors import InputError
from splat.files import atomic_path
from splat.reading import require_file
from splat.sh_basis import C0

RECORD = np.dtype([("center", "<f4", 3), ("scale", "<f4", 3), ("rgba", "u1", 4), ("quat", "u1", 4)])
# Linear scales of 0 have no logarithm; this is far below anything visible and keeps arithmetic finite.
MIN_SCALE = 1e-30


def read(path: Path) -> GaussianArrays:
    """Read ``path``. Raises InputError when its size is no multiple of 32 bytes."""
    size = require_file(path).stat().st_size
    if size % RECORD.itemsize:
        raise InputError(f"{path}: {size:,} bytes is no multiple of 32, so it is no whole .splat file; copy it again")
    check_claim(path, size // RECORD.itemsize, 0, RECORD.itemsize, size)
    rows = np.fromfile(path, RECORD)
    return decode(rows["center"], rows["scale"], rows["rgba"], rows["quat"] / np.float32(128) - 1)


def decode(center: np.ndarray, scale: np.ndarray, rgba: np.ndarray, quats: np.ndarray) -> GaussianArrays:
    """A cloud of degree 0 from linear scales, 8-bit RGBA and quaternions w x y z."""
    # No unit quaternion is all zero; damaged files may hold one.
    quats = np.where((quats == 0).all(1, keepdims=True), np.float32([1, 0, 0, 0]), quats)
    with np.errstate(invalid="ignore", over="ignore"):
        log_scales = np.log(np.maximum(scale.astype(np.float32), np.float32(MIN_SCALE)))
    sh = (rgba[:, None, :3] / np.float32(255) - np.float32(0.5)) / np.float32(C0)
    return GaussianArrays(np.ascontiguousarray(center, np.float32), log_scales, quats, byte_logits(rgba[:, 3]), sh)


def encode_rgba(table: GaussianArrays) -> np.ndarray:
    """(N, 4) bytes: base colour and opacity, rounded to the nearest."""
    rgb = table.sh[:, 0] * np.float32(C0) + np.float32(0.5)
    return to_uint(np.concatenate([rgb, alphas(table)[:, None]], 1) * np.float32(255), 255)


def write(table: GaussianArrays, path: Path, *, reorder: bool = True) -> None:
    """Write ``table``; SH beyond the base colour is lost, as the format has no place for it.

    Args:
        reorder: sort by volume × opacity, largest first, as viewers that load progressively expect.
    """
    table = prepare(table, path, max_degree=0)
    records = np.empty(len(table), RECORD)

    def encode(rows: slice) -> None:
        part, record = table.select(rows), records[rows]
        record["center"], record["scale"], record["rgba"] = part.means, scales(part), encode_rgba(part)
        # Readers decode by (u - 128) / 128, so that +1 has no code; the sign with the smaller loss is free to choose.
        quats = unit_quats(part)
        most, least = (reduce(pick, quats.T) for pick in (np.maximum, np.minimum))
        quats *= np.where(most > -least, np.float32(-128), np.float32(128))[:, None]
        record["quat"] = to_uint(quats + np.float32(128), 255)

    each(encode, pieces(len(table), BLOCK))
    if reorder:  # as numbers, of which NumPy moves whole rows at once
        records = records.view("<u8").reshape(-1, 4).take(visibility(table), 0)
    with atomic_path(path) as temporary:
        records.tofile(temporary)


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
