"""The training loop: draw, compare, step, now and then change the rows."""

import math
import warnings
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.errors import NonFiniteError
from splat.native import cuda_launcher
from splat.ops.adam import AdamHyper, parameters
from splat.ops.mcmc import add_noise
from splat.ops.nonfinite import first_nonfinite
from splat.rendering import RenderOptions, check_backend, get_backend
from splat.rendering.backends import choose_backend
from splat.rendering.types import Rendering
from splat.scene import ImageCache, Scene
from splat.training import schedules
from splat.training.budget import most_rows
from splat.training.checkpoint import pack_population, unpack_population
from splat.training.config.config import TrainConfig
from splat.training.hooks import appearance_features, coarse_to_fine, dilated_rendering, surface_regularizers
from splat.training.hooks.chain_rule import Slopes, presented, presented_with_slopes
from splat.training.hooks.dropout import hiding
from splat.training.hooks.hook import Part, holding, judged, needs, without_columns
from splat.training.initialize import initialize
from splat.training.losses.image import Corrections, PictureLoss, picture_loss
from splat.training.methods import parts_of, strategy_of
from splat.training.per_photo import pose
from splat.training.per_photo.parameters import PhotoParameters
from splat.training.population import populate
from splat.training.rng import generator, photo_at, stream
from splat.training.setup import Setup
from splat.training.state import State, check_views
from splat.training.step_types import Shot, When
from splat.training.strategies.strategy import Moment
from splat.training.strategies.view_sampler import Survey
from splat.training.update import Mean, update
from splat.training.weight_averaging import averaged, take_in

LOOK_ON_GPU = 10  # steps between two looks at the loss
SMOOTHING = 0.02  # weight of the newest step in the running means of loss and error


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
    parts = (
        parts_of(config)
        + appearance_features.parts(config, len(cache.views))
        + parts
        + surface_regularizers.parts(config)
    )
    return Setup(scene, config, strategy_of(config), backend, cache, seen, parts)


def _best_device() -> str:
    """The GPU if there is one and its backend works. A GPU that is left idle is said."""
    reason = check_backend("cuda") if cuda_launcher.has_driver() else ""
    if reason is None:
        return "cuda"
    if reason:
        warnings.warn(f"training on the processor, because {reason}", stacklevel=2)
    return "cpu"


def begin(setup: Setup, plan: schedules.Plan) -> State:
    """The state before the first step."""
    config, strategy = setup.config, setup.strategy
    own = strategy.config
    cloud = initialize(setup.scene, first_rows(setup), own.init_opacity, own.init_scale, config.sh_degree, config.seed)
    for part in setup.parts:
        cloud = cloud if part.first is None else part.first(cloud)
    population = populate(cloud.to(device_of(setup.backend)), strategy.statistics)
    return State(population, plan, *_photo_parameters(setup))


def first_rows(setup: Setup) -> int:
    """Number of Gaussians a run begins with: one per sparse point, as far as its budget and strategy allow."""
    share = getattr(setup.strategy.config, "first", 1.0)
    return min(len(setup.scene.points), max(1, int(share * most_rows(setup.config, pixels=setup.pixels))))


def _photo_parameters(setup: Setup) -> tuple[Corrections, PhotoParameters | None]:
    """Neutral colour and pose corrections, where they are switched on."""
    photos = len(setup.views)
    poses = PhotoParameters(photos, 6) if setup.config.pose.refine else None
    return Corrections.of(setup.config, photos, device_of(setup.backend)), poses


def finished(setup: Setup, state: State) -> GaussianCloud:
    """The cloud of a run as it is drawn and written: averaged; what only its training needed worked in or left out."""
    return without_columns(presented(setup.parts, averaged(state.population)))


def device_of(backend: ModuleType) -> torch.device:
    """Where clouds live that ``backend`` trains."""
    on_gpu = backend.__name__.endswith((".cuda", ".gsplat"))
    return torch.device("cuda" if on_gpu else "cpu")


def step(setup: Setup, state: State) -> None:
    """One photo or a few: draw, compare, move the Gaussians; then let the strategy change the rows.

    Raises NonFiniteError; unless a parameter was faulty before (see `check_finite`), the state is free of faults then.
    """
    config, plan, strategy = setup.config, state.plan, setup.strategy
    now, extent = plan.step, setup.scene.extent
    when = When(now, plan.fraction, extent)
    hidden = max((part.hidden(when) for part in setup.parts if part.hidden is not None), default=0.0)
    photos = config.batch.size if plan.fraction >= config.batch.start else 1
    with hiding(state.cloud, hidden, config.seed, now), holding(state.cloud):
        rates = schedules.rates(config.rates, extent, plan.fraction)
        hyper = AdamHyper(
            step=now + 1,
            **vars(rates),
            visible_only=config.rates.visible_only,
            opacity_reg=strategy.opacity_weight(plan.expected),
            scale_reg=strategy.config.scale_weight / extent,
        )
        extra_rates = {name: rate for part in setup.parts for name, rate in part.rates.items()}
        if photos == 1:
            seen = _see(setup, state, when, now)
            found = seen.found.gradients
            pose = update(
                setup.backend, seen.context, seen.rendering, found, state.population, hyper, seen.slopes, extra_rates
            )
            _turn(setup, state, seen, pose)
        else:
            mean = Mean(setup.backend, state.population)
            for number in range(now * photos, (now + 1) * photos):
                seen = _see(setup, state, when, number)
                _turn(setup, state, seen, mean.add(seen.context, seen.rendering, seen.found.gradients, seen.slopes))
            mean.update(hyper, extra_rates)
    if strategy.noise > 0:
        # Noise is a length and Σ a squared one: in units of the extent, scenes of every scale get the same.
        strength = strategy.noise * rates.means / extent**2
        add_noise(state.cloud, strength, stream(config.seed, "noise"), now)
    plan.advance()
    if schedules.crossed(0.01, plan.before, plan.fraction):
        state.losses.append((plan.step, state.loss))
    moment = moment_of(setup, state)
    strategy.refine(state.population, moment)
    for part in setup.parts:
        if part.refine is not None:
            part.refine(state.population, moment)
    take_in(config.average, state.population, plan.step, plan.fraction)


