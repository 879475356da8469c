"""The training step's other kernels on a GPU: picture loss, Adam on whole tensors, MCMC noise and relocation.

The same functions for main memory, and the equations, are in `photometric_loss`, `adam` and `mcmc`.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.native import cuda_launcher
from splat.native import cuda_structs as arguments
from splat.native.cuda_launcher import blocks_for
from splat.native.cuda_structs import DOUBLE, FLOAT, INT, U64, fill, pointers, structure

NONE_BAD = 2**31 - 1  # what `adam_rows` reports when all rows are finite
MAX_WIDTH = 256  # values per row that `adam_rows` takes
TILE = 16

# As in cuda/image_loss.cu, cuda/adam.cu and cuda/mcmc.cu.
_Comparison = structure(
    "Comparison", **pointers("rgb", "target", "mask"), height=INT, width=INT, ssim_weight=FLOAT,
    **pointers("slopes", "grad", "sums"),
)  # fmt: skip
_Rows = structure(
    "Rows", **pointers("p", "m", "v", "g", "visible"), rows=INT, width=INT, head=INT, head_rate=FLOAT, tail_rate=FLOAT,
    adam=arguments.Adam, regulariser=INT, weight=FLOAT, **pointers("first_bad"),
)  # fmt: skip
_Noise = structure(
    "Noise", **pointers("means", "log_scales", "quats", "logits"), n=INT, min_opacity=FLOAT, strength=FLOAT,
    seed=U64, step=U64,
)  # fmt: skip
_Relocation = structure(
    "Relocation", **pointers("logits", "log_scales", "ratios"), n=INT, min_opacity=DOUBLE,
    **pointers("new_logits", "new_log_scales"),
)  # fmt: skip


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


@dataclass(frozen=True)
class RowRates:
    """Learning rates of a (rows, width) tensor: of its first ``head`` columns, and of the others."""

    head: int
    head_rate: float
    tail_rate: float


def adam_rows(
    tensor: Tensor,
    moments: tuple[Tensor, Tensor],
    gradient: Tensor,
    rates: RowRates,
    constants: arguments.Adam,
    visible: Tensor | None = None,
    regulariser: int = 0,
    weight: float = 0.0,
) -> Tensor:
    """One Adam step in place on a tensor (N, …) of up to 256 values per row; rows that are not finite are left alone.

    Args:
        moments: first and second, of the tensor's shape.
        constants: from `splat.native.cuda_structs.adam`.
        visible: (N,) bool, rows to touch; None touches all.
        regulariser: 0 none; 1 adds weight · ∂Σ sigmoid(tensor), 2 adds weight · ∂Σ exp(tensor) to the gradient.

    Returns:
        (1,) int32 on the GPU: the first row whose gradient is not finite, 2³¹ − 1 if there is none.
    """
    rows = len(tensor)
    first_bad = torch.full((1,), NONE_BAD, dtype=torch.int32, device=tensor.device)
    if tensor.numel() == 0:
        return first_bad
    width, threads = tensor.numel() // rows, MAX_WIDTH
    gradient = gradient.contiguous()
    step = fill(
        _Rows, p=tensor, m=moments[0], v=moments[1], g=gradient,
        visible=None if visible is None else (visible, torch.bool), first_bad=(first_bad, torch.int32),
    )  # fmt: skip
    step.rows, step.width, step.regulariser, step.weight = rows, width, regulariser, weight
    step.head, step.head_rate, step.tail_rate, step.adam = rates.head, rates.head_rate, rates.tail_rate, constants
    cuda_launcher.launcher(tensor.device).launch("adam", "adam_rows", blocks_for(rows, threads // width), threads, step)
    return first_bad


def mcmc_noise(cloud: GaussianCloud, strength: float, seed: int, step: int, min_opacity: float) -> None:
    """`splat.ops.mcmc.add_noise` for a float32 cloud on a GPU, with the same random numbers."""
    noise = fill(
        _Noise, means=cloud.means, log_scales=cloud.log_scales, quats=cloud.quats, logits=cloud.logit_opacities
    )
    noise.n, noise.min_opacity, noise.strength = len(cloud), min_opacity, strength
    noise.seed, noise.step = seed % 2**64, step % 2**64
    cuda_launcher.launcher(cloud.device).launch("mcmc", "mcmc_noise", blocks_for(len(cloud), 128), 128, noise)


def mcmc_relocate(
    logit_opacities: Tensor, log_scales: Tensor, ratios: Tensor, min_opacity: float
) -> tuple[Tensor, Tensor]:
    """`splat.ops.mcmc.relocate` for float32 tensors on a GPU."""
    logits, scales = logit_opacities.detach().contiguous(), log_scales.detach().contiguous()
    counts = ratios.to(logits.device, torch.int64).contiguous()
    new_logits, new_scales = torch.empty_like(logits), torch.empty_like(scales)
    relocation = fill(
        _Relocation, logits=logits, log_scales=scales, ratios=(counts, torch.int64), new_logits=new_logits,
        new_log_scales=new_scales,
    )  # fmt: skip
    relocation.n, relocation.min_opacity = len(logits), min_opacity
    cuda_launcher.launcher(logits.device).launch("mcmc", "mcmc_relocate", blocks_for(len(logits), 128), 128, relocation)
    return new_logits, new_scales
