"""From a cloud to the pictures and `meta.json` of SOG version 2, every value rounded to the nearest code."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.formats import codebook, palette
from splat.formats.importance import importance
from splat.formats.order import morton
from splat.formats.quantize import SQRT2, alphas, prepare, smallest_three, to_uint, unit_quats, without_zero_bands
from splat.formats.sog import GENERATOR, PALETTE_COLUMNS
from splat.formats.webp import MAX_SIDE

# ln-scale of what is flat or smaller than anything visible; a code for it would be lost on everything else.
MIN_LOG_SCALE = -20.0
MAX_PALETTE = 1 << 16
# How far apart the weights of Gaussians may be (see importance.py). Few large ones make most of a picture, so that a
# codebook that served all alike would spend its codes where nobody looks.
CODEBOOK_SPREAD, CODEBOOK_FLOOR = 1e5, 0.1  # the floor, in parts of the mean weight, keeps the small ones decent
PALETTE_SPREAD = 1e3


def encode(
    cloud: GaussianCloud, path: Path, *, palette: int | None, antialiased: bool, reorder: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``meta.json`` as a dict, and the pictures (H, W, 4) uint8 by name."""
    cloud = without_zero_bands(prepare(cloud, path, max_degree=3))
    if reorder:
        cloud = cloud.permute(torch.from_numpy(morton(cloud.means.numpy())))
    n = len(cloud)
    width = max(4, -(-int(np.ceil(n**0.5)) // 4) * 4)
    height = max(4, -(-n // width // 4) * 4 if n else 4)
    while width * height < n:
        height += 4
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{path}: {n:,} Gaussians do not fit WebP pictures of {MAX_SIDE}²; decimate or split the cloud"
        )

    means_l, means_u, mins, maxs = _means(cloud.means.double().numpy())
    log_scales = np.maximum(cloud.log_scales.numpy(), MIN_LOG_SCALE)
    dc = cloud.sh[:, 0].numpy()
    weights = importance(cloud, CODEBOOK_SPREAD).numpy()
    weights = np.maximum(weights, CODEBOOK_FLOOR * weights.mean() if n else 0)[:, None].repeat(3, 1)
    scale_codes, dc_codes = codebook.fit(log_scales, weights), codebook.fit(dc, weights)
    pixels = {
        "means_l": _opaque(means_l),
        "means_u": _opaque(means_u),
        "quats": _quats(cloud),
        "scales": _opaque(codebook.nearest(log_scales, scale_codes)),
        "sh0": np.concatenate([codebook.nearest(dc, dc_codes), to_uint(alphas(cloud) * 255, 255)[:, None]], 1),
    }
    meta: dict[str, Any] = {"version": 2, "asset": {"generator": GENERATOR}, "count": n}
    if antialiased:
        meta |= {"antialias": True, "model": "antialiased"}
    meta["means"] = {"mins": mins, "maxs": maxs, "files": ["means_l.webp", "means_u.webp"]}
    meta["scales"] = {"codebook": _short(scale_codes), "files": ["scales.webp"]}
    meta["quats"] = {"files": ["quats.webp"]}
    meta["sh0"] = {"codebook": _short(dc_codes), "files": ["sh0.webp"]}
    pictures = {}
    if cloud.sh_degree:
        meta["shN"], pictures["shN_centroids"], pixels["shN_labels"] = _rest(cloud, path, palette)
    pictures |= {name: _layout(values, width, height) for name, values in pixels.items()}
    return meta, pictures


def _layout(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N, 4) pixels row by row in a picture, the rest filled up with the last one."""
    picture = np.zeros((height * width, 4), np.uint8)
    picture[: len(values)] = values
    picture[len(values) :] = values[-1] if len(values) else 255
    return picture.reshape(height, width, 4)


def _opaque(values: np.ndarray) -> np.ndarray:
    return np.concatenate([values, np.full((len(values), 1), 255)], 1).astype(np.uint8)


def _means(means: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[float], list[float]]:
    """Low and high bytes (N, 3), and the range, of sign·ln(1+|x|)."""
    value = np.copysign(np.log1p(np.abs(means)), means)
    low, high = (value.min(0), value.max(0)) if len(value) else (np.zeros(3), np.zeros(3))
    code = to_uint((value - low) / np.where(high > low, high - low, 1) * 65535, 65535, np.uint16)
    return (code & 255).astype(np.uint8), (code >> 8).astype(np.uint8), low.tolist(), high.tolist()


def _quats(cloud: GaussianCloud) -> np.ndarray:
    index, three = smallest_three(unit_quats(cloud))
    return np.concatenate([to_uint((three * (SQRT2 / 2) + 0.5) * 255, 255), (252 + index[:, None]).astype(np.uint8)], 1)


def _short(codes: np.ndarray) -> list[float]:
    """The numbers with as few digits as tell float32 apart; JSON would spell out the float64."""
    return [float(str(code)) for code in codes]


def palette_size(points: torch.Tensor) -> int:
    """Entries for the SH (N, D) of N Gaussians.

    Values that came from a palette keep it, exactly. Otherwise six entries for ten Gaussians up to the format's limit:
    fewer than other encoders use, as ours are placed where they are seen.
    """
    few = palette.distinct_count(points)
    return few if few <= min(MAX_PALETTE, 0.75 * len(points)) else min(MAX_PALETTE, max(1, round(0.6 * len(points))))


def _rest(cloud: GaussianCloud, path: Path, entries: int | None) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Metadata, centroid picture and label pixels of the SH beyond the base colour."""
    points = cloud.sh[:, 1:].reshape(len(cloud), -1).contiguous()
    entries = palette_size(points) if entries is None else entries
    if not 1 <= entries <= MAX_PALETTE:
        raise InputError(f"{path}: a palette of {entries:,} SH entries was asked for; SOG holds 1 to 65,536")
    centers, label = palette.fit(points, importance(cloud, PALETTE_SPREAD).float(), entries)
    centers = centers.numpy().reshape(len(centers), -1, 3)
    codes = codebook.fit(centers)
    rows = -(-len(centers) // PALETTE_COLUMNS)
    picture = np.full((rows * PALETTE_COLUMNS, centers.shape[1], 4), 255, np.uint8)
    picture[: len(centers), :, :3] = codebook.nearest(centers, codes)
    picture[len(centers) :] = picture[len(centers) - 1]
    label = label.numpy()
    pixels = np.stack([label & 255, label >> 8, np.zeros_like(label), np.full_like(label, 255)], 1).astype(np.uint8)
    meta = {
        "count": len(centers),
        "bands": cloud.sh_degree,
        "codebook": _short(codes),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }
    return meta, picture.reshape(rows, -1, 4), pixels
