"""PlayCanvas SOG: attributes as lossless WebP pictures with a `meta.json`, in a `.sog` zip bundle or a folder.

Layout (PlayCanvas developer manual, "SOG format", version 2; version 1 as older files hold it): 16-bit centres after
sign·ln(1+|x|), quaternions by their three smallest parts, ln-scales and base colours by codebooks of 256, opacity as a
byte, higher SH by a palette of up to 65,536 entries. Same frame as the training cameras.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding import webp
from splat.coding.attributes import SQRT2, byte_logits, from_smallest_three
from splat.coding.limits import check_claim
from splat.coding.parallel import each, pieces
from splat.errors import InputError
from splat.formats.sog.bundle import Files, open_files, save_files
from splat.formats.sog.meta import BANDS, PALETTE_COLUMNS, Meta, parse_meta

if TYPE_CHECKING:
    from splat.formats.splatz.quantizer import QuantizationSteps


def read(path: Path, max_degree: int = 4) -> GaussianArrays:
    """Read the bundle ``path``, or the folder ``path`` (or the `meta.json` in it), with SH up to ``max_degree``."""
    with open_files(path) as files:
        meta = parse_meta(files.meta, path)
        # A picture of one colour takes next to nothing.
        check_claim(path, meta.count, meta.bands, 0, files.size(meta.files.values()))
        bands = meta.bands if max_degree else 0
        names = ["means_l", "means_u", "quats", "scales", "sh0", *(["shN_labels"] if bands else [])]
        stored = [files.read(meta.files[name]) for name in names]
        pixels = each(lambda i: _picture(files.path, meta, names[i], stored[i]), range(len(names)))
        palette = _palette(files, meta)[:, : (max_degree + 1) ** 2 - 1] if bands else None
    return _decode(path, meta, dict(zip(names, pixels, strict=True)), palette)


def _decode(path: Path, meta: Meta, pixels: dict[str, np.ndarray], palette: np.ndarray | None) -> GaussianArrays:
    """The cloud from (N, 4) bytes of each picture, and the palette of higher SH."""
    n = meta.count
    shapes = ((n, 3), (n, 3), (n, 4), (n,), (n, 1 + (0 if palette is None else palette.shape[1]), 3))
    out = GaussianArrays(*(np.empty(shape, np.float32) for shape in shapes), georeference=meta.georeference)

    def fill(rows: slice) -> None:
        out.means[rows] = _means(pixels["means_l"][rows], pixels["means_u"][rows], meta)
        out.quats[rows] = _quats(pixels["quats"][rows])
        out.log_scales[rows] = meta.scales.decode(pixels["scales"][rows, :3])
        out.sh[rows, 0] = meta.sh0.decode(pixels["sh0"][rows, :3])
        out.logit_opacities[rows] = _logits(pixels["sh0"][rows, 3], meta)
        if palette is not None:
            label = pixels["shN_labels"][rows, 0].astype(np.intp) + pixels["shN_labels"][rows, 1].astype(np.intp) * 256
            if label.max(initial=0) >= len(palette):
                raise InputError(
                    f"{path}: label {label.max():,} is beyond the palette of {len(palette):,}; make the file again"
                )
            out.sh[rows, 1:] = palette[label]

    each(fill, pieces(n))
    return out


def _picture(path: Path, meta: Meta, name: str, data: bytes) -> np.ndarray:
    """(N, 4) bytes of the pixels that belong to Gaussians."""
    pixels = webp.decode(data, path, meta.files[name], meta.count, 2 * meta.count + (1 << 16))
    return pixels.reshape(-1, 4)[: meta.count]


def _means(low: np.ndarray, high: np.ndarray, meta: Meta) -> np.ndarray:
    code = low[:, :3] + high[:, :3].astype(np.float64) * 256
    mins, maxs = meta.mean_range
    value = mins + code / 65535 * (maxs - mins)
    with np.errstate(over="ignore"):
        return np.copysign(np.expm1(np.abs(value)), value).astype(np.float32)


def _quats(pixels: np.ndarray) -> np.ndarray:
    three = (pixels[:, :3] / np.float32(255) * 2 - 1) / np.float32(SQRT2)
    quats = from_smallest_three(pixels[:, 3].clip(252) - np.intp(252), three)
    quats[pixels[:, 3] < 252] = (1, 0, 0, 0)
    return quats


def _logits(codes: np.ndarray, meta: Meta) -> np.ndarray:
    """(N,) opacity logits of bytes."""
    if meta.logit_range is None:
        return byte_logits(codes)
    low, high = meta.logit_range
    return low + codes / np.float32(255) * (high - low)


def _palette(files: Files, meta: Meta) -> np.ndarray:
    """(entries, K-1, 3) palette of the SH beyond the base colour."""
    coefficients = BANDS[meta.bands]
    file = meta.files["shN_centroids"]
    width = PALETTE_COLUMNS * coefficients
    pixels = webp.decode(files.read(file), files.path, file, width, width * (1 << 10))
    if pixels.shape[1] != width:
        raise InputError(
            f"{files.path}: '{file}' is {pixels.shape[1]} pixels wide, expected {width}; make the file again"
        )
    return meta.rest.decode(pixels[..., :3].reshape(-1, coefficients, 3))


def write(
    table: GaussianArrays,
    path: Path,
    *,
    palette: int | None = None,
    antialiased: bool = False,
    effort: int = 4,
    reorder: bool = True,
    quality: "float | QuantizationSteps | None" = None,
) -> None:
    """Write ``table`` (SH up to degree 3) as version 2: a bundle, or a folder when ``path`` is `…/meta.json`.

    Args:
        palette: SH palette entries, at most 65,536; chosen from the number of Gaussians if None.
        antialiased: mark the cloud as trained with the antialiased (mip) blur.
        effort: of the WebP encoder, 0 (fast) to 6 (small).
        reorder: sort along a space-filling curve, which compresses better.
        quality: ten less double the rounding, as in .splatz, where 50 is for viewing; all that fits if None.
    """
    from splat.formats.sog.encode import encode
    from splat.formats.splatz.quantizer import QuantizationSteps

    steps = None if quality is None else QuantizationSteps.of(quality)
    meta, pictures = encode(table, path, palette=palette, antialiased=antialiased, reorder=reorder, steps=steps)
    save_files(path, meta, pictures, effort, meta["shN"]["bands"] if "shN" in meta else 0)


def antialiased(path: Path) -> bool:
    """Whether the file is marked as trained with the antialiased (mip) blur."""
    with open_files(path) as files:
        return files.meta.get("model") == "antialiased" or files.meta.get("antialias") is True


def claim(path: Path) -> tuple[int, int, int]:
    """Gaussians, SH degree and bytes of the bundle or folder ``path``, without its pictures. Raises InputError."""
    with open_files(path) as files:
        meta = parse_meta(files.meta, path)
        return meta.count, meta.bands, files.size(meta.files.values())
