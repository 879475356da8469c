"""The `meta.json` of SOG: checked once, so that the decoder can trust it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError

PALETTE_COLUMNS = 64  # palette entries in a row of the centroid picture
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


def parse_meta(meta: Any, path: Path) -> Meta:
    """Check ``meta`` (parsed JSON). Raises InputError naming what is missing or out of bounds."""
    try:
        return _parse(meta)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        what = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else error
        raise InputError(f"{path}: meta.json cannot be understood ({what}); make or copy the file again") from error


def _parse(meta: Mapping[str, Any]) -> Meta:
    version = meta.get("version", 1)
    if version not in (1, 2):
        raise ValueError(f"version {version}, expected 1 or 2")
    count = meta["count"] if version == 2 else meta["means"]["shape"][0]
    if not isinstance(count, int) or isinstance(count, bool) or count < 0:
        raise ValueError(f"count {count!r}")
    files = {}
    for group, names in PICTURES.items():
        if group in meta:
            files.update(zip(names, (file_name(name) for name in meta[group]["files"]), strict=True))
    mean_range = _numbers(meta["means"]["mins"], 3), _numbers(meta["means"]["maxs"], 3)
    if max(np.abs(end).max() for end in mean_range) > 80:
        raise ValueError("means beyond e^80")
    if version == 2:
        return _version_2(meta, count, files, mean_range)
    return _version_1(meta, count, files, mean_range)


def _version_2(meta, count, files, mean_range) -> Meta:
    rest, bands = Bytes(), 0
    if "shN" in meta:
        rest, bands = Bytes(_numbers(meta["shN"]["codebook"], 256).astype(np.float32)), meta["shN"]["bands"]
        if bands not in (1, 2, 3):
            raise ValueError(f"shN.bands {bands!r}, expected 1 to 3")
    scales, sh0 = (Bytes(_numbers(meta[name]["codebook"], 256).astype(np.float32)) for name in ("scales", "sh0"))
    return Meta(count, bands, files, mean_range, scales, sh0, rest, None)


def _version_1(meta, count, files, mean_range) -> Meta:
    scales = Bytes(None, _numbers(meta["scales"]["mins"], 3), _numbers(meta["scales"]["maxs"], 3))
    low, high = _numbers(meta["sh0"]["mins"], 4), _numbers(meta["sh0"]["maxs"], 4)
    rest, bands = Bytes(), 0
    if "shN" in meta:
        bands = _WIDTH_TO_BANDS_V1[math.prod(meta["shN"]["shape"][1:])]
        rest = Bytes(None, float(_numbers([meta["shN"]["mins"]], 1)[0]), float(_numbers([meta["shN"]["maxs"]], 1)[0]))
    return Meta(count, bands, files, mean_range, scales, Bytes(None, low[:3], high[:3]), rest, (low[3], high[3]))


def _numbers(values: Any, count: int) -> np.ndarray:
    """(count,) finite float64."""
    array = np.array([float(value) for value in values])
    if len(array) != count or not np.isfinite(array).all():
        raise ValueError(f"{len(array)} numbers, expected {count} finite ones")
    return array


def file_name(name: Any) -> str:
    """A bare file name: nothing that could lead out of the folder or bundle."""
    if not isinstance(name, str) or not name or name in (".", "..") or set(name) & set("/\\:\0"):
        raise ValueError(f"the file name {name!r} is not a plain name")
    return name
