"""`ViewSampler`: training views, rendered as the run stands, for strategies and hooks to look at."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering import Backend
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions
from splat.sh_basis import C0
from splat.training.frozen import of_first_rows, with_frozen
from splat.training.rng import generator
from splat.training.training_view import TrainingView

_WHITE = 0.5 / C0  # base colour that is drawn as 1: far from 0, where colours are clamped


@dataclass(frozen=True)
class ViewSampler:
    """Access to the training photos at the size in use.

    Attributes:
        view_at: a training view by its number, as steps see it now.
        photos: how many there are.
        backend, options: how to draw.
        seed: of the run.
        deform: a cloud in training as it is rendered.
        frozen: Gaussians that are drawn with it and stay as they are.
    """

    view_at: Callable[[int], TrainingView]
    photos: int
    backend: Backend
    options: RenderOptions
    seed: int
    deform: Callable[[GaussianCloud], GaussianCloud]
    frozen: GaussianCloud | None = None

    def sample(self, count: int, purpose: str, step: int) -> Iterator[TrainingView]:
        """``count`` different photos (or all), drawn at random for ``purpose`` at ``step``."""
        order = torch.randperm(self.photos, generator=generator(self.seed, purpose, step))
        for index in order[:count].tolist():
            yield self.view_at(index)

    def generator(self, purpose: str, step: int, number: int) -> torch.Generator:
        """Random numbers for ``purpose`` at ``step``, for the photo ``number`` of a sample."""
        return generator(self.seed, f"{purpose} {number}", step)

    def render(self, cloud: GaussianCloud, view: TrainingView) -> tuple[Rendering, Any]:
        """``cloud`` as ``view``'s camera sees it, without sums of weights, and what the backward pass needs.

        Frozen Gaussians are in the picture, but not among the rows.
        """
        return self._forward(self.deform(cloud), view, self.options)

    def _forward(self, cloud: GaussianCloud, view: TrainingView, options: RenderOptions) -> tuple[Rendering, Any]:
        rendering, context = self.backend.forward(with_frozen(cloud, self.frozen), view.camera, options)
        return of_first_rows(rendering, len(cloud)), (context, len(cloud))

    def backward(self, context: Any, rgb: Tensor) -> CloudGradients:
        """Gradients of Σ (picture · ``rgb``) (H, W, 3) with respect to the tensors of the cloud as drawn."""
        inner, rows = context
        return of_first_rows(self.backend.backward(inner, ImageGradients(rgb=rgb)), rows)

    def weighted_sums(self, cloud: GaussianCloud, view: TrainingView, *pictures: Tensor) -> tuple[Tensor, ...]:
        """For each picture (H, W, 3), (N, 3) Σ over pixels of the blending weight αT of each Gaussian times the pixel.

        As the gradient with respect to the colours of the same cloud in white, so that any backend can do it.
        """
        white = self.deform(cloud)
        white = white.replace(sh=torch.full_like(cloud.sh[:, :1], _WHITE))
        options = replace(self.options, sh_degree=0, background=(0.0, 0.0, 0.0))
        _, context = self._forward(white, view, options)
        return tuple(self.backward(context, pixels).sh[:, 0] / C0 for pixels in pictures)
