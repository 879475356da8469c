"""From the gradients of a picture to moved Gaussians: the backward pass, Adam, regularisers, statistics."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from splat.cloud import FIELDS
from splat.errors import NonFiniteError
from splat.rendering.cpu import AdamHyper, Statistics
from splat.rendering.types import CloudGradients, ImageGradients, Rendering
from splat.training.edit import Population
from splat.training.optimizer import adam_step

SUMS = ("grad2d", "grad2d_abs", "count", "max_radius")


def update(
    backend: ModuleType,
    context: Any,
    rendering: Rendering,
    gradients: ImageGradients,
    population: Population,
    hyper: AdamHyper,
) -> Tensor:
    """One Adam step of every Gaussian along the gradient of the picture and of the regularisers; updates statistics.

    Returns:
        ∂L/∂world_to_camera (4, 4).

    Raises NonFiniteError naming the tensor; rows with a faulty gradient have not moved then.
    """
    if hasattr(backend, "backward_adam"):  # the core does all of it in one go over the Gaussians
        sums = population.statistics
        statistics = Statistics(*(sums.get(name) for name in SUMS)) if sums else None
        result = backend.backward_adam(context, gradients, population.adam, hyper, statistics)
        faulty, pose = result.nonfinite, result.pose
    else:
        found = backend.backward(context, gradients)
        _accumulate(population.statistics, found, rendering)
        tensors = {name: getattr(found, name) for name in FIELDS}
        faulty = adam_step(population.cloud, tensors, population.adam, hyper, rendering.visible)
        pose = found.pose
    if faulty:
        raise NonFiniteError(
            f"the gradient of {', '.join(faulty)} is not finite at step {hyper.step}; resume from the last checkpoint "
            "with a lower learning rate, or report the scene"
        )
    return pose


def _accumulate(sums: dict[str, Tensor], found: CloudGradients, rendering: Rendering) -> None:
    """Add what densification strategies look at, for the rows in the picture (see `splat.rendering.cpu.Statistics`)."""
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
