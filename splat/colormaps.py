"""Colour maps for single numbers, such as errors."""

import numpy as np
from numpy.typing import NDArray

# Matplotlib's "magma" (public domain, CC0) at six evenly spaced values.
MAGMA = np.array([[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]], float)


def magma(values: NDArray[np.floating]) -> NDArray[np.uint8]:
    """(…, 3) colours of ``values`` (…,): nearly black at 0 and below, pale yellow at 1 and above, linear in between."""
    position = np.clip(values, 0, 1) * (len(MAGMA) - 1)
    low = np.minimum(position.astype(int), len(MAGMA) - 2)
    return np.rint(MAGMA[low] + (MAGMA[low + 1] - MAGMA[low]) * (position - low)[..., None]).astype(np.uint8)
