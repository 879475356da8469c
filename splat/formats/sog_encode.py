"""From a cloud to the pictures and `meta.json` of SOG version 2, every value rounded to the nearest code."""

from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.formats import codebook, palette
from splat.formats.importance import importance
from splat.formats.order import morton
from splat.formats.quantize import SQRT2, alphas, prepare, smallest_three, to_uint, unit_quats, without_zero_bands
from splat.formats.rows import each, pieces
from splat.formats.sog import GENERATOR, PALETTE_COLUMNS
from splat.formats.table import Table
from splat.formats.webp import MAX_SIDE

# ln-scale of what is flat or smaller than anything visible; a code for it would be lost on everything else.
MIN_LOG_SCALE = -20.0
MAX_PALETTE = 1 << 16
# How far apart the weights of Gaussians may be (see importance.py). Few large ones make most of a picture, so that a
# codebook that served all alike would spend its codes where nobody looks.
CODEBOOK_SPREAD, CODEBOOK_FLOOR = 1e5, 0.1  # the floor, in parts of the mean weight, keeps the small ones decent
PALETTE_SPREAD = 1e3
# Of the 256 base colours that could be; more would cost more bytes than other encoders spend, for errors nobody sees.
DC_CODES = 232


def encode(
    table: Table, path: Path, *, palette: int | None, antialiased: bool, reorder: bool
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``meta.json`` as a dict, and the pictures (H, W, 4) uint8 by name."""
    table = without_zero_bands(prepare(table, path, max_degree=3))
    n = len(table)
    order = morton(table.means) if reorder else np.arange(n)
    width = max(4, -(-int(np.ceil(n**0.5)) // 4) * 4)
    height = max(4, -(-n // width // 4) * 4 if n else 4)
    while width * height < n:
        height += 4
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{path}: {n:,} Gaussians do not fit WebP pictures of {MAX_SIDE}²; decimate or split the cloud"
        )

    log_scales, dc = np.maximum(table.log_scales, MIN_LOG_SCALE), table.sh[:, 0]
    weights = importance(table, CODEBOOK_SPREAD)
    weights = np.maximum(weights, CODEBOOK_FLOOR * weights.mean() if n else 0)
    fits = each(lambda what: codebook.fit(what[0], weights, what[1], keep=256), [(log_scales, 256), (dc, DC_CODES)])
    scale_codes, dc_codes = fits
    low, high = _log_range(table.means)
    pixels = {name: np.full((n, 4), 255, np.uint8) for name in ("means_l", "means_u", "quats", "scales", "sh0")}

    def encode_rows(rows: slice) -> None:
        part = table.select(order[rows])
        code = _means(part.means, low, high)
        pixels["means_l"][rows, :3], pixels["means_u"][rows, :3] = code & 255, code >> 8
        pixels["quats"][rows] = _quats(part)
        pixels["scales"][rows, :3] = codebook.nearest(np.maximum(part.log_scales, MIN_LOG_SCALE), scale_codes)
        pixels["sh0"][rows, :3] = codebook.nearest(part.sh[:, 0], dc_codes)
        pixels["sh0"][rows, 3] = to_uint(alphas(part) * np.float32(255), 255)

    each(encode_rows, pieces(n))
    meta: dict[str, Any] = {"version": 2, "asset": {"generator": GENERATOR}, "count": n}
    if antialiased:
        meta |= {"antialias": True, "model": "antialiased"}
    meta["means"] = {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]}
    meta["scales"] = {"codebook": _short(scale_codes), "files": ["scales.webp"]}
    meta["quats"] = {"files": ["quats.webp"]}
    meta["sh0"] = {"codebook": _short(dc_codes), "files": ["sh0.webp"]}
    pictures = {}
    if table.sh_degree:
        meta["shN"], pictures["shN_centroids"], labels = _rest(table, path, palette)
        pixels["shN_labels"] = labels[order]
    pictures |= {name: _layout(values, width, height) for name, values in pixels.items()}
    return meta, pictures


def _layout(values: np.ndarray, width: int, height: int) -> np.ndarray:
    """(N, 4) pixels row by row in a picture, the rest filled up with the last one."""
    picture = np.zeros((height * width, 4), np.uint8)
    picture[: len(values)] = values
    picture[len(values) :] = values[-1] if len(values) else 255
    return picture.reshape(height, width, 4)


def _log_range(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3,) smallest and largest sign·ln(1+|x|) on each axis."""
    if len(means) == 0:
        return np.zeros(3), np.zeros(3)
    ends = np.stack([means.min(0), means.max(0)]).astype(np.float64)
    return tuple(np.copysign(np.log1p(np.abs(ends)), ends))


def _means(means: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """(N, 3) uint16 codes of sign·ln(1+|x|) in the range."""
    value = np.copysign(np.log1p(np.abs(means.astype(np.float64))), means)
    return to_uint((value - low) * (65535 / np.where(high > low, high - low, 1)), 65535, np.uint16)


def _quats(table: Table) -> np.ndarray:
    index, three = smallest_three(unit_quats(table))
    code = to_uint((three * np.float32(SQRT2 / 2) + np.float32(0.5)) * np.float32(255), 255)
    return np.concatenate([code, (252 + index[:, None]).astype(np.uint8)], 1)


def _short(codes: np.ndarray) -> list[float]:
    """The numbers with as few digits as tell float32 apart; JSON would spell out the float64."""
    return [float(str(code)) for code in codes]


def palette_size(points: np.ndarray) -> int:
    """Entries for the SH (N, D) of N Gaussians.

    Values that came from a palette keep it, exactly. Otherwise six entries for ten Gaussians up to the format's limit:
    fewer than other encoders use, as ours are placed where they are seen.
    """
    few = palette.distinct_count(points)
    return few if few <= min(MAX_PALETTE, 0.75 * len(points)) else min(MAX_PALETTE, max(1, round(0.6 * len(points))))


def _rest(table: Table, path: Path, entries: int | None) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Metadata, centroid picture and label pixels (N, 4) of the SH beyond the base colour."""
    points = table.sh[:, 1:].reshape(len(table), -1)
    entries = palette_size(points) if entries is None else entries
    if not 1 <= entries <= MAX_PALETTE:
        raise InputError(f"{path}: a palette of {entries:,} SH entries was asked for; SOG holds 1 to 65,536")
    centers, label = palette.fit(points, importance(table, PALETTE_SPREAD).astype(np.float32), entries)
    centers = centers.reshape(len(centers), -1, 3)
    codes = codebook.fit(centers)
    rows = -(-len(centers) // PALETTE_COLUMNS)
    picture = np.full((rows * PALETTE_COLUMNS, centers.shape[1], 4), 255, np.uint8)
    picture[: len(centers), :, :3] = codebook.nearest(centers, codes)
    picture[len(centers) :] = picture[len(centers) - 1]
    pixels = np.stack([label & 255, label >> 8, np.zeros_like(label), np.full_like(label, 255)], 1).astype(np.uint8)
    meta = {
        "count": len(centers),
        "bands": table.sh_degree,
        "codebook": _short(codes),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }
    return meta, picture.reshape(rows, -1, 4), pixels
