"""Values of the step that draws, pulls back and updates in one pass, the same for all backends that offer it."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


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
