"""Semi-global smoothing of a cost volume: Hirschmüller, "Stereo processing by semiglobal matching", PAMI 2008."""

import numpy as np

SMALL = 0.2  # cost of a change by one plane between neighbours
LARGE = 3.0  # cost of any larger change
_EDGE = 12.0  # grey levels over which the cost of a jump halves: depth breaks where the picture does

_PATHS = ((0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, -1), (1, -1), (-1, 1))  # steps (down, right)


def aggregate(costs: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """Mean over eight directions of the least cost of a path that ends at each pixel and plane.

    Args:
        costs: (H, W, D) float32.
        grey: (H, W) float32 picture, 0 to 255, at whose edges jumps are cheaper.

    Returns:
        (H, W, D) float32.
    """
    total = np.zeros_like(costs)
    for down, right in _PATHS:
        if down == 0:  # walk along columns: the same as along rows of the transposed picture
            _walk(costs.swapaxes(0, 1), grey.T, right, 0, total.swapaxes(0, 1))
        else:
            _walk(costs, grey, down, right, total)
    return total / len(_PATHS)


def _walk(costs: np.ndarray, grey: np.ndarray, down: int, right: int, total: np.ndarray) -> None:
    """Add the path costs of the direction (``down`` ±1, ``right``) to ``total``."""
    rows = range(len(costs)) if down > 0 else range(len(costs) - 1, -1, -1)
    before = None
    for row in rows:
        here = costs[row].copy()
        if before is not None:
            path, shade = _shifted(before, right), _shifted(grey[row - down], right)
            jump = np.maximum(SMALL, LARGE / (1 + np.abs(grey[row] - shade) / _EDGE))[:, None]
            least = path.min(1, keepdims=True)
            choice = np.minimum(path, least + jump)
            np.minimum(choice[:, 1:], path[:, :-1] + SMALL, out=choice[:, 1:])
            np.minimum(choice[:, :-1], path[:, 1:] + SMALL, out=choice[:, :-1])
            here += choice - least
        total[row] += here
        before = here


def _shifted(values: np.ndarray, right: int) -> np.ndarray:
    """The values one pixel against the direction; the border repeats."""
    if right == 0:
        return values
    moved = np.roll(values, right, 0)
    moved[0 if right > 0 else -1] = values[0 if right > 0 else -1]
    return moved
