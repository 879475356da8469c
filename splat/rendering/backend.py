"""`Backend`: what a rasterizer must offer, and the test picture that shows whether it works on this machine."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.ops.adam import AdamHyper
from splat.rendering.fused_step import Moments, Statistics, StepResult
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions


class Forward(Protocol):
    """Rasterizes, without autograd; the second value is what the backward pass needs of this call."""

    def __call__(
        self, cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor | None = None
    ) -> tuple[Rendering, Any]: ...


class BackwardAdam(Protocol):
    """Backward pass and Adam step in one, in place on the cloud that was rendered, its moments and the statistics."""

    def __call__(
        self,
        context: Any,
        grads: ImageGradients,
        moments: Moments,
        hyper: AdamHyper,
        statistics: Statistics | None = None,
    ) -> StepResult: ...


@dataclass(frozen=True)
class Backend:
    """A rasterizer with its gradients.

    Attributes:
        name: as users choose it.
        device: where clouds in training live.
        check: None when the backend works here (found by rendering), else one sentence saying what is missing.
        forward: renders.
        backward: gradients of Σ (picture · its gradient) for the tensors of a `forward` call and ``world_to_camera``.
        backward_adam: the fused training step; None where gradients go through `splat.ops.adam` instead.
    """

    name: str
    device: torch.device
    check: Callable[[], str | None]
    forward: Forward
    backward: Callable[[Any, ImageGradients], CloudGradients]
    backward_adam: BackwardAdam | None = None


def probe(backend: Backend) -> str | None:
    """Render one Gaussian on the backend's device; None if the middle pixel is right, else what was found there."""
    eye = torch.eye(4, dtype=torch.float64)
    camera = Camera(20.0, 20.0, 8.5, 8.5, 17, 17, eye)
    cloud = GaussianCloud(
        means=torch.tensor([[0.0, 0.0, 2.0]]),
        log_scales=torch.full((1, 3), -1.0),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
        logit_opacities=torch.zeros(1),
        sh=torch.ones(1, 1, 3),
    )
    rendering, _ = backend.forward(cloud.to(backend.device), camera, RenderOptions())
    alpha = float(rendering.alpha[8, 8])
    return None if abs(alpha - 0.5) < 1e-3 else f"it drew a test Gaussian with alpha {alpha:.4f}, expected 0.5"
