"""Values of the step that draws, pulls back and updates in one pass, the same for all backends that offer it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True)
class AdamHyper:
    """Settings of one Adam step.

    Attributes:
        step: number of this step, counted from 1, for the bias correction 1 − βᵗ.
        means, log_scales, quats, logit_opacities, sh_dc, sh_rest: learning rates.
        beta1, beta2, eps: Kingma & Ba 2015.
        visible_only: touch only rows with radii > 0, without bias correction (selective Adam, Mallick et al. 2024).
        opacity_reg: adds the gradient of λ·mean(sigmoid(logit_opacities)), over all rows.
        scale_reg: adds the gradient of λ·mean(exp(log_scales)), over all rows and axes.
    """

    step: int
    means: float
    log_scales: float
    quats: float
    logit_opacities: float
    sh_dc: float
    sh_rest: float
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15
    visible_only: bool = False
    opacity_reg: float = 0.0
    scale_reg: float = 0.0


@dataclass
class Statistics:
    """What densification strategies gather: (N,) float32 each, or None, added to in place for rows with radii > 0.

    Attributes:
        grad2d: += ‖∂L/∂(projected centre) · (W/2, H/2)‖, the gradient in normalised device coordinates.
        grad2d_abs: the same of the per-pixel absolute sums (AbsGS, Ye et al. 2024).
        count: += 1.
        max_radius: largest radius so far, pixels.
    """

    grad2d: Tensor | None = None
    grad2d_abs: Tensor | None = None
    count: Tensor | None = None
    max_radius: Tensor | None = None


class Moments(Protocol):
    """First and second moments by tensor name, float32 contiguous on the CPU, shapes of the cloud's tensors."""

    m: dict[str, Tensor]
    v: dict[str, Tensor]


@dataclass(frozen=True)
class StepResult:
    """What a fused step leaves besides the updated cloud.

    Attributes:
        pose: (4, 4) ∂L/∂world_to_camera, float32, last row zero.
        nonfinite: names of the tensors whose gradient was NaN or infinite in some row; those rows were not updated.
    """

    pose: Tensor
    nonfinite: tuple[str, ...]
