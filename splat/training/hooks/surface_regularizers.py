"""Regularizers of the surface as a hook, and of flat Gaussians."""

import torch

from splat.cloud import GaussianCloud
from splat.rendering.types import ImageGradients, Rendering
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.losses.surface import surface_gradients
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

FLATTEST = 0.05  # shortest axis, in middle axes, below which a Gaussian is flat enough


def hooks(config: TrainConfig) -> tuple[TrainingHook, ...]:
    """The regularisers that ``config.surface`` switches on, as a hook."""
    settings = config.surface
    if settings.normals == 0 and settings.distortion == 0 and settings.flatten == 0:
        return ()

    def penalty(rendering: Rendering, view: TrainingView, context: StepContext) -> tuple[float, ImageGradients]:
        if context.fraction < settings.start:
            return 0.0, ImageGradients()
        return surface_gradients(rendering, view.camera, settings.normals, settings.distortion)

    def refine(population: Population, context: StepContext) -> None:
        flatten(population.cloud, settings.flatten * config.rates.scales)

    needs = {"depth", "normal"} if settings.normals > 0 else set()
    needs |= {"depth", "square_depth"} if settings.distortion > 0 else set()
    penalty_if, refine_if = penalty if needs else None, refine if settings.flatten > 0 else None
    return (TrainingHook("surface", needs=frozenset(needs), penalty=penalty_if, refine=refine_if),)


def flatten(cloud: GaussianCloud, rate: float) -> None:
    """Shrink the shortest axis of every Gaussian by the factor exp(−``rate``), in place, until it is `FLATTEST`.

    The aim of PGSR's flattening loss (Chen et al. 2024, eq. 1) as decoupled decay: the shrinkage per step is known and
    does not pass through Adam's moments.
    """
    ordered, order = cloud.log_scales.sort(dim=1)
    floor = ordered[:, 1] + torch.log(ordered.new_tensor(FLATTEST))
    shrunk = torch.minimum(ordered[:, 0], torch.maximum(ordered[:, 0] - rate, floor))
    cloud.log_scales.scatter_(1, order[:, :1], shrunk[:, None])
