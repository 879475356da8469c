"""`ViewSampler`: training views, rendered as the run stands, for strategies and hooks to look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions
from splat.training.rng import generator
from splat.training.training_view import TrainingView

_WHITE = 0.5 / 0.28209479177387814  # base colour that is drawn as 1: far from 0, where colours are clamped


@dataclass(frozen=True)
class ViewSampler:
    """Access to the training photos at the size in use.

    Attributes:
        view_at: a training view by its number, as steps see it now.
        photos: how many there are.
        backend, options: how to draw.
        seed: of the run.
        deform: a cloud in training as it is rendered.
    """

    view_at: Callable[[int], TrainingView]
    photos: int
    backend: ModuleType
    options: RenderOptions
    seed: int
    deform: Callable[[GaussianCloud], GaussianCloud]

    def sample(self, count: int, purpose: str, step: int) -> Iterator[TrainingView]:
        """``count`` different photos (or all), drawn at random for ``purpose`` at ``step``."""
        order = torch.randperm(self.photos, generator=generator(self.seed, purpose, step))
        for index in order[:count].tolist():
            yield self.view_at(index)

    def generator(self, purpose: str, step: int, number: int) -> torch.Generator:
        """Random numbers for ``purpose`` at ``step``, for the photo ``number`` of a sample."""
        return generator(self.seed, f"{purpose} {number}", step)

    def render(self, cloud: GaussianCloud, view: TrainingView) -> tuple[Rendering, Any]:
        """``cloud`` as ``view``'s camera sees it, without sums of weights, and what the backward pass needs."""
        return self._forward(self.deform(cloud), view, self.options)

    def _forward(self, cloud: GaussianCloud, view: TrainingView, options: RenderOptions) -> tuple[Rendering, Any]:
        spared = {"weights": False} if hasattr(self.backend, "backward_adam") else {}
        return self.backend.forward(cloud, view.camera, options, **spared)

    def backward(self, context: Any, rgb: Tensor) -> CloudGradients:
        """Gradients of Σ (picture · ``rgb``) (H, W, 3) with respect to the tensors of the cloud as drawn."""
        return self.backend.backward(context, ImageGradients(rgb=rgb))

    def weighted_sums(self, cloud: GaussianCloud, view: TrainingView, *pictures: Tensor) -> tuple[Tensor, ...]:
        """For each picture (H, W, 3), (N, 3) Σ over pixels of the blending weight αT of each Gaussian times the pixel.

        As the gradient with respect to the colours of the same cloud in white, so that any backend can do it.
        """
        white = self.deform(cloud)
        white = white.replace(sh=torch.full_like(cloud.sh[:, :1], _WHITE))
        options = replace(self.options, sh_degree=0, background=(0.0, 0.0, 0.0))
        _, context = self._forward(white, view, options)
        results = (self.backend.backward(context, ImageGradients(rgb=pixels)) for pixels in pictures)
        return tuple(gradients.sh[:, 0] / 0.28209479177387814 for gradients in results)
