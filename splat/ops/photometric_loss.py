"""The photometric loss (1 − λ)·L1 + λ·(1 − SSIM) with its gradient, in one pass of the C++ core.

SSIM follows Wang et al. 2004: 11-tap Gaussian window, σ = 1.5, C₁ = 0.01², C₂ = 0.03², zeros outside the picture, mean
over pixels and channels. Pixels outside the mask are zeroed in both pictures and left out of every mean.
"""

import ctypes
import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from splat.native import cpu_library, cuda_launcher
from splat.native.cuda_launcher import blocks_for
from splat.native.cuda_structs import FLOAT, INT, fill, pointers, structure

TILE = 16
# As in cuda/image_loss.cu, cuda/adam.cu and cuda/mcmc.cu.
_Comparison = structure(
    "Comparison", **pointers("rgb", "target", "mask"), height=INT, width=INT, ssim_weight=FLOAT,
    **pointers("slopes", "grad", "sums"),
)  # fmt: skip


_POINTER, _INT64, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_C1, _C2 = 0.01**2, 0.03**2
_ARGUMENTS = [_POINTER, _POINTER, _POINTER, _INT64, _INT64, _FLOAT, _POINTER, _POINTER]


@dataclass(frozen=True)
class ImageLoss:
    """A rendering compared with a photo.

    The numbers stay where they were computed until one of them is read, so that a GPU is not waited for.

    Attributes:
        values: (4,) l1, ssim, mse and the number of pixels that count, on the device of the rendering.
        ssim_weight: λ.
        grad: (H, W, 3) float32 ∂loss/∂rgb, 0 at masked pixels; None when not asked for.
    """

    values: Tensor
    ssim_weight: float
    grad: Tensor | None

    @functools.cached_property
    def _numbers(self) -> list[float]:
        return self.values.tolist()

    @property
    def l1(self) -> float:
        """Mean absolute difference; 0 where no pixel counts."""
        return self._numbers[0]

    @property
    def ssim(self) -> float:
        """Mean structural similarity, 1 for equal pictures and where no pixel counts."""
        return self._numbers[1]

    @property
    def mse(self) -> float:
        """Mean squared difference, with the rendering clamped to [0, 1]; 0 where no pixel counts."""
        return self._numbers[2]

    @property
    def pixels(self) -> int:
        """How many pixels count."""
        return int(self._numbers[3])

    @property
    def loss(self) -> float:
        """(1 − λ)·l1 + λ·(1 − ssim)."""
        return (1 - self.ssim_weight) * self.l1 + self.ssim_weight * (1 - self.ssim)

    @property
    def psnr(self) -> float:
        """Peak signal-to-noise ratio, dB; infinite for equal pictures, NaN where no pixel counts."""
        if self.pixels == 0:
            return math.nan
        return -10 * math.log10(self.mse) if self.mse > 0 else math.inf


def image_loss(
    rgb: Tensor, target: Tensor, mask: Tensor | None = None, ssim_weight: float = 0.2, gradient: bool = True
) -> ImageLoss:
    """Compare a rendering with a photo.

    Args:
        rgb: (H, W, 3) float32 rendering, contiguous; on the CPU, on a GPU (kernels of ``cuda/`` where NVRTC is at
            hand) or elsewhere (the same equations in PyTorch).
        target: (H, W, 3) uint8 photo, on the same device.
        mask: (H, W) bool, True where a pixel counts; None counts all.
        ssim_weight: λ.
        gradient: also compute ∂loss/∂rgb.

    Raises:
        ValueError: for shapes or dtypes other than these.
        BackendError: when the C++ core is not installed.
    """
    height, width = _check(rgb, target, mask)
    if not 0 <= ssim_weight <= 1:
        raise ValueError(f"ssim_weight is {ssim_weight}, expected a number from 0 to 1")
    if cuda_launcher.runs_on(rgb):
        return _loss_gpu(rgb, target, mask, ssim_weight, gradient)
    if rgb.device.type != "cpu":
        return _loss_torch(rgb, target, mask, ssim_weight, gradient)
    grad = torch.empty_like(rgb) if gradient else None
    result = (ctypes.c_double * 4)()
    status = cpu_library.function("splat_image_loss", _ARGUMENTS, ctypes.c_int32)(
        cpu_library.pointer(rgb, torch.float32),
        cpu_library.pointer(target, torch.uint8),
        cpu_library.pointer(mask, torch.bool),
        height,
        width,
        ssim_weight,
        cpu_library.pointer(grad),
        ctypes.addressof(result),
    )
    cpu_library.raise_for(status, "comparing pictures")
    return ImageLoss(torch.tensor(list(result), dtype=torch.float64), ssim_weight, grad)


def _loss_gpu(rgb: Tensor, target: Tensor, mask: Tensor | None, ssim_weight: float, gradient: bool) -> ImageLoss:
    """`image_loss` by the CUDA kernels."""
    sums, grad = compare_images(rgb, target, mask, ssim_weight, gradient)
    pixels = sums[3]
    l1, ssim, mse = (sums[:3] / (3 * pixels).clamp_min(1)).unbind()
    ssim = torch.where(pixels > 0, ssim, torch.ones_like(ssim))
    return ImageLoss(torch.stack([l1, ssim, mse, pixels]), ssim_weight, grad)


