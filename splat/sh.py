"""Real spherical harmonics up to degree 4 on tensors, in the sign convention of the Inria `.ply` files."""

import torch
from torch import Tensor

from splat import sh_basis
from splat.sh_basis import C0, MAX_DEGREE, degree_of

__all__ = ["C0", "MAX_DEGREE", "basis", "dc_to_rgb", "degree_of", "rgb_to_dc", "rotate"]


def rgb_to_dc(rgb: Tensor) -> Tensor:
    """DC coefficient whose colour, seen from anywhere, is ``rgb`` in [0, 1]."""
    return (rgb - 0.5) / C0


def dc_to_rgb(dc: Tensor) -> Tensor:
    """Colour of a cloud of degree 0 with DC coefficients ``dc``."""
    return dc * C0 + 0.5


def basis(directions: Tensor, degree: int) -> Tensor:
    """Values of the (degree+1)² real SH functions at unit ``directions`` (..., 3) → (..., K)."""
    return torch.stack(sh_basis.terms(*directions.unbind(-1), degree), -1)


def rotate(sh: Tensor, rotation: Tensor) -> Tensor:
    """Coefficients ``sh`` (N, K, 3) of the same lobes turned by ``rotation`` (3, 3)."""
    degree = degree_of(sh.shape[1])
    out = sh.clone()
    for band, mix in enumerate(sh_basis.rotations(rotation.detach().cpu().double().numpy(), degree), start=1):
        rows = slice(band * band, (band + 1) ** 2)
        out[:, rows] = torch.einsum("ij,njc->nic", torch.from_numpy(mix).to(sh), sh[:, rows])
    return out
