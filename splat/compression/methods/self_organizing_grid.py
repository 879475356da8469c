"""Self-organizing grid: Gaussians sorted so that neighbours in a picture of their attributes are alike.

Parallel linear assignment sorting (Morgenstern et al. 2024, "Compact 3D scene representation via self-organizing
Gaussian grids", §4.1): the grid is blurred, and rows in random groups of four are exchanged so that they come nearest
to the blurred grid, with an ever smaller blur. The work is done by the C++ core, on all cores.
"""

import ctypes
import math

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.native import cpu_library

DECAY = 0.85  # of the blur's radius; the paper takes 0.95, which costs three times as long for 1 to 3 % smoother grids
PATIENCE = 2e-4  # relative gain for which a radius goes on
WIDEST = 16  # features that the core can hold

_ARGUMENTS = [ctypes.c_void_p, *[ctypes.c_int64] * 3, ctypes.c_int32, *[ctypes.c_float] * 3]
_ARGUMENTS += [ctypes.c_uint64, ctypes.c_void_p]


def grid_shape(count: int) -> tuple[int, int]:
    """Height and width of the largest nearly square grid that ``count`` rows fill."""
    width = max(1, math.isqrt(count))
    return count // width, width


def features(cloud: GaussianCloud) -> Tensor:
    """(N, 14) float32 what neighbours should share: centre, size, rotation, opacity, base colour, standardised."""
    quats = torch.nn.functional.normalize(cloud.quats.detach(), dim=1)
    quats = quats * torch.where(quats[:, :1] < 0, -1.0, 1.0)
    opacities = cloud.logit_opacities.detach().clamp(-12, 12)[:, None]
    parts = [cloud.means.detach(), cloud.log_scales.detach().clamp(-30, 30), quats, opacities, cloud.sh[:, 0].detach()]
    return standardised(torch.cat(parts, 1).to("cpu", torch.float32))


def standardised(values: Tensor) -> Tensor:
    """``values`` (N, D) with mean 0 and deviation 1 in every column."""
    return (values - values.mean(0)) / values.std(0, correction=0).clamp_min(1e-12) if len(values) else values


def grid_order(values: Tensor, seed: int = 0, decay: float = DECAY, patience: float = PATIENCE) -> Tensor:
    """(N,) int64 order of the rows of ``values`` (N, D ≤ 16) that fills a `grid_shape` row by row.

    What does not fit the grid (less than one row of it) comes last. The same for the same ``seed``.
    """
    if values.ndim != 2 or not 1 <= values.shape[1] <= WIDEST:
        raise ValueError(f"values have shape {tuple(values.shape)}, expected (N, 1 to {WIDEST})")
    if not (0 < decay < 1 and patience >= 0):
        raise ValueError(f"decay is {decay}, patience {patience}; expected 0 < decay < 1 and patience ≥ 0")
    height, width = grid_shape(len(values))
    order = torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))
    order_in_grid = order[: height * width].to(torch.int32).contiguous()
    values = values.to("cpu", torch.float32).contiguous()
    status = cpu_library.function("splat_grid_sort", _ARGUMENTS, ctypes.c_int32)(
        cpu_library.pointer(values), len(values), height, width, values.shape[1], max(max(height, width) / 2 - 1, 1.0),
        decay, patience, seed % 2**64, cpu_library.pointer(order_in_grid),
    )  # fmt: skip
    cpu_library.raise_for(status, "sorting Gaussians into a grid")
    return torch.cat([order_in_grid.long(), order[height * width :]])


def sort_grid(cloud: GaussianCloud, seed: int = 0) -> GaussianCloud:
    """``cloud`` in the order of a self-organizing grid, by `features`; no Gaussian is dropped."""
    return cloud.permute(grid_order(features(cloud), seed).to(cloud.device)) if len(cloud) > 1 else cloud


def roughness(values: Tensor) -> float:
    """Mean L2 distance of horizontal and vertical neighbours of ``values`` (N, D) laid out as a grid row by row."""
    height, width = grid_shape(len(values))
    grid = values[: height * width].reshape(height, width, -1)
    gaps = [(grid[1:] - grid[:-1]).norm(dim=-1).flatten(), (grid[:, 1:] - grid[:, :-1]).norm(dim=-1).flatten()]
    gaps = torch.cat(gaps)
    return float(gaps.double().mean()) if len(gaps) else 0.0


def blurred(values: Tensor, radius: int = 2, sigma: float = 3.0) -> Tensor:
    """``values`` (N, D) as a grid, each column blurred by a Gaussian, the ends mirrored; same shape."""
    height, width = grid_shape(len(values))
    radius = min(radius, height - 1, width - 1)
    if radius < 1:
        return values.clone()
    line = torch.exp(-(torch.arange(-radius, radius + 1, dtype=values.dtype) ** 2) / (2 * sigma**2))
    line = (line / line.sum()).to(values.device)
    grid = values[: height * width].reshape(height, width, -1).permute(2, 0, 1)[:, None]
    grid = torch.nn.functional.pad(grid, (radius,) * 4, mode="reflect")
    grid = torch.nn.functional.conv2d(
        torch.nn.functional.conv2d(grid, line[None, None, None]), line[None, None, :, None]
    )
    flat = grid[:, 0].permute(1, 2, 0).reshape(height * width, -1)
    return torch.cat([flat, values[height * width :]])


def smoothness(cloud: GaussianCloud, weights: dict[str, float]) -> tuple[float, dict[str, Tensor]]:
    """The paper's neighbour loss and its gradient: Huber between attributes and their blurred copies, which are fixed.

    Args:
        weights: factors by name of the attribute, such as ``{"quats": 10}``; divided by their sum.
    """
    loss, gradients, total = 0.0, {}, sum(weights.values())
    for name, weight in weights.items():
        values = getattr(cloud, name).detach()
        flat = values.reshape(len(values), -1)
        gap = flat - blurred(flat)
        scale = weight / total / gap.numel()
        loss += scale * float(torch.nn.functional.huber_loss(gap, torch.zeros_like(gap), reduction="sum"))
        gradients[name] = (scale * gap.clamp(-1, 1)).reshape(values.shape)
    return loss, gradients
