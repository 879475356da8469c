"""Infinite values that mean something, as finite ones: readers of clouds hand on nothing that pictures cannot show."""

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.parallel import each, pieces

# exp(-20) of a world unit: the thickness of what has none, and as a logit an opacity that nobody tells from 0 or 1.
FLAT_LOG_SCALE = -20.0
CERTAIN = 20.0


def without_infinities(table: GaussianArrays) -> GaussianArrays:
    """``table`` with log scales of −∞ (2DGS writes log 0) and logit opacities of ±∞ made finite; the same if none is.

    NaN, and log scales of +∞, stay: they mean nothing.
    """
    flat = _mended(table.log_scales, -np.inf, FLAT_LOG_SCALE)
    logits = _mended(_mended(table.logit_opacities, np.inf, CERTAIN), -np.inf, -CERTAIN)
    return table.replace(log_scales=flat, logit_opacities=logits)


def _mended(values: np.ndarray, wrong: float, right: float) -> np.ndarray:
    """``values`` with each ``wrong`` as ``right``; a copy where there is any."""
    rows = pieces(len(values))
    if not any(each(lambda piece: bool((values[piece] == wrong).any()), rows)):
        return values
    return np.where(values == wrong, values.dtype.type(right), values)
