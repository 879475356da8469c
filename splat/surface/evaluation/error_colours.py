"""Colours for errors."""

import numpy as np
from numpy.typing import NDArray

# Matplotlib's "magma" (public domain, CC0) at six even places.
_STOPS = np.array([[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]], float)


def error_colours(error: NDArray) -> NDArray[np.uint8]:
    """(…, 3) colours of values (…,): dark at 0, bright at 1 and above."""
    position = np.clip(np.asarray(error, float), 0, 1) * (len(_STOPS) - 1)
    low = np.minimum(position.astype(int), len(_STOPS) - 2)
    return np.rint(_STOPS[low] + (_STOPS[low + 1] - _STOPS[low]) * (position - low)[..., None]).astype(np.uint8)
