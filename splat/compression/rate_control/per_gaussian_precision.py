"""How finely each Gaussian must be stored: how much moving, scaling or rotating it changes the pictures.

The usual steps follow opacity times size. What lies behind others, or looks like what is behind it, may be far coarser;
edges must be finer. A few binary digits for each Gaussian say so.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.finetuning.straight_through import with_ordered_axes
from splat.formats.splatz.rows import DETAIL, Rows
from splat.rendering import RenderOptions
from splat.rendering.backends import choose_backend
from splat.rendering.types import ImageGradients

# Tensors that the digits are for, and the power of visibility that the usual steps take their error to follow.
TENSORS = {"means": 0.5, "log_scales": 1.0, "quats": 1.0}
DIGITS = 0.25  # for each power of two of the squared gradient
FARTHEST = 10.0  # powers of two from the median, that one tensor may say


def squared_gradients(
    cloud: GaussianCloud, cameras: Sequence[Camera], options: RenderOptions | None = None, probes: int = 1
) -> dict[str, Tensor]:
    """(N,) for every tensor: Σ over pixels of the squared derivative of the pictures, mean over the tensor's columns.

    Estimated with random signs for pixels (Hutchinson 1990), ``probes`` times for each camera.
    """
    options, generator = options or RenderOptions(), torch.Generator().manual_seed(0)
    cloud = cloud.detach().replace(extras={}).map(torch.Tensor.contiguous)
    backend = choose_backend(cloud)
    total = {name: torch.zeros(len(cloud)) for name in TENSORS}
    for camera in cameras:
        for _ in range(probes):
            rendering, context = backend.forward(cloud, camera, options)
            signs = torch.randint(0, 2, rendering.rgb.shape, generator=generator).to(rendering.rgb) * 2 - 1
            gradients = backend.backward(context, ImageGradients(rgb=signs))
            for name, sums in total.items():
                columns = getattr(gradients, name).reshape(len(cloud), -1).nan_to_num(0.0, 0.0, 0.0)
                sums += columns.square().mean(1) / probes
    return total


def per_gaussian_precision(
    cloud: GaussianCloud, cameras: Sequence[Camera], options: RenderOptions | None = None, probes: int = 1
) -> Tensor:
    """(N,) int64 binary digits, as `detail` of `.splatz`: 0 where the usual steps are right, 0 on the whole."""
    if len(cloud) == 0 or not cameras:
        return torch.zeros(len(cloud), dtype=torch.int64)
    cloud = with_ordered_axes(cloud)
    visibility = torch.from_numpy(Rows.of(GaussianArrays.of(cloud)).visibility()).float()
    wish = torch.zeros(len(cloud))
    for name, sums in squared_gradients(cloud, cameras, options, probes).items():
        beyond = sums.clamp_min(1e-30).log2() - TENSORS[name] * visibility
        wish += (beyond - beyond.median()).clamp(-FARTHEST, FARTHEST) / len(TENSORS)
    # The error goes with the square of a step, so that two powers of two are one digit; half of that, as digits cost
    # bits and what other views say differs.
    return (DIGITS * (wish - wish.mean())).round().clamp(*DETAIL).long()
