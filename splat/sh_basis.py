"""Real spherical harmonics up to degree 4 as plain arithmetic, for PyTorch tensors and NumPy arrays alike.

The sign convention is that of the Inria `.ply` files. `splat.sh` has the functions on tensors.
"""

import functools
from typing import Any

import numpy as np

C0 = 0.28209479177387814
MAX_DEGREE = 4


def degree_of(coefficients: int) -> int:
    """Degree whose basis has ``coefficients`` = (degree + 1)² functions."""
    degree = round(coefficients**0.5) - 1
    if (degree + 1) ** 2 != coefficients or not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"{coefficients} SH coefficients per channel; expected 1, 4, 9, 16 or 25")
    return degree


def terms(x: Any, y: Any, z: Any, degree: int) -> list[Any]:
    """The (degree+1)² basis functions at unit directions given by their parts (arrays of one shape).

    Constants follow Sloan, "Stupid Spherical Harmonics Tricks" (2008), appendix A2.
    """
    xx, yy, zz = x * x, y * y, z * z
    xy, yz, xz = x * y, y * z, x * z
    out = [0 * x + C0]
    if degree >= 1:
        out += [-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x]
    if degree >= 2:
        out += [
            1.0925484305920792 * xy,
            -1.0925484305920792 * yz,
            0.31539156525252005 * (2 * zz - xx - yy),
            -1.0925484305920792 * xz,
            0.5462742152960396 * (xx - yy),
        ]
    if degree >= 3:
        out += [
            -0.5900435899266435 * y * (3 * xx - yy),
            2.890611442640554 * xy * z,
            -0.4570457994644658 * y * (4 * zz - xx - yy),
            0.3731763325901154 * z * (2 * zz - 3 * xx - 3 * yy),
            -0.4570457994644658 * x * (4 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3 * yy),
        ]
    if degree >= 4:
        out += [
            2.5033429417967046 * xy * (xx - yy),
            -1.7701307697799304 * yz * (3 * xx - yy),
            0.9461746957575601 * xy * (7 * zz - 1),
            -0.6690465435572892 * yz * (7 * zz - 3),
            0.10578554691520431 * (zz * (35 * zz - 30) + 3),
            -0.6690465435572892 * xz * (7 * zz - 3),
            0.47308734787878004 * (xx - yy) * (7 * zz - 1),
            -1.7701307697799304 * xz * (xx - 3 * yy),
            0.6258357354491761 * (xx * (xx - 3 * yy) - yy * (3 * xx - yy)),
        ]
    return out


@functools.cache
def _sample_directions() -> np.ndarray:
    """(64, 3) well-spread unit directions (Fibonacci sphere), float64; enough to pin 25 functions down."""
    i = np.arange(64) + 0.5
    z = 1 - 2 * i / 64
    radius = np.sqrt(1 - z * z)
    phi = np.pi * (1 + 5**0.5) * i
    return np.stack([radius * np.cos(phi), radius * np.sin(phi), z], -1)


def rotations(rotation: np.ndarray, degree: int) -> list[np.ndarray]:
    """For each band from 1 to ``degree`` the (2·band+1)² float64 matrix that turns its coefficients by ``rotation``.

    The rotated function is f'(d) = f(Rᵀd); each band mixes only with itself, by a matrix found from the basis at sample
    directions (exact up to rounding, as the samples over-determine each band).
    """
    directions = _sample_directions()
    plain = np.stack(terms(*directions.T, degree), -1)
    turned = np.stack(terms(*(directions @ np.asarray(rotation, np.float64)).T, degree), -1)
    bands = [slice(band * band, (band + 1) ** 2) for band in range(1, degree + 1)]
    return [np.linalg.lstsq(plain[:, rows], turned[:, rows], rcond=None)[0] for rows in bands]
