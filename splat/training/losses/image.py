"""What a training picture should look like: the loss of one rendering and its gradients.

The path of every run is one fused kernel on the rendered picture. Corrections of colour and the depth term are small
autograd graphs on the picture, built only when they are switched on.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.ops.photometric_loss import ImageLoss, image_loss
from splat.rendering.types import ImageGradients, Rendering
from splat.scene.images import Photo
from splat.training.config.config import TrainConfig
from splat.training.losses.sparse_depth import disparity_loss
from splat.training.per_photo import bilateral_grid as grid_model
from splat.training.per_photo import exposure as appearance
from splat.training.per_photo.parameters import PhotoParameters
from splat.training.step_types import Shot, When


@dataclass(frozen=True)
class PictureLoss:
    """Attributes:
    picture: the comparison of the picture with the photo; reading its numbers waits for a GPU.
    penalties: what was minimised beside it, except the regularisers of the cloud.
    gradients: of ``loss`` with respect to the rendering.
    """

    picture: ImageLoss
    penalties: float
    gradients: ImageGradients

    @property
    def loss(self) -> float:
        """Everything that was minimised, except the regularisers of the cloud."""
        return self.picture.loss + self.penalties

    @property
    def mse(self) -> float:
        """Mean squared error of the picture, from which PSNR follows."""
        return self.picture.mse


@dataclass
class Corrections:
    """The per-photo colour corrections in use; None where one is switched off."""

    exposures: PhotoParameters | None
    grids: PhotoParameters | None

    @staticmethod
    def of(config: TrainConfig, photos: int, device: torch.device | str = "cpu") -> "Corrections":
        """Neutral corrections for ``photos`` photos."""
        on = config.appearance
        exposures = PhotoParameters(photos, 3, 4).to(device) if on.exposure else None
        grids = PhotoParameters(photos, *grid_model.GRID).to(device) if on.bilateral_grid else None
        return Corrections(exposures, grids)


def picture_loss(
    rendering: Rendering, shot: Shot, config: TrainConfig, corrections: Corrections, when: When
) -> PictureLoss:
    """Loss of ``rendering`` against the photo; also lets the photo's corrections make one step of their own."""
    target = composite(shot.photo, shot.background)
    if shot.index is None or (corrections.exposures is None and corrections.grids is None):
        found = compare(rendering.rgb, target, shot.photo.mask, config.loss.ssim)
        penalties, gradient = 0.0, found.grad
    else:
        found, penalties, gradient = _corrected(rendering.rgb, target, shot, config, corrections, when)
    depth_gradient = None
    if shot.points is not None and rendering.depth is not None:
        depth = rendering.depth.detach().requires_grad_()
        error = disparity_loss(depth, shot.camera, shot.points, shot.pixels, shot.photo.mask)
        error = config.loss.depth * when.extent * error
        error.backward()
        penalties, depth_gradient = penalties + float(error.detach()), depth.grad
    return PictureLoss(found, penalties, ImageGradients(rgb=gradient, depth=depth_gradient))


def _corrected(
    rgb: Tensor, target: Tensor, shot: Shot, config: TrainConfig, corrections: Corrections, when: When
) -> tuple[ImageLoss, float, Tensor]:
    """The loss of the corrected picture, what was added to it, and the gradient with respect to the uncorrected one."""
    look = config.appearance
    leaf = rgb.detach().requires_grad_()
    picture, penalty = leaf, leaf.new_zeros(())
    grid = exposure = None
    if corrections.grids is not None:
        grid = corrections.grids.row(shot.index)
        picture = grid_model.apply_grid(picture, grid)
        penalty = grid_model.SMOOTHNESS * grid_model.total_variation(grid)
    if corrections.exposures is not None:
        exposure = corrections.exposures.row(shot.index)
        picture = appearance.expose(picture, exposure)
    found = compare(picture.detach().contiguous(), target, shot.photo.mask, config.loss.ssim)
    ((picture * found.grad).sum() + penalty).backward()
    if not math.isfinite(found.loss):  # the trainer stops on it; the corrections stay as they were
        return found, 0.0, leaf.grad
    if grid is not None:
        rate = grid_model.grid_rate(when.step, when.fraction)
        corrections.grids.step(shot.index, grid, rate)
    if exposure is not None:
        corrections.exposures.step(shot.index, exposure, look.exposure_rate * 0.1**when.fraction)
    return found, float(penalty.detach()), leaf.grad


def compare(rgb: Tensor, target: Tensor, mask: Tensor | None, ssim_weight: float) -> ImageLoss:
    """(1 − λ)·L1 + λ·(1 − SSIM) with its gradient, on the device of ``rgb``.

    Args and result as in `splat.ops.photometric_loss.image_loss`; ``target`` and ``mask`` may be on another device.
    """
    mask = None if mask is None else mask.to(rgb.device)
    return image_loss(rgb, target.to(rgb.device, non_blocking=True), mask, ssim_weight)


def composite(photo: Photo, background: tuple[float, float, float]) -> Tensor:
    """(H, W, 3) uint8 picture to compare with: the photo, on ``background`` where it is transparent by design."""
    if photo.alpha is None:
        return photo.rgb
    weight = photo.alpha[..., None].to(torch.float32) / 255
    mixed = photo.rgb * weight + 255 * torch.tensor(background, device=weight.device) * (1 - weight)
    return mixed.add_(0.5).clamp_(0, 255).to(torch.uint8)
