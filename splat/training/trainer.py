"""The training loop: draw, compare, step, now and then change the rows."""

import math
import warnings
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from splat import gpu
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.errors import NonFiniteError
from splat.rendering import RenderOptions, check_backend, get_backend
from splat.rendering.backends import choose_backend
from splat.rendering.cpu import AdamHyper
from splat.scene import ImageCache, Scene, View
from splat.training import pose, schedules, surface_terms
from splat.training.checkpoint import pack_population, unpack_population
from splat.training.config import TrainConfig
from splat.training.edit import Population, populate
from splat.training.evaluation import check_views
from splat.training.finite import first_nonfinite
from splat.training.initialize import initialize
from splat.training.losses import Corrections, Shot, When, picture_loss
from splat.training.mcmc_kernels import add_noise
from splat.training.optimizer import parameters
from splat.training.parts import Part, hiding, holding, judged, needs
from splat.training.per_photo import PhotoParameters
from splat.training.randomness import generator, photo_at, stream
from splat.training.strategies import Moment, Strategy, strategy_of
from splat.training.update import update

LOOK_ON_GPU = 10  # steps between two looks at the loss
SMOOTHING = 0.02  # weight of the newest step in the running means of loss and error


@dataclass(frozen=True)
class Setup:
    """What stays the same over a run."""

    scene: Scene
    config: TrainConfig
    strategy: Strategy
    backend: ModuleType
    cache: ImageCache  # of the training views
    keypoints: tuple[tuple[Tensor | None, Tensor | None], ...]  # points and pixels of each training view
    parts: tuple[Part, ...] = ()  # what takes part besides the photos

    @property
    def views(self) -> tuple[View, ...]:
        return self.cache.views

    @property
    def name(self) -> str:
        """Name of the backend."""
        return self.backend.__name__.rpartition(".")[2]


@dataclass
class State:
    """What changes over a run; all of it goes into a checkpoint.

    Attributes:
        population: the Gaussians with their optimiser.
        plan: step and position in the schedules.
        corrections, poses: per-photo parameters that are switched on.
        loss, mse: running means over steps; NaN before the first.
        history: one entry per hundredth of the run, as in metrics.json.
    """

    population: Population
    plan: schedules.Plan
    corrections: Corrections
    poses: PhotoParameters | None
    loss: float = math.nan
    mse: float = math.nan
    history: list[dict[str, Any]] = field(default_factory=list)

    @property
    def cloud(self) -> GaussianCloud:
        return self.population.cloud

    @property
    def psnr(self) -> float:
        """Running mean over training photos, dB."""
        return -10 * math.log10(max(self.mse, 1e-12)) if math.isfinite(self.mse) else math.nan


def set_up(scene: Scene, config: TrainConfig, parts: tuple[Part, ...] = ()) -> Setup:
    """Check the scene, choose the backend, and gather what the loop needs. Raises InputError, BackendError."""
    check_views(scene)
    if config.backend == "auto":
        backend = choose_backend(GaussianCloud.empty(device=_best_device()))
    else:
        backend = get_backend(config.backend)
    cache = ImageCache(scene.train_views, config.scene.cache_megabytes << 20)
    keypoints = [view.keypoints() if config.loss.depth > 0 else None for view in cache.views]
    seen = tuple((None, None) if found is None else (scene.points.xyz[found[0]], found[1]) for found in keypoints)
    return Setup(scene, config, strategy_of(config), backend, cache, seen, parts + surface_terms.parts(config))


def _best_device() -> str:
    """The GPU if there is one and its backend works. A GPU that is left idle is said."""
    reason = check_backend("cuda") if gpu.has_driver() else ""
    if reason is None:
        return "cuda"
    if reason:
        warnings.warn(f"training on the processor, because {reason}", stacklevel=2)
    return "cpu"


def begin(setup: Setup, plan: schedules.Plan) -> State:
    """The state before the first step."""
    config, strategy = setup.config, setup.strategy
    own = strategy.config
    cloud = initialize(setup.scene, config.gaussians, own.init_opacity, own.init_scale, config.sh_degree, config.seed)
    for part in setup.parts:
        cloud = cloud if part.first is None else part.first(cloud)
    population = populate(cloud.to(device_of(setup.backend)), strategy.statistics)
    return State(population, plan, *_photo_parameters(setup))


def _photo_parameters(setup: Setup) -> tuple[Corrections, PhotoParameters | None]:
    """Neutral colour and pose corrections, where they are switched on."""
    photos = len(setup.views)
    poses = PhotoParameters(photos, 6) if setup.config.pose.refine else None
    return Corrections.of(setup.config, photos, device_of(setup.backend)), poses


def device_of(backend: ModuleType) -> torch.device:
    """Where clouds live that ``backend`` trains."""
    on_gpu = backend.__name__.endswith((".cuda", ".gsplat"))
    return torch.device("cuda" if on_gpu else "cpu")


