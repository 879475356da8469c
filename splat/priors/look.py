"""The look of a photo (exposure, white balance, tone) fitted to a cloud after training, from all or a part of it.

The protocol of Martin-Brualla et al. ("NeRF in the Wild", CVPR 2021): fitted on one half of a held-out photo, judged on
the other. It also gives a whole scene the look of any reference photo.
"""

import torch
from torch import Tensor

from splat.training import appearance

_GRID_SMOOTHNESS = 10.0
_RIDGE = 1e-3  # pull of the affine transform towards the identity, against the mean square of what it is fitted on


def fit_exposure(rendered: Tensor, photo: Tensor, use: Tensor | None = None) -> Tensor:
    """(3, 4) exposure (as in `splat.training.appearance.expose`) that makes ``rendered`` look like ``photo``.

    Args:
        rendered, photo: (H, W, 3) in [0, 1].
        use: (H, W) bool, pixels to fit on.

    Least squares, reweighted so that the tenth of the pixels that fit worst (occluders) does not count.
    """
    pixels = torch.ones(rendered.shape[:2], dtype=torch.bool) if use is None else use
    x, y = rendered[pixels].double(), photo[pixels].double()
    if len(x) < 16:
        return torch.zeros(3, 4)
    full = torch.cat([x, torch.ones_like(x[:, :1])], 1)
    good = torch.ones(len(x), dtype=torch.bool)
    for _ in range(3):
        rows = full[good]
        ridge = _RIDGE * len(rows) * torch.eye(4, dtype=torch.float64)
        change = torch.linalg.solve(rows.T @ rows + ridge, rows.T @ (y[good] - x[good]))
        error = (x + full @ change - y).abs().sum(1)
        good = error <= error.quantile(0.9) if len(error) < 10_000_000 else good
    return change.T.float()


def fit_grid(rendered: Tensor, photo: Tensor, use: Tensor | None = None, steps: int = 200) -> Tensor:
    """The bilateral grid (as in `splat.training.appearance.apply_grid`) that does the same, locally; by Adam."""
    grid = torch.zeros(appearance.GRID, requires_grad=True)
    optimizer = torch.optim.Adam([grid], lr=1e-2)
    weight = torch.ones(rendered.shape[:2]) if use is None else use.float()
    for _ in range(steps):
        error = (appearance.apply_grid(rendered, grid) - photo).abs().mean(-1)
        loss = (weight * error).sum() / weight.sum().clamp_min(1)
        loss = loss + _GRID_SMOOTHNESS * appearance.total_variation(grid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return grid.detach()


def left_half(height: int, width: int) -> Tensor:
    """(H, W) bool: the left half."""
    return (torch.arange(width) < width // 2).expand(height, width)
