"""How finely single Gaussians must be stored: what moving, growing or turning each changes in pictures.

The usual steps follow opacity times size. What lies behind others, or looks like what is behind it, may be far coarser;
edges must be finer. A few binary digits for each Gaussian say so.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.finetuning.straight_through import with_ordered_axes
from splat.formats.splatz.container import rows_of
from splat.formats.splatz.quantizer import DETAIL, cells_of, visibility
from splat.rendering import RenderOptions
from splat.rendering.backends import choose_backend
from splat.rendering.types import ImageGradients

NAME = "detail"  # of the extra that carries it
# Tensors that the digits are for, and the power of visibility that the usual steps take their error to follow.
TENSORS = {"means": 0.5, "log_scales": 1.0, "quats": 1.0}
DIGITS = 0.25  # for each power of two of the squared slope
FARTHEST = 10.0  # powers of two from the median, that one tensor may say


def detail_of(cloud: GaussianCloud) -> np.ndarray | None:
    """(N,) the digits that ``cloud`` carries, or None."""
    return cloud.extras[NAME].numpy() if NAME in cloud.extras else None


def squared_slopes(
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
            found = backend.backward(context, ImageGradients(rgb=signs))
            for name, sums in total.items():
                slopes = getattr(found, name).reshape(len(cloud), -1).nan_to_num(0.0, 0.0, 0.0)
                sums += slopes.square().mean(1) / probes
    return total


def details(
    cloud: GaussianCloud, cameras: Sequence[Camera], options: RenderOptions | None = None, probes: int = 1
) -> Tensor:
    """(N,) int64 binary digits for `splatz.encode`: 0 where the usual steps are right, 0 on the whole."""
    if len(cloud) == 0 or not cameras:
        return torch.zeros(len(cloud), dtype=torch.int64)
    cloud = with_ordered_axes(cloud)
    rows = rows_of(GaussianArrays.of(cloud))
    seen = torch.from_numpy(visibility(*cells_of(rows.log_scales, rows.alphas))).float()
    wish = torch.zeros(len(cloud))
    for name, sums in squared_slopes(cloud, cameras, options, probes).items():
        beyond = sums.clamp_min(1e-30).log2() - TENSORS[name] * seen
        wish += (beyond - beyond.median()).clamp(-FARTHEST, FARTHEST) / len(TENSORS)
    # The error goes with the square of a step, so that two powers of two are one digit; half of that, as digits cost
    # bits and what other views say differs.
    return (DIGITS * (wish - wish.mean())).round().clamp(*DETAIL).long()
