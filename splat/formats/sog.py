"""PlayCanvas SOG: attributes as lossless WebP pictures with a `meta.json`, in a `.sog` zip bundle or a folder.

Layout (PlayCanvas developer manual, "SOG format", version 2; version 1 as older files hold it): 16-bit centres after
sign·ln(1+|x|), quaternions by their three smallest parts, ln-scales and base colours by codebooks of 256, opacity as a
byte, higher SH by a palette of up to 65,536 entries. Same frame as the training cameras.
"""

from pathlib import Path

import numpy as np
import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.formats import webp
from splat.formats.limits import check_claim
from splat.formats.quantize import SQRT2, from_smallest_three, logits
from splat.formats.sog_files import Files, open_files, save_files
from splat.formats.sog_meta import Meta, parse_meta

PALETTE_COLUMNS = 64  # palette entries in a row of the centroid picture
BANDS = {1: 3, 2: 8, 3: 15}  # bands → coefficients beyond the base colour
GENERATOR = "splat"


def read(path: Path) -> GaussianCloud:
    """Read the bundle ``path``, or the folder ``path`` (or the `meta.json` in it). Versions 1 and 2."""
    with open_files(path) as files:
        meta = parse_meta(files.meta, path)
        # A picture of one colour takes next to nothing, so that only the count of pixels bounds the claim.
        check_claim(path, meta.count, meta.bands, 0, 0)
        pictures = {name: _picture(files, meta, name) for name in ("means_l", "means_u", "quats", "scales", "sh0")}
        means = _means(pictures["means_l"], pictures["means_u"], meta)
        quats = _quats(pictures["quats"])
        log_scales = meta.scales.decode(pictures["scales"][:, :3])
        dc, logit = _colors(pictures["sh0"], meta)
        sh = dc[:, None]
        if meta.bands:
            sh = np.concatenate([sh, _rest(files, meta)], 1)
    arrays = (means, log_scales, quats, logit, sh)
    return GaussianCloud(*(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays))


def _picture(files: Files, meta: Meta, name: str) -> np.ndarray:
    """(N, 4) bytes of the pixels that belong to Gaussians."""
    file = meta.files[name]
    most = 2 * meta.count + (1 << 16)
    pixels = webp.decode(files.read(file), files.path, file, meta.count, most)
    return pixels.reshape(-1, 4)[: meta.count]


def _means(low: np.ndarray, high: np.ndarray, meta: Meta) -> np.ndarray:
    code = low[:, :3].astype(np.float64) + high[:, :3].astype(np.float64) * 256
    mins, maxs = meta.mean_range
    value = mins + code / 65535 * (maxs - mins)
    with np.errstate(over="ignore"):
        return np.copysign(np.expm1(np.abs(value)), value).astype(np.float32)


def _quats(pixels: np.ndarray) -> np.ndarray:
    three = (pixels[:, :3] / np.float32(255) * 2 - 1) / np.float32(SQRT2)
    quats = from_smallest_three(pixels[:, 3].clip(252) - np.intp(252), three)
    quats[pixels[:, 3] < 252] = (1, 0, 0, 0)
    return quats


def _colors(pixels: np.ndarray, meta: Meta) -> tuple[np.ndarray, np.ndarray]:
    """Base colours (N, 3) and opacity logits (N,)."""
    alpha = pixels[:, 3] / np.float32(255)
    if meta.logit_range is None:
        return meta.sh0.decode(pixels[:, :3]), logits(alpha)
    low, high = meta.logit_range
    return meta.sh0.decode(pixels[:, :3]), (low + alpha * (high - low)).astype(np.float32)


def _rest(files: Files, meta: Meta) -> np.ndarray:
    """(N, K-1, 3) SH beyond the base colour, looked up in the palette."""
    coefficients = BANDS[meta.bands]
    file = meta.files["shN_centroids"]
    width = PALETTE_COLUMNS * coefficients
    pixels = webp.decode(files.read(file), files.path, file, width, width * (1 << 10))
    if pixels.shape[1] != width:
        raise InputError(
            f"{files.path}: '{file}' is {pixels.shape[1]} pixels wide, expected {width}; make the file again"
        )
    palette = meta.rest.decode(pixels[..., :3].reshape(-1, coefficients, 3))
    label = _picture(files, meta, "shN_labels")
    label = label[:, 0].astype(np.intp) + label[:, 1].astype(np.intp) * 256
    if len(label) and label.max() >= len(palette):
        raise InputError(
            f"{files.path}: label {label.max():,} is beyond the palette of {len(palette):,}; make the file again"
        )
    return palette[label]


def write(
    cloud: GaussianCloud,
    path: Path,
    *,
    palette: int | None = None,
    antialiased: bool = False,
    effort: int = 4,
    reorder: bool = True,
) -> None:
    """Write ``cloud`` (SH up to degree 3) as version 2: a bundle, or a folder when ``path`` is `…/meta.json`.

    Args:
        palette: SH palette entries, at most 65,536; chosen from the number of Gaussians if None.
        antialiased: mark the cloud as trained with the antialiased (mip) blur.
        effort: of the WebP encoder, 0 (fast) to 6 (small).
        reorder: sort along a space-filling curve, which compresses better.
    """
    from splat.formats.sog_encode import encode

    meta, pictures = encode(cloud, path, palette=palette, antialiased=antialiased, reorder=reorder)
    save_files(path, meta, pictures, effort)


def antialiased(path: Path) -> bool:
    """Whether the file is marked as trained with the antialiased (mip) blur."""
    with open_files(path) as files:
        return files.meta.get("model") == "antialiased" or files.meta.get("antialias") is True
