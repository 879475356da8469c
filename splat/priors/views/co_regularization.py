"""Co-regularisation: a second model trained beside; where the two disagree, neither knows (CoR-GS, Zhang et al. 2024).

Both start from the same points and see the same photos, in another order and with other draws. In a share of the steps
each trains on the picture the other shows from between the photos, and now and then each loses the Gaussians that have
no counterpart in the other.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering import render
from splat.scene.images import Photo
from splat.scene.scene import Scene
from splat.training import population as edit
from splat.training import trainer
from splat.training.checkpoint import pack_population, unpack_population
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.population import Population
from splat.training.rng import generator
from splat.training.schedules import Schedule, crossed
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView
from splat.viewpoints.interpolation import virtual_cameras

_PRUNE_EVERY = 0.1  # of the run
_APART = 0.1  # scene extents without a counterpart
_START = 0.1  # of the run, before which both are too raw to learn from
_PER_PAIR = 6


def hook(scene: Scene, config: TrainConfig, others: tuple[TrainingHook, ...]) -> TrainingHook:
    """Trains the second model one step for each of the first's; ``others``: the hooks both use."""
    setup = trainer.set_up(scene, replace(config, seed=config.seed + 1), others)
    other = trainer.begin(setup, Schedule(config.steps, None))
    cameras = virtual_cameras([view.camera for view in scene.train_views], _PER_PAIR)

    def extra_view(cloud: GaussianCloud, context: StepContext) -> TrainingView | None:
        before = other.schedule.fraction
        trainer.step(setup, other)
        other.schedule.fraction = context.fraction  # the first model's schedule, which may be one by time, is the clock
        if crossed(_PRUNE_EVERY, before, context.fraction):
            prune(other.population, cloud, scene.extent)
        rng = generator(config.seed, "partner", context.step)
        if context.fraction < _START or float(torch.rand((), generator=rng)) >= config.priors.partner:
            return None
        camera = cameras[int(torch.randint(len(cameras), (), generator=rng))]
        return TrainingView(
            None, _rendered(other.cloud, camera, setup.name, config.background), camera, config.background
        )

    def refine(population: Population, context: StepContext) -> None:
        if crossed(_PRUNE_EVERY, context.previous_fraction, context.fraction):
            prune(population, other.cloud, scene.extent)

    def restore(packed: dict[str, Any]) -> None:
        other.population = unpack_population(packed["population"], other.cloud.device)
        other.schedule.step, other.schedule.fraction = packed["step"], packed["fraction"]

    return TrainingHook(
        "co-regularization",
        extra_view=extra_view,
        refine=refine,
        state=lambda: {
            "population": pack_population(other.population),
            "step": other.schedule.step,
            "fraction": other.schedule.fraction,
        },
        restore=restore,
    )


def _rendered(cloud: GaussianCloud, camera: Any, backend: str, background: tuple[float, float, float]) -> Photo:
    rgb = render(cloud, camera, backend, background=background).rgb.clamp(0, 1).cpu()
    return Photo((rgb * 255 + 0.5).to(torch.uint8))


def prune(population: Population, other: GaussianCloud, extent: float) -> None:
    """Remove the Gaussians of ``population`` that have no counterpart in ``other`` within `_APART` scene extents."""
    lonely = without_counterpart(population.cloud.means, other.means, _APART * extent)
    if bool(lonely.any()) and not bool(lonely.all()):
        edit.keep(population, ~lonely)


def without_counterpart(means: Tensor, others: Tensor, distance: float) -> Tensor:
    """(N,) bool: which of ``means`` (N, 3) have none of ``others`` (M, 3) within ``distance``."""
    from scipy.spatial import cKDTree

    found, _ = cKDTree(others.double().cpu().numpy()).query(means.double().cpu().numpy(), distance_upper_bound=distance)
    return torch.from_numpy(found).isinf().to(means.device)
