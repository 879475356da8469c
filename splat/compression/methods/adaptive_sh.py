"""SH degrees of single Gaussians: bands that no picture would miss are zero (after Papantonakis et al. 2024).

A Gaussian keeps the bands up to the highest whose loss would change its colour by more than a tolerance, weighed by how
much of the pictures it is. Zeros cost `.splatz` almost nothing, and SOG's palette less.
"""

import torch
from torch import Tensor

from splat.cloud import GaussianCloud

FULL_QUANTILE = 0.9  # Gaussians with more weight than this fraction of all are weighed alike


def sh_degrees(cloud: GaussianCloud, weights: Tensor, tolerance: float = 0.01) -> Tensor:
    """(N,) int64 the least degree that each Gaussian needs.

    Args:
        weights: (N,) ≥ 0, such as `significance`.
        tolerance: root mean square of the colour over all directions that may be lost by a Gaussian of full weight; one
            of a quarter of that weight may lose twice as much.
    """
    if len(cloud) == 0 or cloud.sh_degree == 0:
        return torch.zeros(len(cloud), dtype=torch.int64)
    full = weights.sort().values[min(int(FULL_QUANTILE * len(weights)), len(weights) - 1)].clamp_min(1e-30)
    allowed = tolerance / (weights / full).clamp(1e-6, 1).sqrt()
    # Real SH are orthonormal: the mean square over the sphere is the sum of squares / 4π.
    energy = cloud.sh.square().sum(2) / (4 * torch.pi)
    lost = torch.stack(
        [energy[:, (degree + 1) ** 2 :].sum(1).sqrt() for degree in range(cloud.sh_degree + 1)], 1
    )  # (N, degrees) when cut to each
    return (lost > allowed[:, None]).sum(1)


def adapt_degrees(cloud: GaussianCloud, weights: Tensor, tolerance: float = 0.01) -> GaussianCloud:
    """``cloud`` with the bands above `sh_degrees` zero; the array keeps its width."""
    degrees = sh_degrees(cloud, weights, tolerance).to(cloud.device)
    bands = torch.arange(cloud.sh.shape[1], device=cloud.device).float().sqrt().floor().long()
    return cloud.replace(sh=torch.where((bands[None] <= degrees[:, None])[..., None], cloud.sh, 0))
