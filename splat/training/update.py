"""From the gradients of renderings to one Adam step of a population, with its statistics; for the `Fitter` alone."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from splat.cloud import FIELDS
from splat.errors import NonFiniteError
from splat.ops.adam import AdamHyper, adam_step
from splat.rendering import Backend
from splat.rendering.fused_step import Statistics
from splat.rendering.types import CloudGradients, ImageGradients, Rendering
from splat.training.frozen import of_first_rows
from splat.training.hooks.chain_rule import Pullback
from splat.training.population import Population

SUMS = ("grad2d", "grad2d_abs", "count")


def fused_step(
    backward_adam: Callable, context: Any, gradients: ImageGradients, population: Population, hyper: AdamHyper
) -> tuple[Tensor, tuple[str, ...]]:
    """Backward pass, Adam and statistics in one go over the Gaussians.

    Returns ∂L/∂world_to_camera (4, 4) and the names of the tensors whose gradient is not finite.
    """
    sums = population.statistics
    statistics = Statistics(**{name: sums.get(name) for name in SUMS}) if sums else None
    result = backward_adam(context, gradients, population.adam, hyper, statistics)
    return result.world_to_camera, result.nonfinite


class MeanGradient:
    """The mean gradient of the renderings of one or several views, and the Adam step along it."""

    def __init__(self, backend: Backend, population: Population) -> None:
        self._backend, self._population = backend, population
        self._sums: dict[str, Tensor] = {}
        self._visible: Tensor | None = None
        self._count = 0

    def add(
        self, context: Any, rendering: Rendering, gradients: ImageGradients, pullback: Pullback | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Add one rendering, and its statistics to the population's.

        Returns ∂L/∂world_to_camera (4, 4) and the gradients of the photo parameters that ``pullback`` gives.
        """
        drawn = self._backend.backward(context, gradients)
        if len(drawn.means) > len(self._population):  # frozen Gaussians were drawn behind the population's
            drawn = of_first_rows(drawn, len(self._population))
        _accumulate(self._population.statistics, drawn, rendering)
        tensors, of_photo = {name: getattr(drawn, name) for name in FIELDS}, {}
        if pullback is not None:
            tensors, of_photo = pullback(tensors)
        for name, gradient in tensors.items():
            self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient
        visible = rendering.visible
        self._visible = visible if self._visible is None else self._visible | visible
        self._count += 1
        return drawn.world_to_camera, of_photo

    def step(self, hyper: AdamHyper, extra_rates: Mapping[str, float], more: Mapping[str, Tensor]) -> tuple[str, ...]:
        """One Adam step along the mean plus ``more``; the names of the tensors whose gradient is not finite."""
        count, population = self._count, self._population
        tensors = {name: total if count == 1 else total / count for name, total in self._sums.items()}
        for name, gradient in more.items():
            tensors[name] = tensors[name] + gradient if name in tensors else gradient
        return adam_step(population.cloud, tensors, population.adam, hyper, self._visible, extra_rates)


def refuse(nonfinite: tuple[str, ...], step: int) -> None:
    """Raise NonFiniteError where a gradient was not finite; rows with such a gradient have not moved."""
    if nonfinite:
        raise NonFiniteError(
            f"the gradient of {', '.join(nonfinite)} is not finite at step {step}; resume from the last checkpoint "
            "with a lower learning rate, or report the scene"
        )


def _accumulate(sums: dict[str, Tensor], drawn: CloudGradients, rendering: Rendering) -> None:
    """Add to ``sums`` for the visible rows what `splat.rendering.fused_step.Statistics` describes."""
    if not sums:
        return
    height, width = rendering.rgb.shape[:2]
    half = drawn.means2d.new_tensor([width / 2, height / 2])
    news = {
        "grad2d": lambda: (drawn.means2d * half).norm(dim=1),
        "grad2d_abs": lambda: (drawn.means2d_abs * half).norm(dim=1),
        "count": lambda: torch.ones_like(drawn.means2d[:, 0]),
    }
    for name, total in sums.items():
        total += torch.where(rendering.visible, news[name](), 0)
