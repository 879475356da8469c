"""Colours for errors."""

import numpy as np
from numpy.typing import NDArray

# Matplotlib's "magma" (public domain, CC0) at six even places.
_STOPS = np.array([[0, 0, 4], [59, 15, 112], [140, 41, 129], [222, 73, 104], [254, 159, 109], [252, 253, 191]], float)


def heat(share: NDArray) -> NDArray[np.uint8]:
    """(…, 3) colours of values (…,): dark at 0, bright at 1 and above."""
    place = np.clip(np.asarray(share, float), 0, 1) * (len(_STOPS) - 1)
    low = np.minimum(place.astype(int), len(_STOPS) - 2)
    return np.rint(_STOPS[low] + (_STOPS[low + 1] - _STOPS[low]) * (place - low)[..., None]).astype(np.uint8)
