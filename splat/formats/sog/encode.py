"""From a cloud to the pictures and `meta.json` of SOG version 2, every value rounded to the nearest code."""

from pathlib import Path
from typing import Any

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding import scalar_kmeans, vector_kmeans
from splat.coding.attributes import SQRT2, alphas, prepare, smallest_three, to_uint, unit_quats, without_zero_bands
from splat.coding.importance import importance
from splat.coding.morton import morton
from splat.coding.parallel import each, pieces
from splat.coding.webp import MAX_SIDE
from splat.coordinates import AT_ZERO
from splat.errors import InputError
from splat.formats.sog import quantizer
from splat.formats.sog.meta import GENERATOR, PALETTE_COLUMNS
from splat.formats.splatz.quantizer import QuantizationSteps

# ln-scale of what is flat or smaller than anything visible; a code for it would be lost on everything else.
MIN_LOG_SCALE = -20.0
MAX_PALETTE = 1 << 16
# How far apart the weights of Gaussians may be (see coding/importance.py). Few large ones make most of a picture, so
# that a codebook that served all alike would spend its codes where nobody looks.
CODEBOOK_SPREAD, CODEBOOK_FLOOR = 1e5, 0.1  # the floor, in parts of the mean weight, keeps the small ones decent
PALETTE_SPREAD = 1e3
# Of the 256 base colours that could be; more would cost more bytes than other encoders spend, for errors nobody sees.
DC_CODES = 232


