"""Real spherical harmonics up to degree 4, in the sign convention of the Inria `.ply` files."""

import functools

import torch
from torch import Tensor

C0 = 0.28209479177387814
MAX_DEGREE = 4


def degree_of(coefficients: int) -> int:
    """Degree whose basis has ``coefficients`` = (degree + 1)² functions."""
    degree = round(coefficients**0.5) - 1
    if (degree + 1) ** 2 != coefficients or not 0 <= degree <= MAX_DEGREE:
        raise ValueError(f"{coefficients} SH coefficients per channel; expected 1, 4, 9, 16 or 25")
    return degree


def rgb_to_dc(rgb: Tensor) -> Tensor:
    """DC coefficient whose colour, seen from anywhere, is ``rgb`` in [0, 1]."""
    return (rgb - 0.5) / C0


def dc_to_rgb(dc: Tensor) -> Tensor:
    """Colour of a cloud of degree 0 with DC coefficients ``dc``."""
    return dc * C0 + 0.5


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values of the (degree+1)² real SH functions at unit ``directions`` (..., 3) → (..., K).

    Constants follow Sloan, "Stupid Spherical Harmonics Tricks" (2008), appendix A2.
    """
    x, y, z = directions.unbind(-1)
    xx, yy, zz = x * x, y * y, z * z
    xy, yz, xz = x * y, y * z, x * z
    out = [torch.full_like(x, C0)]
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
    return torch.stack(out, -1)


@functools.cache
def _sample_directions() -> Tensor:
    """64 well-spread unit directions (Fibonacci sphere), float64; enough to pin 25 functions down."""
    i = torch.arange(64, dtype=torch.float64) + 0.5
    z = 1 - 2 * i / 64
    radius = (1 - z * z).sqrt()
    phi = torch.pi * (1 + 5**0.5) * i
    return torch.stack([radius * phi.cos(), radius * phi.sin(), z], -1)


def rotate(sh: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients ``sh`` (N, K, 3) of the same lobes turned by ``rotation`` (3, 3).

    The rotated function is f'(d) = f(Rᵀd); each band mixes only with itself, by a matrix found from
    the basis at sample directions (exact up to rounding, as the samples over-determine each band).
    """
    degree = degree_of(sh.shape[1])
    directions = _sample_directions()
    turned = basis(directions @ rotation.to("cpu", torch.float64), degree)
    plain = basis(directions, degree)
    out = sh.clone()
    for band in range(1, degree + 1):
        rows = slice(band * band, (band + 1) ** 2)
        mix = torch.linalg.lstsq(plain[:, rows], turned[:, rows]).solution.to(sh)
        out[:, rows] = torch.einsum("ij,njc->nic", mix, sh[:, rows])
    return out
