"""`Survey`: what a strategy may look at beside its statistics, namely some training photos drawn as the run stands."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering import Backend
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions
from splat.sh_basis import C0
from splat.training.rng import generator
from splat.training.step_types import Shot

_WHITE = 0.5 / C0  # base colour that is drawn as 1: far from 0, where colours are clamped


@dataclass(frozen=True)
class Survey:
    """Access to the training photos at the size in use.

    Attributes:
        shots: the photo and camera of a training view by its number, as the steps of the moment see them.
        photos: how many there are.
        backend, options: how to draw.
        seed: of the run.
        form: a cloud in training as it is drawn.
    """

    shots: Callable[[int], Shot]
    photos: int
    backend: Backend
    options: RenderOptions
    seed: int
    form: Callable[[GaussianCloud], GaussianCloud]

    def sample(self, count: int, purpose: str, step: int) -> Iterator[Shot]:
        """``count`` different photos (or all), drawn by lot for ``purpose`` at ``step``."""
        order = torch.randperm(self.photos, generator=generator(self.seed, purpose, step))
        for index in order[:count].tolist():
            yield self.shots(index)

    def generator(self, purpose: str, step: int, number: int) -> torch.Generator:
        """Random numbers for ``purpose`` at ``step``, for the photo ``number`` of a sample."""
        return generator(self.seed, f"{purpose} {number}", step)

    def draw(self, cloud: GaussianCloud, shot: Shot) -> tuple[Rendering, Any]:
        """``cloud`` as ``shot``'s camera sees it, without sums of weights, and what the backward pass needs."""
        return self._forward(self.form(cloud), shot, self.options)

    def _forward(self, cloud: GaussianCloud, shot: Shot, options: RenderOptions) -> tuple[Rendering, Any]:
        return self.backend.forward(cloud, shot.camera, options)

    def slopes(self, context: Any, rgb: Tensor) -> CloudGradients:
        """Gradients of Σ (picture · ``rgb``) (H, W, 3) with respect to the tensors of the cloud as drawn."""
        return self.backend.backward(context, ImageGradients(rgb=rgb))

    def sums(self, cloud: GaussianCloud, shot: Shot, *pictures: Tensor) -> tuple[Tensor, ...]:
        """For each picture (H, W, 3), (N, 3) Σ over pixels of the blending weight αT of each Gaussian times the pixel.

        As the gradient with respect to the colours of the same cloud in white, so that any backend can do it.
        """
        white = self.form(cloud)
        white = white.replace(sh=torch.full_like(cloud.sh[:, :1], _WHITE))
        options = replace(self.options, sh_degree=0, background=(0.0, 0.0, 0.0))
        _, context = self._forward(white, shot, options)
        found = (self.backend.backward(context, ImageGradients(rgb=pixels)) for pixels in pictures)
        return tuple(gradients.sh[:, 0] / C0 for gradients in found)