def step(setup: Setup, state: State) -> None:
    """One photo: draw it, compare, move the Gaussians; then let the strategy change the rows.

    Raises NonFiniteError; unless a parameter was faulty before (see `check_finite`), the state is free of faults then.
    """
    config, plan, strategy = setup.config, state.plan, setup.strategy
    now, extent = plan.step, setup.scene.extent
    when = When(now, plan.fraction, extent)
    shot, correction, matrix = _shot(setup, state, when)
    options = RenderOptions(
        background=shot.background,
        sh_degree=schedules.sh_degree(config, plan.fraction),
        antialiased=config.antialiased,
        depth=config.loss.depth > 0 or needs(setup.parts, "depth"),
        normal=needs(setup.parts, "normal"),
    )
    # Weight sums per Gaussian are for pruning methods; the core need not make them here.
    spared = {"weights": False} if hasattr(setup.backend, "backward_adam") else {}
    hidden = max((part.hidden(when) for part in setup.parts if part.hidden is not None), default=0.0)
    with hiding(state.cloud, hidden, config.seed, now), holding(state.cloud):
        rendering, context = setup.backend.forward(state.cloud, shot.camera, options, **spared)
        for part in setup.parts:
            if part.aim is not None:
                shot = part.aim(state, rendering, shot, when)
        found = picture_loss(rendering, shot, config, state.corrections, when)
        found = judged(setup.parts, found, rendering, shot, when)
        # Reading the loss waits for a GPU, where the fused step checks the gradients anyway: look only now and then.
        look = LOOK_ON_GPU if state.cloud.means.is_cuda else 1
        looking = now % look == 0
        if looking and not math.isfinite(found.loss):
            check_finite(state)
            raise NonFiniteError(_fault("the rendered picture", now + 1))

        rates = schedules.rates(config.rates, extent, plan.fraction)
        hyper = AdamHyper(
            step=now + 1,
            **vars(rates),
            visible_only=config.rates.visible_only,
            opacity_reg=strategy.config.opacity_weight,
            scale_reg=strategy.config.scale_weight / extent,
        )
        gradient = update(setup.backend, context, rendering, found.gradients, state.population, hyper)
    if correction is not None:
        matrix.backward(gradient.to(matrix))
        state.poses.step(shot.index, correction, config.pose.rate * 0.01**plan.fraction)
    if strategy.noise > 0:
        # Noise is a length and Σ a squared one: in units of the extent, scenes of every scale get the same.
        strength = strategy.noise * rates.means / extent**2
        add_noise(state.cloud, strength, stream(config.seed, "noise"), now)
    if looking and shot.index is not None:
        weight = 1 - (1 - SMOOTHING) ** look
        state.loss, state.mse = _smooth(state.loss, found.loss, weight), _smooth(state.mse, found.mse, weight)
    plan.advance()
    moment = Moment(plan.step, plan.fraction, plan.before, extent, config.gaussians, config.seed)
    strategy.refine(state.population, moment)
    for part in setup.parts:
        if part.refine is not None:
            part.refine(state.population, moment)


def _shot(setup: Setup, state: State, when: When) -> tuple[Shot, Tensor | None, Tensor | None]:
    """What this step compares with: a photo, or the picture that a part puts in its place.

    With pose refinement also the leaf of the photo's correction and the pose made from it.
    """
    for part in setup.parts:
        extra = None if part.shot is None else part.shot(state, when)
        if extra is not None:
            return extra, None, None
    config, photos = setup.config, len(setup.views)
    index = photo_at(config.seed, when.step, photos)
    photo = setup.cache.get(index, upcoming=photo_at(config.seed, when.step + 1, photos))
    camera, correction, matrix = _camera(setup, state, index)
    return Shot(index, photo, camera, _background(config, when.step), *setup.keypoints[index]), correction, matrix


def _camera(setup: Setup, state: State, index: int) -> tuple[Camera, Tensor | None, Tensor | None]:
    """The camera of a training view; with pose refinement also the leaf of its correction and the pose made from it."""
    camera = setup.views[index].camera
    if state.poses is None:
        return camera, None, None
    correction = state.poses.row(index)
    matrix = pose.refined(camera.world_to_camera, correction, setup.scene.extent)
    return camera.replace(world_to_camera=matrix.detach()), correction, matrix


def _background(config: TrainConfig, step: int) -> tuple[float, float, float]:
    if not config.random_background:
        return config.background
    return tuple(torch.rand(3, generator=generator(config.seed, "background", step)).tolist())


def _smooth(mean: float, value: float, weight: float) -> float:
    return value if math.isnan(mean) else mean + weight * (value - mean)


def check_finite(state: State) -> None:
    """Raise NonFiniteError naming the first parameter tensor that holds a NaN or infinity."""
    found = first_nonfinite(parameters(state.cloud))
    if found is not None:
        raise NonFiniteError(_fault(f"{found[0]} of the cloud (row {found[1]})", state.plan.step))


def _fault(where: str, step: int) -> str:
    return (
        f"a value that is not finite appeared in {where} at step {step}; resume from the last checkpoint with a lower "
        "learning rate, or report the scene"
    )


# ---- the state as plain data ----


def pack(setup: Setup, state: State) -> dict[str, Any]:
    """Everything of ``state``, for a checkpoint."""
    rows = {
        "exposures": state.corrections.exposures,
        "grids": state.corrections.grids,
        "poses": state.poses,
    }
    return {
        "population": pack_population(state.population),
        "fraction": state.plan.fraction,
        "seconds": state.plan.seconds,
        "photo_parameters": {name: value.state() for name, value in rows.items() if value is not None},
        "parts": {part.name: part.state() for part in setup.parts if part.state is not None},
        "loss": state.loss,
        "mse": state.mse,
        "history": state.history,
    }


def unpack(setup: Setup, packed: dict[str, Any], plan: schedules.Plan) -> State:
    """The state that `pack` saw, going on in ``plan``."""
    population = unpack_population(packed["population"], device_of(setup.backend))
    state = State(population, plan, *_photo_parameters(setup))
    rows = {"exposures": state.corrections.exposures, "grids": state.corrections.grids, "poses": state.poses}
    for name, values in packed["photo_parameters"].items():
        rows[name].restore(values)
    for part in setup.parts:
        if part.restore is not None:
            part.restore(packed["parts"][part.name])
    plan.resume(packed["step"], packed["fraction"], packed["seconds"])
    state.loss, state.mse, state.history = packed["loss"], packed["mse"], packed["history"]
    return state
