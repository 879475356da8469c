"""The look of a photo (exposure, white balance, tone) fitted to a cloud after training, from all or a part of it.

The protocol of Martin-Brualla et al. ("NeRF in the Wild", CVPR 2021): fitted on one half of a held-out photo, judged on
the other. It also gives a whole scene the look of any reference photo.
"""

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import RenderOptions, reference, render
from splat.training.hooks.appearance_features import APPEARANCE_FEATURES, SH_C0
from splat.training.per_photo import bilateral_grid

_GRID_SMOOTHNESS = 10.0
_RIDGE = 1e-3  # pull of the affine transform towards the identity, against the mean square of what it is fitted on


def fit_exposure(rendered: Tensor, photo: Tensor, use: Tensor | None = None) -> Tensor:
    """(3, 4) exposure (as in `splat.training.per_photo.exposure.expose`) that makes ``rendered`` look like ``photo``.

    Args:
        rendered, photo: (H, W, 3) in [0, 1].
        use: (H, W) bool, pixels to fit on.

    Least squares, reweighted so that the tenth of the pixels that fit worst (occluders) does not count.
    """
    pixels = torch.ones(rendered.shape[:2], dtype=torch.bool) if use is None else use
    x, y = rendered[pixels].double(), photo[pixels].double()
    if len(x) < 16:
        return torch.zeros(3, 4)
    return _robust(torch.cat([x, torch.ones_like(x[:, :1])], 1), y, x).T.float()


def fit_grid(rendered: Tensor, photo: Tensor, use: Tensor | None = None, steps: int = 200) -> Tensor:
    """The bilateral grid (as in `splat.training.per_photo.bilateral_grid.apply_grid`) that does so locally; by Adam."""
    grid = torch.zeros(bilateral_grid.GRID, requires_grad=True)
    optimizer = torch.optim.Adam([grid], lr=1e-2)
    weight = torch.ones(rendered.shape[:2]) if use is None else use.float()
    for _ in range(steps):
        error = (bilateral_grid.apply_grid(rendered, grid) - photo).abs().mean(-1)
        loss = (weight * error).sum() / weight.sum().clamp_min(1)
        loss = loss + _GRID_SMOOTHNESS * bilateral_grid.total_variation(grid)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return grid.detach()


def fit_transforms(
    cloud: GaussianCloud,
    camera: Camera,
    photo: Tensor,
    use: Tensor | None = None,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    backend: str = "auto",
) -> tuple[Tensor, tuple[float, float, float]]:
    """What makes a trained cloud look like ``photo``: transforms, and the colour behind it.

    Args:
        cloud: with the column of features that training with ``appearance.features`` leaves.
        camera: of the photo.
        photo: (H, W, 3) in [0, 1].
        use: (H, W) bool, pixels to fit on.
        background: behind the cloud as it was trained.

    Returns:
        (F + 1, 3, 4) transforms for `splat.training.hooks.appearance_features.apply_appearance`, and red, green and
        blue to draw it on.

    A picture is linear in both, so this is the least squares of `fit_exposure` on pictures of all Gaussians' features
    and of their products with the colour.
    """
    pose = camera.world_to_camera.to(cloud.means)
    colours = reference.colours(cloud, pose[:3, :3], pose[:3, 3], RenderOptions())
    features = torch.cat([torch.ones_like(colours[:, :1]), cloud.extras[APPEARANCE_FEATURES]], 1)
    values = torch.cat([colours, torch.ones_like(colours[:, :1])], 1)
    columns = (features[:, :, None] * values[:, None, :]).flatten(1)
    pixels = torch.ones(photo.shape[:2], dtype=torch.bool) if use is None else use
    plain = render(cloud, camera, backend, background=background)
    behind = 1 - plain.alpha.cpu()[pixels].double()
    rows = torch.cat([_blended(cloud, columns, camera, backend)[pixels].double(), behind[:, None]], 1)
    found = _robust(rows, photo[pixels].double(), plain.rgb.cpu()[pixels].double()).float()
    red, green, blue = (found[-1] + torch.tensor(background)).clamp(0, 1).tolist()
    return found[:-1].reshape(-1, 4, 3).permute(0, 2, 1), (red, green, blue)


def _blended(cloud: GaussianCloud, columns: Tensor, camera: Camera, backend: str) -> Tensor:
    """(H, W, C) sums of ``columns`` (N, C) with the weights of blending."""
    pictures = []
    for block in columns.split(3, 1):
        width = block.shape[1]
        block = torch.nn.functional.pad(block, (0, 3 - width))
        least, most = block.min(), block.max()
        span = (most - least).clamp_min(1e-12)
        sh = ((block - least) / span - 0.5)[:, None] / SH_C0  # colours from 0 to 1, which no renderer clamps
        seen = render(cloud.replace(sh=sh, extras={}), camera, backend)
        pictures.append((seen.rgb * span + seen.alpha[..., None] * least).cpu()[..., :width])
    return torch.cat(pictures, -1)


def _robust(rows: Tensor, target: Tensor, rendered: Tensor) -> Tensor:
    """(C, 3) X with ``rows`` X + ``rendered`` ≈ ``target``; the tenth that fits worst (occluders) does not count."""
    good = torch.ones(len(rows), dtype=torch.bool)
    change = rows.new_zeros(rows.shape[1], 3)
    for _ in range(3):
        used = rows[good]
        if len(used) < 4 * rows.shape[1]:
            break
        ridge = _RIDGE * len(used) * torch.eye(rows.shape[1], dtype=torch.float64)
        change = torch.linalg.solve(used.T @ used + ridge, used.T @ (target - rendered)[good])
        error = (rows @ change + rendered - target).abs().sum(1)
        good = error <= error.quantile(0.9) if len(error) < 10_000_000 else good
    return change


def left_half(height: int, width: int) -> Tensor:
    """(H, W) bool: the left half."""
    return (torch.arange(width) < width // 2).expand(height, width)
