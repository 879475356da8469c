"""A bilateral grid of colour transforms for each photo."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

GRID = (12, 8, 16, 16)  # affine coefficients, luma levels, rows, columns
RATE = 2e-3  # of Adam, at its highest
SMOOTHNESS = 10.0  # weight of the total variation
LUMA = (0.299, 0.587, 0.114)  # Rec. 601


def apply_grid(rgb: Tensor, grid: Tensor, places: Tensor | None = None) -> Tensor:
    """Slice a bilateral grid and apply it (Wang et al. 2024, "Bilateral guided radiance field processing", §4).

    Args:
        rgb: (H, W, 3).
        grid: (12, 8, 16, 16) differences of affine transforms (3×4, row-major) from the identity, over luma, y and x.
        places: (H, W, 2) where the photo has each pixel, fractions of its width and height; None: ``rgb`` is all of it.

    Returns:
        (H, W, 3). The grid is interpolated trilinearly at each pixel's position and luma, which pass no gradient on.
    """
    height, width = rgb.shape[:2]
    luma = (rgb.detach() @ rgb.new_tensor(LUMA)).clamp(0, 1)
    if places is None:
        y = ((torch.arange(height, device=rgb.device) + 0.5) / height * 2 - 1).to(rgb)
        x = ((torch.arange(width, device=rgb.device) + 0.5) / width * 2 - 1).to(rgb)
        position = torch.stack([x.expand(height, width), y[:, None].expand(height, width), 2 * luma - 1], -1)
    else:
        position = torch.cat([2 * places.to(rgb) - 1, 2 * luma[..., None] - 1], -1)
    sliced = grid_sample(grid[None], position[None, None], align_corners=True, padding_mode="border")
    affine = sliced[0, :, 0].permute(1, 2, 0).reshape(height, width, 3, 4)
    return rgb + (affine[..., :3] @ rgb[..., None])[..., 0] + affine[..., 3]


def total_variation(grid: Tensor) -> Tensor:
    """Sum over the three directions of the mean squared difference of neighbours in ``grid`` (12, L, H, W)."""
    return sum(grid.diff(dim=dim).square().mean() for dim in (1, 2, 3))


def grid_rate(step: int, fraction: float) -> float:
    """Learning rate of the grids: warm-up from 1 % over 1000 steps or a seventh of the run, then decay to 1 %."""
    warmed = min(1.0, max(step / 1000, 7 * fraction))
    return RATE * (0.01 + 0.99 * warmed) * 0.01**fraction