def _loss_torch(rgb: Tensor, target: Tensor, mask: Tensor | None, ssim_weight: float, gradient: bool) -> ImageLoss:
    """`image_loss` in PyTorch, on any device and in the dtype of ``rgb``."""
    offsets = torch.arange(-5, 6, device=rgb.device, dtype=rgb.dtype)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = (line / line.sum()).expand(3, 1, 1, 11)

    def blur(image: Tensor) -> Tensor:
        channels = conv2d(image.permute(2, 0, 1)[None], line, padding=(0, 5), groups=3)
        return conv2d(channels, line.transpose(2, 3), padding=(5, 0), groups=3)[0].permute(1, 2, 0)

    valid = torch.ones(rgb.shape[:2], dtype=torch.bool, device=rgb.device) if mask is None else mask
    pixels = int(valid.sum())
    if pixels == 0:
        return ImageLoss(rgb.new_tensor([0, 1, 0, 0]), ssim_weight, torch.zeros_like(rgb) if gradient else None)
    with torch.enable_grad():
        leaf = rgb.detach().requires_grad_()
        x = torch.where(valid[..., None], leaf, torch.zeros_like(leaf))
        y = target.to(rgb.dtype) / 255 * valid[..., None]
        mx, my, mixed = blur(x), blur(y), blur(x * y)
        covariance, variances = mixed - mx * my, blur(x * x + y * y) - mx**2 - my**2
        similar = (2 * mx * my + _C1) * (2 * covariance + _C2) / ((mx**2 + my**2 + _C1) * (variances + _C2))
        l1, ssim = (x - y).abs()[valid].mean(), similar[valid].mean()
        loss = (1 - ssim_weight) * l1 + ssim_weight * (1 - ssim)
        grad = torch.autograd.grad(loss, leaf)[0] if gradient else None
    mse = ((x.detach().clamp(0, 1) - y) ** 2)[valid].mean()
    values = torch.stack([l1.detach(), ssim.detach(), mse, mse.new_tensor(pixels)]).to(torch.float64)
    return ImageLoss(values, ssim_weight, grad)


def _check(rgb: Tensor, target: Tensor, mask: Tensor | None) -> tuple[int, int]:
    if rgb.ndim != 3 or rgb.shape[2] != 3:
        raise ValueError(f"rgb has shape {tuple(rgb.shape)}, expected (H, W, 3)")
    if target.shape != rgb.shape:
        raise ValueError(f"target has shape {tuple(target.shape)}, rgb has {tuple(rgb.shape)}")
    if mask is not None and mask.shape != rgb.shape[:2]:
        raise ValueError(f"mask has shape {tuple(mask.shape)}, expected {tuple(rgb.shape[:2])}")
    for name, tensor in (("rgb", rgb), ("target", target), ("mask", mask)):
        if tensor is not None and (tensor.is_meta or tensor.device != rgb.device):
            raise ValueError(f"{name} is on {tensor.device}, expected memory on the device of rgb, {rgb.device}")
    if not rgb.is_floating_point() or target.dtype != torch.uint8 or (mask is not None and mask.dtype != torch.bool):
        found = [tensor.dtype for tensor in (rgb, target, mask) if tensor is not None]
        raise ValueError(f"rgb, target and mask are of {found}, expected float32, uint8 and bool")
    return rgb.shape[0], rgb.shape[1]


def compare_images(
    rgb: Tensor, target: Tensor, mask: Tensor | None, ssim_weight: float, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """Sums behind the loss (1 − λ)·L1 + λ·(1 − SSIM), and its gradient. Does not wait for the GPU.

    Args:
        rgb: (H, W, 3) float32 rendering.
        target: (H, W, 3) uint8 photo.
        mask: (H, W) bool, True where a pixel counts; None counts all.
        ssim_weight: λ.

    Returns:
        (4,) float64: Σ|x − y|, Σ SSIM, Σ(x clamped − y)² over pixels and channels, and the number of pixels; and the
        gradient (H, W, 3), None when not asked for.
    """
    height, width = rgb.shape[:2]
    rgb = rgb.detach().contiguous()
    target = target.to(rgb.device).contiguous()
    sums = torch.zeros(4, dtype=torch.float64, device=rgb.device)
    if mask is None:
        sums[3] = height * width
    else:
        mask = mask.to(rgb.device).contiguous()
        sums[3] = mask.sum()
    slopes = torch.empty(3, 3, height, width, device=rgb.device) if gradient else None
    grad = torch.empty_like(rgb) if gradient else None
    comparison = fill(
        _Comparison, rgb=rgb, target=(target, torch.uint8), mask=None if mask is None else (mask, torch.bool),
        slopes=slopes, grad=grad, sums=(sums, torch.float64),
    )  # fmt: skip
    comparison.height, comparison.width, comparison.ssim_weight = height, width, ssim_weight
    blocks = blocks_for(width, TILE) * blocks_for(height, TILE)
    run = cuda_launcher.launcher(rgb.device).launch
    run("image_loss", "compare_images", blocks, TILE * TILE, comparison)
    if gradient:
        run("image_loss", "compare_images_backward", blocks, TILE * TILE, comparison)
    return sums, grad
