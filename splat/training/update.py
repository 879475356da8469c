"""From the gradients of a picture to moved Gaussians: the backward pass, Adam, regularisers, statistics."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from splat.cloud import FIELDS
from splat.errors import NonFiniteError
from splat.ops.adam import AdamHyper, adam_step
from splat.rendering.fused_step import Statistics
from splat.rendering.types import CloudGradients, ImageGradients, Rendering
from splat.training.hooks.chain_rule import Slopes
from splat.training.population import Population

SUMS = ("grad2d", "grad2d_abs", "count", "max_radius")


def update(
    backend: ModuleType,
    context: Any,
    rendering: Rendering,
    gradients: ImageGradients,
    population: Population,
    hyper: AdamHyper,
    slopes: Slopes | None = None,
    extra_rates: Mapping[str, float] | None = None,
) -> Tensor:
    """One Adam step of every Gaussian along the gradient of the picture and of the regularisers; updates statistics.

    Args:
        slopes: from gradients of the cloud as it was drawn to those of the population's; None where it is the same.
        extra_rates: learning rates of the extras that were drawn.

    Returns:
        ∂L/∂world_to_camera (4, 4).

    Raises NonFiniteError naming the tensor; rows with a faulty gradient have not moved then.
    """
    if slopes is None and hasattr(backend, "backward_adam"):  # the core does all of it in one go over the Gaussians
        sums = population.statistics
        statistics = Statistics(*(sums.get(name) for name in SUMS)) if sums else None
        result = backend.backward_adam(context, gradients, population.adam, hyper, statistics)
        faulty, pose = result.nonfinite, result.pose
    else:
        found = backend.backward(context, gradients)
        _accumulate(population.statistics, found, rendering)
        tensors = {name: getattr(found, name) for name in FIELDS}
        tensors = tensors if slopes is None else slopes(tensors)
        faulty = adam_step(population.cloud, tensors, population.adam, hyper, rendering.visible, extra_rates)
        pose = found.pose
    _refuse(faulty, hyper.step)
    return pose


class Mean:
    """The mean gradient of several pictures of one cloud, for one step along it."""

    def __init__(self, backend: ModuleType, population: Population) -> None:
        self._backend, self._population = backend, population
        self._sums: dict[str, Tensor] = {}
        self._visible: Tensor | None = None
        self._count = 0

    def add(
        self, context: Any, rendering: Rendering, gradients: ImageGradients, slopes: Slopes | None = None
    ) -> Tensor:
        """Take in one picture; updates statistics; ``slopes`` as of `update`. Returns ∂L/∂world_to_camera (4, 4)."""
        found = self._backend.backward(context, gradients)
        _accumulate(self._population.statistics, found, rendering)
        tensors = {name: getattr(found, name) for name in FIELDS}
        for name, gradient in (tensors if slopes is None else slopes(tensors)).items():
            self._sums[name] = self._sums[name] + gradient if name in self._sums else gradient
        seen = rendering.visible
        self._visible = seen if self._visible is None else self._visible | seen
        self._count += 1
        return found.pose

    def update(self, hyper: AdamHyper, extra_rates: Mapping[str, float] | None) -> None:
        """One Adam step along the mean; arguments and errors as of `update`."""
        tensors = {name: total / self._count for name, total in self._sums.items()}
        population = self._population
        _refuse(adam_step(population.cloud, tensors, population.adam, hyper, self._visible, extra_rates), hyper.step)


def _refuse(faulty: tuple[str, ...], step: int) -> None:
    if faulty:
        raise NonFiniteError(
            f"the gradient of {', '.join(faulty)} is not finite at step {step}; resume from the last checkpoint "
            "with a lower learning rate, or report the scene"
        )


def _accumulate(sums: dict[str, Tensor], found: CloudGradients, rendering: Rendering) -> None:
    """Add what densification strategies look at, for the rows in the picture (see `Statistics`)."""
    if not sums:
        return
    visible = rendering.visible
    height, width = rendering.rgb.shape[:2]
    half = found.means2d.new_tensor([width / 2, height / 2])
    news = {
        "grad2d": lambda: (found.means2d * half).norm(dim=1),
        "grad2d_abs": lambda: (found.means2d_abs * half).norm(dim=1),
        "count": lambda: torch.ones_like(found.means2d[:, 0]),
    }
    for name, total in sums.items():
        if name == "max_radius":
            total.copy_(torch.maximum(total, rendering.radii.to(total)))
        else:
            total += torch.where(visible, news[name](), 0)
