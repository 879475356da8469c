"""How much every Gaussian adds to pictures: LightGaussian's global significance (Fan et al. 2024, §3.2)."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import render

VOLUME_POWER = 0.1  # β of the paper
LARGE_QUANTILE = 0.9  # the volume that counts as one: larger than this fraction of all


def blending_weights(cloud: GaussianCloud, cameras: Sequence[Camera], antialiased: bool = False) -> Tensor:
    """(N,) Σ over views and pixels of the blending weight αT of each Gaussian.

    The weight of the picture itself, as in Mini-Splatting and OMG; LightGaussian's code leaves out the falloff.
    """
    total = torch.zeros(len(cloud), device=cloud.device)
    with torch.no_grad():
        for camera in cameras:
            total += render(cloud, camera, antialiased=antialiased, weights=True).weights
    return total


def volume_factor(cloud: GaussianCloud, power: float = VOLUME_POWER) -> Tensor:
    """(N,) clip(V / V₉₀, 0, 1)^β with V the volume and V₉₀ its 90 % quantile, in logarithms against overflow."""
    if len(cloud) == 0:
        return cloud.logit_opacities.new_zeros(0)
    volume = cloud.log_scales.double().sum(1)
    large = volume.sort().values[min(int(LARGE_QUANTILE * len(cloud)), len(cloud) - 1)]
    return (power * (volume - large).clamp_max(0)).exp().to(cloud.dtype)


def significance(
    cloud: GaussianCloud, cameras: Sequence[Camera], power: float = VOLUME_POWER, antialiased: bool = False
) -> Tensor:
    """(N,) global significance: blending weights times ``volume_factor``; 0 for what no view shows."""
    return blending_weights(cloud, cameras, antialiased) * volume_factor(cloud, power)
