"""The `meta.json` of SOG: checked once, so that the decoder can trust it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from splat.coordinates import AT_ZERO, Georeference
from splat.errors import InputError
from splat.reading import DAMAGE, member, reason_of, typed

PALETTE_COLUMNS = 64  # palette entries in a row of the centroid picture
LARGEST = 1e30  # of a number
BANDS = {1: 3, 2: 8, 3: 15}  # bands → coefficients beyond the base colour
GENERATOR = "splat"


PICTURES = {
    "means": ("means_l", "means_u"),
    "quats": ("quats",),
    "scales": ("scales",),
    "sh0": ("sh0",),
    "shN": ("shN_centroids", "shN_labels"),
}
_WIDTH_TO_BANDS_V1 = {9: 1, 24: 2, 45: 3}


@dataclass(frozen=True)
class Bytes:
    """How bytes become values: by a codebook (256,), or linearly between ``low`` and ``high`` (version 1)."""

    codebook: np.ndarray | None = None
    low: np.ndarray | float = 0.0
    high: np.ndarray | float = 1.0

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Values of ``codes`` (..., 3) uint8, float32."""
        if self.codebook is not None:
            return self.codebook[codes]
        return (self.low + codes / 255 * (np.asarray(self.high) - self.low)).astype(np.float32)


@dataclass(frozen=True)
class Meta:
    """What the decoder needs to know. ``logit_range`` is set in version 1, where opacity bytes are logits."""

    count: int
    bands: int
    files: Mapping[str, str]
    mean_range: tuple[np.ndarray, np.ndarray]
    scales: Bytes
    sh0: Bytes
    rest: Bytes
    logit_range: tuple[float, float] | None
    georeference: Georeference = AT_ZERO


def parse_meta(meta: Any, path: Path) -> Meta:
    """Check ``meta`` (parsed JSON). Raises InputError naming what is missing or out of bounds."""
    try:
        return _parse(meta)
    except (*DAMAGE, TypeError, AttributeError) as error:  # JSON of another shape than the format's
        raise InputError(
            f"{path}: meta.json cannot be understood ({reason_of(error)}); make or copy the file again"
        ) from error


def _parse(meta: Mapping[str, Any]) -> Meta:
    version = meta.get("version", 1)
    if typed(version, int, "'version'") not in (1, 2):
        raise ValueError(f"version {version}, expected 1 or 2")
    count = member(meta, "count", int) if version == 2 else _shape(meta["means"])[0]
    if not 0 <= count < 2**31:
        raise ValueError(f"'count' is {count}")
    files = {}
    for group, names in PICTURES.items():
        if group in meta or group != "shN":
            given = member(member(meta, group, dict), "files", list)
            files.update(zip(names, (file_name(name) for name in given), strict=True))
    mean_range = _numbers(meta["means"]["mins"], 3), _numbers(meta["means"]["maxs"], 3)
    if max(np.abs(end).max() for end in mean_range) > 80:
        raise ValueError("means beyond e^80")
    if version == 2:
        place = Georeference.of_json(meta["georeference"]) if "georeference" in meta else AT_ZERO
        return replace(_version_2(meta, count, files, mean_range), georeference=place)
    return _version_1(meta, count, files, mean_range)


def _version_2(meta, count, files, mean_range) -> Meta:
    rest, bands = Bytes(), 0
    if "shN" in meta:
        rest = Bytes(_numbers(meta["shN"]["codebook"], 256).astype(np.float32))
        bands = member(meta["shN"], "bands", int)
        if bands not in (1, 2, 3):
            raise ValueError(f"shN.bands {bands!r}, expected 1 to 3")
    scales, sh0 = (Bytes(_numbers(meta[name]["codebook"], 256).astype(np.float32)) for name in ("scales", "sh0"))
    return Meta(count, bands, files, mean_range, scales, sh0, rest, None)


def _version_1(meta, count, files, mean_range) -> Meta:
    scales = Bytes(None, _numbers(meta["scales"]["mins"], 3), _numbers(meta["scales"]["maxs"], 3))
    low, high = _numbers(meta["sh0"]["mins"], 4), _numbers(meta["sh0"]["maxs"], 4)
    rest, bands = Bytes(), 0
    if "shN" in meta:
        width = math.prod(_shape(meta["shN"])[1:])
        if width not in _WIDTH_TO_BANDS_V1:
            raise ValueError(f"shN.shape with {width} values a Gaussian, expected 9, 24 or 45")
        bands = _WIDTH_TO_BANDS_V1[width]
        rest = Bytes(None, float(_numbers([meta["shN"]["mins"]], 1)[0]), float(_numbers([meta["shN"]["maxs"]], 1)[0]))
    return Meta(count, bands, files, mean_range, scales, Bytes(None, low[:3], high[:3]), rest, (low[3], high[3]))


def _numbers(values: Any, count: int) -> np.ndarray:
    """(count,) float64 of a size that float32 can compute with."""
    values = [float(typed(value, float, "a number")) for value in typed(values, list, "what should be numbers")]
    array = np.array(values)
    if len(array) != count or not (np.abs(array) < LARGEST).all():
        raise ValueError(f"{len(array)} numbers, expected {count} finite ones")
    return array


def _shape(group: Any) -> list[int]:
    """Sizes along the axes of an array of version 1."""
    sizes = [typed(size, int, "a size in 'shape'") for size in member(group, "shape", list)]
    if not 1 <= len(sizes) <= 4 or not all(0 <= size < 2**31 for size in sizes):
        raise ValueError(f"'shape' has {len(sizes)} sizes, expected 1 to 4 of at most 2^31")
    return sizes


def file_name(name: Any) -> str:
    """A bare file name: nothing that could lead out of the folder or bundle."""
    odd = not isinstance(name, str) or not name.isprintable() or set(name) & set("/\\:")
    if odd or name in ("", ".", ".."):
        raise ValueError(f"the file name {name!r} is not a plain name")
    return name
