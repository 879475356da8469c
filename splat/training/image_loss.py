"""The photometric loss (1 − λ)·L1 + λ·(1 − SSIM) with its gradient, in one pass of the C++ core.

SSIM follows Wang et al. 2004: 11-tap Gaussian window, σ = 1.5, C₁ = 0.01², C₂ = 0.03², zeros outside the picture, mean
over pixels and channels. Pixels outside the mask are zeroed in both pictures and left out of every mean.
"""

import ctypes
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from splat import core

_POINTER, _INT64, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = [_POINTER, _POINTER, _POINTER, _INT64, _INT64, _FLOAT, _POINTER, _POINTER]


@dataclass(frozen=True)
class ImageLoss:
    """A rendering compared with a photo.

    Attributes:
        loss: (1 − λ)·l1 + λ·(1 − ssim).
        l1: mean absolute difference.
        ssim: mean structural similarity, 1 for equal pictures.
        mse: mean squared difference, with the rendering clamped to [0, 1].
        pixels: how many pixels count; without any, loss, l1 and mse are 0 and ssim is 1.
        grad: (H, W, 3) float32 ∂loss/∂rgb, 0 at masked pixels; None when not asked for.
    """

    loss: float
    l1: float
    ssim: float
    mse: float
    pixels: int
    grad: Tensor | None

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, dB."""
        return -10 * math.log10(max(self.mse, 1e-12))


def image_loss(
    rgb: Tensor, target: Tensor, mask: Tensor | None = None, ssim_weight: float = 0.2, gradient: bool = True
) -> ImageLoss:
    """Compare a rendering with a photo.

    Args:
        rgb: (H, W, 3) float32 rendering, contiguous, on the CPU.
        target: (H, W, 3) uint8 photo.
        mask: (H, W) bool, True where a pixel counts; None counts all.
        ssim_weight: λ.
        gradient: also compute ∂loss/∂rgb.

    Raises:
        ValueError: for shapes or dtypes other than these.
        BackendError: when the C++ core is not installed.
    """
    height, width = _check(rgb, target, mask)
    grad = torch.empty_like(rgb) if gradient else None
    result = (ctypes.c_double * 4)()
    core.function("splat_image_loss", _ARGUMENTS)(
        core.pointer(rgb, torch.float32),
        core.pointer(target, torch.uint8),
        core.pointer(mask, torch.bool),
        height,
        width,
        ssim_weight,
        core.pointer(grad),
        ctypes.addressof(result),
    )
    l1, ssim, mse, pixels = result
    return ImageLoss((1 - ssim_weight) * l1 + ssim_weight * (1 - ssim), l1, ssim, mse, int(pixels), grad)


def differentiable_image_loss(
    rgb: Tensor, target: Tensor, mask: Tensor | None = None, ssim_weight: float = 0.2
) -> tuple[Tensor, ImageLoss]:
    """The same loss as a scalar tensor that autograd can follow into ``rgb``, and its parts.

    For renderings that pass through an exposure or bilateral transform before they are compared.
    """
    parts = image_loss(rgb.detach().contiguous(), target, mask, ssim_weight, gradient=rgb.requires_grad)
    return _Loss.apply(rgb, parts), parts


class _Loss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, rgb: Tensor, parts: ImageLoss) -> Tensor:
        ctx.grad = parts.grad
        return rgb.new_tensor(parts.loss)

    @staticmethod
    def backward(ctx, upstream: Tensor) -> tuple[Tensor, None]:
        return ctx.grad * upstream, None


def _check(rgb: Tensor, target: Tensor, mask: Tensor | None) -> tuple[int, int]:
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb has shape {tuple(rgb.shape)}, expected (H, W, 3)")
    if target.shape != rgb.shape:
        raise ValueError(f"target has shape {tuple(target.shape)}, rgb has {tuple(rgb.shape)}")
    if mask is not None and mask.shape != rgb.shape[:2]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {tuple(rgb.shape[:2])}")
    return rgb.shape[0], rgb.shape[1]
