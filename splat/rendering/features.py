"""N-channel features, blended like colours by any backend: Σ wᵢ fᵢ with the weights w = αT of the picture.

Three channels at a time stand in for view-independent colours, so C channels cost ⌈C/3⌉ further forward passes, and as
many backward passes where gradients are wanted. The result is exact: backends clamp colours at 0 from below, so each
channel is moved and scaled into [¼, ¾], and Σ wᵢ = alpha takes the offset off again.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering.types import Rendering, RenderOptions
from splat.sh import rgb_to_dc


def blend_features(
    draw: Callable[[GaussianCloud, RenderOptions], Rendering],
    cloud: GaussianCloud,
    options: RenderOptions,
    features: Tensor,
) -> Tensor:
    """(H, W, C) Σ wᵢ fᵢ of ``features`` (N, C), in their order; 0 where nothing is seen.

    Args:
        draw: renders a cloud from the camera in question, differentiably if the result is to be.

    Raises ValueError when ``features`` do not have one row per Gaussian.
    """
    if features.ndim != 2 or len(features) != len(cloud):
        raise ValueError(f"features have shape {tuple(features.shape)}, expected ({len(cloud)}, channels)")
    options = replace(
        options, background=(0.0, 0.0, 0.0), sh_degree=0, depth=False, normal=False, square_depth=False, weights=False
    )
    features = features.to(cloud.means)
    pictures = [_blend_three(draw, cloud, options, channels) for channels in features.split(3, 1)]
    return torch.cat(pictures, -1)


def _blend_three(
    draw: Callable[[GaussianCloud, RenderOptions], Rendering],
    cloud: GaussianCloud,
    options: RenderOptions,
    channels: Tensor,
) -> Tensor:
    """(H, W, c) blend of ``channels`` (N, c), c ≤ 3."""
    count = channels.shape[1]
    channels = torch.nn.functional.pad(channels, (0, 3 - count))
    if len(channels):
        low, high = channels.detach().aminmax(dim=0)
    else:
        low = high = channels.new_zeros(3)
    middle, span = 0.5 * (low + high), torch.where(high > low, high - low, 1)
    colours = 0.5 + 0.5 * (channels - middle) / span
    drawn = draw(cloud.replace(sh=rgb_to_dc(colours)[:, None].contiguous(), extras={}), options)
    blended = 2 * span * (drawn.rgb - 0.5 * drawn.alpha[..., None]) + middle * drawn.alpha[..., None]
    return blended[..., :count]
