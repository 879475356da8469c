"""Filling what stereo does not know: the smoothest inverse depth that agrees with what it does, breaking at edges.

Weighted least squares on the picture's grid (Levin, Lischinski and Weiss, "Colorization using optimization", 2004, with
depth in place of colour): Σ cᵢ (dᵢ − d̄ᵢ)² + λ Σ wᵢⱼ (dᵢ − dⱼ)², wᵢⱼ small across edges of the photo.
"""

import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg

_SMOOTH = 0.3  # λ
_EDGE = 8.0  # grey levels over which the coupling of neighbours falls to 1/e
_LOOSE = 1e-3  # coupling across the strongest edges
_ITERATIONS = 400


def complete(inverse_depth: np.ndarray, confidence: np.ndarray, grey: np.ndarray) -> np.ndarray:
    """(H, W) float32 inverse depth without holes.

    Args:
        inverse_depth: (H, W), anything where ``confidence`` is 0.
        confidence: (H, W) ≥ 0, cᵢ.
        grey: (H, W) float32, 0 to 255.
    """
    if not (confidence > 0).any():
        return np.zeros(grey.shape, np.float32)
    height, width = grey.shape
    number = np.arange(height * width).reshape(height, width)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    flat = grey.ravel().astype(np.float64)
    couple = _SMOOTH * np.maximum(np.exp(-np.abs(flat[first] - flat[second]) / _EDGE), _LOOSE)
    size = height * width
    links = coo_matrix((couple, (first, second)), (size, size)).tocsr()
    links = links + links.T
    sure = confidence.ravel().astype(np.float64)
    diagonal = np.asarray(links.sum(1)).ravel() + sure
    system = diags(diagonal) - links
    known = sure > 0
    start = np.full(size, np.average(inverse_depth.ravel()[known], weights=sure[known]))
    start[known] = inverse_depth.ravel()[known]
    target = np.where(known, sure * inverse_depth.ravel(), 0)
    solved, _ = cg(system, target, x0=start, M=diags(1 / diagonal), rtol=1e-5, maxiter=_ITERATIONS)
    return solved.reshape(height, width).astype(np.float32)
