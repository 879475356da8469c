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
from splat.training import schedules, trainer
from splat.training.checkpoint import pack_population, unpack_population
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import Part
from splat.training.population import Population
from splat.training.rng import generator
from splat.training.schedules import crossed
from splat.training.step_types import Shot, When
from splat.training.strategies.strategy import Moment
from splat.viewpoints.interpolation import virtual_cameras

_PRUNE_EVERY = 0.1  # of the run
_APART = 0.1  # scene extents without a counterpart
_START = 0.1  # of the run, before which both are too raw to learn from
_PER_PAIR = 6


def part(scene: Scene, config: TrainConfig, others: tuple[Part, ...]) -> Part:
    """Trains the second model one step for each of the first's; ``others``: the parts both use."""
    setup = trainer.set_up(scene, replace(config, seed=config.seed + 1), others)
    other = trainer.begin(setup, schedules.Plan(config.steps, None))
    cameras = virtual_cameras([view.camera for view in scene.train_views], _PER_PAIR)

    def shot(state: Any, when: When) -> Shot | None:
        before = other.plan.fraction
        trainer.step(setup, other)
        other.plan.fraction = when.fraction  # the first model's plan, which may be one by time, is the clock
        if crossed(_PRUNE_EVERY, before, when.fraction):
            prune(other.population, state.cloud, scene.extent)
        dice = generator(config.seed, "partner", when.step)
        if when.fraction < _START or float(torch.rand((), generator=dice)) >= config.priors.co_regularization:
            return None
        camera = cameras[int(torch.randint(len(cameras), (), generator=dice))]
        return Shot(None, _seen(other.cloud, camera, setup.name, config.background), camera, config.background)

    def refine(population: Population, moment: Moment) -> None:
        if crossed(_PRUNE_EVERY, moment.before, moment.fraction):
            prune(population, other.cloud, scene.extent)

    def restore(packed: dict[str, Any]) -> None:
        other.population = unpack_population(packed["population"], other.cloud.device)
        other.plan.step, other.plan.fraction = packed["step"], packed["fraction"]

    return Part(
        "partner",
        shot=shot,
        refine=refine,
        state=lambda: {
            "population": pack_population(other.population),
            "step": other.plan.step,
            "fraction": other.plan.fraction,
        },
        restore=restore,
    )


def _seen(cloud: GaussianCloud, camera: Any, backend: str, background: tuple[float, float, float]) -> Photo:
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