def encode(
    table: GaussianArrays,
    path: Path,
    *,
    palette: int | None,
    antialiased: bool,
    reorder: bool,
    steps: QuantizationSteps | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """``meta.json`` as a dict, and the pictures (H, W, 4) uint8 by name; as fine as can be without ``steps``."""
    table = without_zero_bands(prepare(table, path, max_degree=3))
    order = morton(table.means) if reorder else np.arange(len(table))
    width, height = _picture_size(len(table), path)
    steps = steps if len(table) else None
    low, high = _log_range(table.means)
    if steps is None:
        coarse, (scale_codes, dc_codes) = None, _best_codes(table)
    else:
        table = quantizer.ordered(table)
        coarse = quantizer.coarse(table, steps, low, high)
        scale_codes, dc_codes = coarse.scale_codes, coarse.colour_codes
    pixels = _pixels(table, order, (low, high), (scale_codes, dc_codes), coarse)
    meta: dict[str, Any] = {"version": 2, "asset": {"generator": GENERATOR}, "count": len(table)}
    if antialiased:
        meta |= {"antialias": True, "model": "antialiased"}
    if table.georeference != AT_ZERO:
        meta["georeference"] = table.georeference.as_json()
    meta["means"] = {"mins": low.tolist(), "maxs": high.tolist(), "files": ["means_l.webp", "means_u.webp"]}
    meta["scales"] = {"codebook": _short(scale_codes), "files": ["scales.webp"]}
    meta["quats"] = {"files": ["quats.webp"]}
    meta["sh0"] = {"codebook": _short(dc_codes), "files": ["sh0.webp"]}
    pictures = {}
    if table.sh_degree:
        meta["shN"], pictures["shN_centroids"], labels = _rest(table, path, palette, steps)
        pixels["shN_labels"] = labels[order]
    pictures |= {name: _layout(values, width, height) for name, values in pixels.items()}
    return meta, pictures


def _picture_size(count: int, path: Path) -> tuple[int, int]:
    """Width and height, multiples of four, of pictures with a pixel for each Gaussian. Raises InputError."""
    width = max(4, -(-int(np.ceil(count**0.5)) // 4) * 4)
    height = max(4, -(-count // width // 4) * 4 if count else 4)
    while width * height < count:
        height += 4
    if max(width, height) > MAX_SIDE:
        raise InputError(
            f"{path}: {count:,} Gaussians do not fit WebP pictures of {MAX_SIDE}²; decimate or split the cloud"
        )
    return width, height


def _pixels(
    table: GaussianArrays,
    order: np.ndarray,
    log_range: tuple[np.ndarray, np.ndarray],
    codebooks: tuple[np.ndarray, np.ndarray],
    coarse: quantizer.Coarse | None,
) -> dict[str, np.ndarray]:
    """(N, 4) bytes of each picture, rows in ``order``, but for view-dependent colour; rounded where ``coarse`` says."""
    names = ("means_l", "means_u", "quats", "scales", "sh0")
    pixels = {name: np.full((len(table), 4), 255, np.uint8) for name in names}
    scale_codes, dc_codes = codebooks

    def encode_rows(rows: slice) -> None:
        part = table.select(order[rows])
        code, quats = _means(part.means, *log_range), _quats(part)
        opacity = to_uint(alphas(part) * np.float32(255), 255)
        if coarse is None:
            scale = scalar_kmeans.nearest(np.maximum(part.log_scales, MIN_LOG_SCALE), scale_codes)
            colour = scalar_kmeans.nearest(part.sh[:, 0], dc_codes)
        else:
            powers = coarse.select(order[rows])
            code = quantizer.rounded(code, powers.position, top=65535)
            quats[:, :3] = quantizer.rounded(quats[:, :3], powers.rotation[:, None], 128)
            opacity = quantizer.rounded(opacity, powers.opacity)
            scale = quantizer.index(part.log_scales, scale_codes, powers.scale)
            colour = quantizer.index(part.sh[:, 0], dc_codes, powers.colour)
        pixels["means_l"][rows, :3], pixels["means_u"][rows, :3] = code & 255, code >> 8
        pixels["quats"][rows] = quats
        pixels["scales"][rows, :3] = scale
        pixels["sh0"][rows, :3], pixels["sh0"][rows, 3] = colour, opacity

    each(encode_rows, pieces(len(table)))
    return pixels


def _best_codes(table: GaussianArrays) -> tuple[np.ndarray, np.ndarray]:
    """Codebooks of log scales and base colours with the least error."""
    log_scales, dc = np.maximum(table.log_scales, MIN_LOG_SCALE), table.sh[:, 0]
    weights = importance(table, CODEBOOK_SPREAD)
    weights = np.maximum(weights, CODEBOOK_FLOOR * weights.mean() if len(table) else 0)
    return tuple(
        each(lambda what: scalar_kmeans.fit(what[0], weights, what[1], keep=256), [(log_scales, 256), (dc, DC_CODES)])
    )


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


def _quats(table: GaussianArrays) -> np.ndarray:
    index, three = smallest_three(unit_quats(table))
    code = to_uint((three * np.float32(SQRT2 / 2) + np.float32(0.5)) * np.float32(255), 255)
    return np.concatenate([code, (252 + index[:, None]).astype(np.uint8)], 1)


def _short(codes: np.ndarray) -> list[float]:
    """256 numbers, the last one again and again to fill up, with as few digits as tell float32 apart; of float64, which
    even codebooks have, five digits."""
    codes = [float(str(code)) if codes.dtype == np.float32 else float(f"{code:.5g}") for code in codes]
    return codes + codes[-1:] * (256 - len(codes))


def palette_size(points: np.ndarray) -> int:
    """Entries for the SH (N, D) of N Gaussians.

    Values that came from a palette keep it, exactly. Otherwise six entries for ten Gaussians up to the format's limit:
    fewer than other encoders use, as ours are placed where they are seen.
    """
    few = vector_kmeans.distinct_count(points)
    return few if few <= min(MAX_PALETTE, 0.75 * len(points)) else min(MAX_PALETTE, max(1, round(0.6 * len(points))))


def _rest(
    table: GaussianArrays, path: Path, entries: int | None, steps: QuantizationSteps | None
) -> tuple[dict[str, Any], np.ndarray, np.ndarray]:
    """Metadata, centroid picture and label pixels (N, 4) of the SH beyond the base colour."""
    points = table.sh[:, 1:].reshape(len(table), -1)
    if entries is None:
        entries = palette_size(points)
        if steps is not None:
            entries = min(entries, max(1, round(quantizer.palette_fraction(steps) * len(points))))
    if not 1 <= entries <= MAX_PALETTE:
        raise InputError(f"{path}: a palette of {entries:,} SH entries was asked for; SOG holds 1 to 65,536")
    centers, label = vector_kmeans.fit(points, importance(table, PALETTE_SPREAD).astype(np.float32), entries)
    centers = centers.reshape(len(centers), -1, 3)
    if steps is None:
        codes = scalar_kmeans.fit(centers)
        chosen = scalar_kmeans.nearest(centers, codes)
    else:
        codes, chosen = quantizer.rest_codes(centers, steps.sh)
    rows = -(-len(centers) // PALETTE_COLUMNS)
    picture = np.full((rows * PALETTE_COLUMNS, centers.shape[1], 4), 255, np.uint8)
    picture[: len(centers), :, :3] = chosen
    picture[len(centers) :] = picture[len(centers) - 1]
    pixels = np.stack([label & 255, label >> 8, np.zeros_like(label), np.full_like(label, 255)], 1).astype(np.uint8)
    meta = {
        "count": len(centers),
        "bands": table.sh_degree,
        "codebook": _short(codes),
        "files": ["shN_centroids.webp", "shN_labels.webp"],
    }
    return meta, picture.reshape(rows, -1, 4), pixels
