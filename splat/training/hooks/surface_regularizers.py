"""Regularizers of the surface as a hook, and of flat Gaussians."""

import torch

from splat.cloud import GaussianCloud
from splat.rendering.types import ImageGradients, Rendering
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import Part
from splat.training.losses.surface import surface_gradients
from splat.training.population import Population
from splat.training.step_types import Shot, When
from splat.training.strategies.strategy import Moment

FLATTEST = 0.05  # shortest axis, in middle axes, below which a Gaussian is flat enough


def parts(config: TrainConfig) -> tuple[Part, ...]:
    """The regularisers that ``config.surface`` switches on, as a part of the run."""
    own = config.surface
    if own.normals == 0 and own.distortion == 0 and own.flatten == 0:
        return ()

    def judge(rendering: Rendering, shot: Shot, when: When) -> tuple[float, ImageGradients]:
        if when.fraction < own.start:
            return 0.0, ImageGradients()
        return surface_gradients(rendering, shot.camera, own.normals, own.distortion)

    def refine(population: Population, moment: Moment) -> None:
        flatten(population.cloud, own.flatten * config.rates.scales)

    needs = {"depth", "normal"} if own.normals > 0 else set()
    needs |= {"depth", "square_depth"} if own.distortion > 0 else set()
    judge_if, refine_if = judge if needs else None, refine if own.flatten > 0 else None
    return (Part("surface", needs=frozenset(needs), judge=judge_if, refine=refine_if),)


def flatten(cloud: GaussianCloud, rate: float) -> None:
    """Shrink the shortest axis of every Gaussian by the factor exp(−``rate``), in place, until it is `FLATTEST`.

    The aim of PGSR's flattening loss (Chen et al. 2024, eq. 1) as decoupled decay: the shrinkage per step is known and
    does not pass through Adam's moments.
    """
    ordered, order = cloud.log_scales.sort(dim=1)
    floor = ordered[:, 1] + torch.log(ordered.new_tensor(FLATTEST))
    shrunk = torch.minimum(ordered[:, 0], torch.maximum(ordered[:, 0] - rate, floor))
    cloud.log_scales.scatter_(1, order[:, :1], shrunk[:, None])
