"""What a training picture should look like: the loss of one rendering and its gradients.

The path of every run is one fused kernel on the rendered picture. Corrections of colour and the depth term are small
autograd graphs on the picture, built only when they are switched on.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from splat.ops.photometric_loss import ImageLoss, image_loss
from splat.rendering.types import ImageGradients, Rendering
from splat.scene.images import Photo
from splat.training.config.config import TrainConfig
from splat.training.losses.sparse_depth import disparity_loss
from splat.training.per_photo import bilateral_grid
from splat.training.per_photo.corrections import EXPOSURES, GRIDS, corrected
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

SSIM_WEIGHT = 0.2  # λ of Kerbl et al. 2023


class Comparison(Protocol):
    """The two numbers of a comparison of pictures; reading them may wait for a GPU."""

    @property
    def loss(self) -> float: ...

    @property
    def mse(self) -> float: ...


@dataclass(frozen=True)
class PictureLoss:
    """What a loss says of one rendering. It computes; the `Fitter` steps.

    Attributes:
        picture: the comparison of the rendering with the view, such as an `ImageLoss`.
        penalties: what was minimised beside it, except the regularisers of the cloud.
        gradients: of ``loss`` with respect to the rendering.
        photo_gradients: of ``loss`` with respect to `TrainingView.photo_parameters`, by name.
    """

    picture: Comparison
    penalties: float
    gradients: ImageGradients
    photo_gradients: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def loss(self) -> float:
        """Everything that was minimised, except the regularisers of the cloud."""
        return self.picture.loss + self.penalties

    @property
    def mse(self) -> float:
        """Mean squared error of the picture, from which PSNR follows."""
        return self.picture.mse


Loss = Callable[[Rendering, TrainingView, StepContext], PictureLoss]
"""What a `Fitter` minimises: the loss of a rendering against a view, with its gradients."""


def photometric(rendering: Rendering, view: TrainingView, context: StepContext | None = None) -> PictureLoss:
    """0.8 · L1 + 0.2 · (1 − SSIM) against the photo, where its mask counts: the loss of Kerbl et al. 2023."""
    comparison = compare(rendering.rgb, composite(view.photo, view.background), view.photo.mask, SSIM_WEIGHT)
    return PictureLoss(comparison, 0.0, ImageGradients(rgb=comparison.grad))


def training_loss(config: TrainConfig, depth_weight: float = 0.0) -> Loss:
    """The loss that ``config`` asks for: photometric, after the photo's colour corrections, and of known depth."""

    def loss(rendering: Rendering, view: TrainingView, context: StepContext) -> PictureLoss:
        result = _corrected_loss(rendering.rgb, view, config)
        if view.points is None or rendering.depth is None:
            return result
        depth = rendering.depth.detach().requires_grad_()
        error = disparity_loss(depth, view.camera, view.points, view.pixels, view.photo.mask)
        error = depth_weight * context.extent * error
        (gradient,) = torch.autograd.grad(error, depth)
        gradients = ImageGradients(rgb=result.gradients.rgb, depth=gradient)
        return PictureLoss(result.picture, result.penalties + float(error.detach()), gradients, result.photo_gradients)

    return loss


def _corrected_loss(rgb: Tensor, view: TrainingView, config: TrainConfig) -> PictureLoss:
    """The loss of ``rgb`` after the photo's colour corrections, with the smoothness of its bilateral grid."""
    target, mask = composite(view.photo, view.background), view.photo.mask
    leaves = {name: view.photo_parameters[name] for name in (GRIDS, EXPOSURES) if name in view.photo_parameters}
    if not leaves:
        comparison = compare(rgb, target, mask, config.loss.ssim)
        return PictureLoss(comparison, 0.0, ImageGradients(rgb=comparison.grad))
    leaf = rgb.detach().requires_grad_()
    picture, penalty = corrected(leaf, view), leaf.new_zeros(())
    if GRIDS in leaves:
        penalty = bilateral_grid.SMOOTHNESS * bilateral_grid.total_variation(leaves[GRIDS])
    comparison = compare(picture.detach().contiguous(), target, mask, config.loss.ssim)
    total = (picture * comparison.grad).sum() + penalty
    gradient, *of_leaves = torch.autograd.grad(total, [leaf, *leaves.values()])
    if not math.isfinite(comparison.loss):  # the trainer stops on it; the corrections stay as they were
        return PictureLoss(comparison, 0.0, ImageGradients(rgb=gradient))
    photo_gradients = dict(zip(leaves, of_leaves, strict=True))
    return PictureLoss(comparison, float(penalty.detach()), ImageGradients(rgb=gradient), photo_gradients)


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
    mixed = photo.rgb * weight
    for channel, value in enumerate((255 * torch.tensor(background)).tolist()):  # as numbers: no copy to a GPU
        mixed[..., channel] += value * (1 - weight[..., 0])
    return mixed.add_(0.5).clamp_(0, 255).to(torch.uint8)