def moment_of(setup: Setup, state: State) -> Moment:
    """What strategies are told after a step."""
    config, plan, extent = setup.config, state.plan, setup.scene.extent
    first = first_rows(setup)
    cap = coarse_to_fine.cap(config.coarse, first, most_rows(config, plan.expected, setup.pixels), plan.fraction)
    when = When(plan.step, plan.fraction, extent)

    def shot(index: int) -> Shot:
        camera, _, _ = _camera(setup, state, index)
        return _viewed(setup, Shot(index, setup.cache.get(index), camera, config.background), when)

    options = RenderOptions(
        background=config.background,
        sh_degree=schedules.sh_degree(config, plan.fraction),
        antialiased=config.antialiased,
    )
    survey = Survey(
        shot, len(setup.views), setup.backend, options, config.seed, lambda cloud: presented(setup.parts, cloud)
    )
    return Moment(
        plan.step, plan.fraction, plan.before, extent, cap, config.seed, first, tuple(state.losses), survey,
        timed=config.minutes is not None,
    )  # fmt: skip


@dataclass(frozen=True)
class _Seen:
    """One picture of a step, drawn and compared; ``slopes`` as of `update`, the last two as from `_camera`."""

    shot: Shot
    rendering: Rendering
    context: Any
    found: PictureLoss
    slopes: Slopes | None
    correction: Tensor | None
    matrix: Tensor | None


def _see(setup: Setup, state: State, when: When, number: int) -> _Seen:
    """Draw the Gaussians for the picture ``number`` of the run and compare. Raises NonFiniteError."""
    config = setup.config
    shot, correction, matrix = _shot(setup, state, when, number)
    options = RenderOptions(
        background=shot.background,
        sh_degree=schedules.sh_degree(config, when.fraction),
        antialiased=config.antialiased,
        depth=config.loss.depth > 0 or needs(setup.parts, "depth"),
        normal=needs(setup.parts, "normal"),
        square_depth=needs(setup.parts, "square_depth"),
        blur=shot.blur,
    )
    cloud, slopes = presented_with_slopes(setup.parts, state.cloud, shot.index, when.fraction)
    # Weight sums per Gaussian are for pruning methods; the core need not make them here.
    spared = {"weights": False} if hasattr(setup.backend, "backward_adam") else {}
    rendering, context = setup.backend.forward(cloud, shot.camera, options, **spared)
    for part in setup.parts:
        if part.aim is not None:
            shot = part.aim(state, rendering, shot, when)
    found = picture_loss(rendering, shot, config, state.corrections, when)
    found = judged(setup.parts, found, rendering, shot, when)
    # Reading the loss waits for a GPU, where the fused step checks the gradients anyway: look only now and then.
    look = LOOK_ON_GPU if cloud.means.is_cuda else 1
    if when.step % look == 0:
        if not math.isfinite(found.loss):
            check_finite(state)
            raise NonFiniteError(_fault("the rendered picture", when.step + 1))
        if shot.index is not None:
            weight = 1 - (1 - SMOOTHING) ** look
            state.loss, state.mse = _smooth(state.loss, found.loss, weight), _smooth(state.mse, found.mse, weight)
    return _Seen(shot, rendering, context, found, slopes, correction, matrix)


def _turn(setup: Setup, state: State, seen: _Seen, gradient: Tensor) -> None:
    """With pose refinement, one step of the pose correction of the photo that was seen."""
    if seen.correction is not None:
        seen.matrix.backward(gradient.to(seen.matrix))
        rate = setup.config.pose.rate * 0.01**state.plan.fraction
        state.poses.step(seen.shot.index, seen.correction, rate)


def _viewed(setup: Setup, shot: Shot, when: When) -> Shot:
    """``shot`` as the parts want it seen."""
    for part in setup.parts:
        shot = shot if part.view is None else part.view(shot, when)
    return shot


def _shot(setup: Setup, state: State, when: When, number: int) -> tuple[Shot, Tensor | None, Tensor | None]:
    """What the picture ``number`` is compared with: a photo, or the picture that a part puts in its place.

    With pose refinement also the leaf of the photo's correction and the pose made from it.
    """
    for part in setup.parts:
        extra = None if part.shot is None else part.shot(state, when)
        if extra is not None:
            return _strided(setup, _viewed(setup, extra, when), when, number), None, None
    config, photos = setup.config, len(setup.views)
    index = photo_at(config.seed, number, photos)
    photo = setup.cache.get(index, upcoming=photo_at(config.seed, number + 1, photos))
    camera, correction, matrix = _camera(setup, state, index)
    shot = Shot(index, photo, camera, _background(config, number), *setup.keypoints[index])
    return _strided(setup, _viewed(setup, shot, when), when, number), correction, matrix


def _strided(setup: Setup, shot: Shot, when: When, number: int) -> Shot:
    config = setup.config
    return dilated_rendering.strided(config.dilate, shot, when.fraction, config.seed, number)


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
        "losses": state.losses,
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
    state.losses = [tuple(entry) for entry in packed.get("losses", [])]
    return state
