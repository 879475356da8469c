"""One training step: render, compute the loss, update the Gaussians, densify when due."""

import math
import warnings
from dataclasses import replace

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.coordinates import AT_ZERO
from splat.errors import NonFiniteError
from splat.native import cuda_launcher
from splat.ops.adam import AdamHyper, parameters
from splat.ops.mcmc_noise import add_noise
from splat.ops.nonfinite import first_nonfinite
from splat.rendering import RenderOptions, check_backend, get_backend
from splat.rendering.backends import choose_backend
from splat.rendering.types import near_plane
from splat.scene import ImageCache, Scene
from splat.scene.scene import photo_count
from splat.training import depth_supervision, schedules
from splat.training.budget import max_gaussians
from splat.training.config.config import TrainConfig
from splat.training.device_photos import DevicePhotos
from splat.training.fitter import Fitter
from splat.training.frozen import with_frozen
from splat.training.hooks import appearance_features, coarse_to_fine, dilated_rendering, surface_regularizers
from splat.training.hooks.chain_rule import deform
from splat.training.hooks.dropout import without_position_step
from splat.training.hooks.hook import TrainingHook, transform_view
from splat.training.losses.image import PictureLoss, training_loss
from splat.training.methods import hooks_of, strategy_of
from splat.training.per_photo.corrections import POSES, corrections_of, refined_camera
from splat.training.population import populate
from splat.training.rng import generator, mix_seed, photo_at
from splat.training.schedules import Schedule
from splat.training.setup import Setup
from splat.training.start import Start, place_of, start_cloud
from splat.training.state import State, check_views
from splat.training.step_context import StepContext
from splat.training.strategies.view_sampler import ViewSampler
from splat.training.timing import Timer, untimed
from splat.training.training_view import TrainingView
from splat.training.weight_averaging import averaged, update_running_mean

LOOK_ON_GPU = 10  # steps between two looks at the loss
SMOOTHING = 0.02  # weight of the newest step in the running means of loss and error


def set_up(
    scene: Scene,
    config: TrainConfig,
    hooks: tuple[TrainingHook, ...] = (),
    timer: Timer = untimed,
    start: Start | None = None,
) -> Setup:
    """Check the scene, choose the backend, and gather what the steps need. Raises InputError, BackendError.

    Args:
        hooks: beside those that ``config`` switches on.
        timer: called with the name of each stage of a step, see `splat.training.timing`.
        start: what to begin with beside the scene's points.
    """
    check_views(scene)
    if config.backend == "auto":
        backend = choose_backend(GaussianCloud.empty(device=_best_device()))
    else:
        backend = get_backend(config.backend)
    cache = ImageCache(scene.train_views, config.scene.cache_megabytes << 20)
    photos = DevicePhotos(cache, backend.device)
    start = start or Start()
    scan = depth_supervision.scan_of(start)
    weight = depth_supervision.weight(config, cache.views, scan)
    scene = depth_supervision.with_start_points(scene, cache, weight)
    keypoints = depth_supervision.points_of_views(scene, cache.views, weight, scan)
    features = appearance_features.hooks(config, photo_count(cache.views))
    hooks = hooks_of(config, photos.room) + features + hooks + surface_regularizers.hooks(config)
    return Setup(scene, config, strategy_of(config), backend, photos, keypoints, weight, hooks, timer, start)


def _best_device() -> str:
    """The GPU if there is one and its backend works. A GPU that is left idle is said."""
    reason = check_backend("cuda") if cuda_launcher.has_driver() else ""
    if reason is None:
        return "cuda"
    if reason:
        warnings.warn(f"training on the processor, because {reason}", stacklevel=2)
    return "cpu"


def begin(setup: Setup, schedule: Schedule) -> State:
    """The state before the first step."""
    config, start = setup.config, setup.start
    cloud = start_cloud(setup.scene, start, setup.first_count, config, setup.strategy.densify)
    for hook in setup.hooks:
        cloud = cloud if hook.initialize is None else hook.initialize(cloud)
    population = populate(cloud.to(setup.device), setup.strategy.statistics)
    state = State(population, schedule, corrections_of(config, photo_count(setup.views), setup.device))
    state.frozen = (
        None if start.frozen is None else start.frozen.replace(extras={}, georeference=AT_ZERO).to(setup.device)
    )
    state.first_count, state.start_files = setup.first_count, start.files
    return state


def finished(setup: Setup, state: State) -> GaussianCloud:
    """The cloud of a run as it is written: averaged; what only its training needed worked in or left out."""
    cloud = without_position_step(deform(setup.hooks, averaged(state.population)))
    place = place_of(setup.scene.georeference, state.start_files)
    return with_frozen(cloud, state.frozen).replace(georeference=place)


def shown(state: State) -> GaussianCloud:
    """All Gaussians of a run as they are now."""
    return with_frozen(state.cloud, state.frozen)


def step(setup: Setup, state: State) -> None:
    """One training step, on one photo or a batch.

    Raises NonFiniteError; unless a parameter was faulty before (see `check_finite`), the state is free of faults then.
    """
    config, schedule, strategy = setup.config, state.schedule, setup.strategy
    context = context_of(setup, state)
    now, extent = context.step, context.extent
    photos = config.batch.size if context.fraction >= config.batch.start else 1
    views = [_training_view(setup, state, context, number) for number in range(now * photos, (now + 1) * photos)]
    rates = schedules.rates(config.rates, extent, context.fraction)
    hyper = AdamHyper(
        step=now + 1,
        **vars(rates),
        visible_only=config.rates.visible_only,
        opacity_reg=strategy.opacity_weight(schedule.expected),
        scale_reg=strategy.densify.scale_weight / extent,
    )
    fitter = fitter_of(setup, state)
    options = replace(_options(config, context.fraction, extent), depth=setup.depth_weight > 0)
    fitter.step(views, hyper, options, context, lambda view, loss: _watch(state, view, loss))
    if strategy.noise > 0:
        with setup.timer("noise"):
            # Noise is a length and Σ a squared one: in units of the extent, scenes of every scale get the same.
            strength = strategy.noise * rates.means / extent**2
            add_noise(state.cloud, strength, mix_seed(config.seed, "noise"), now)
    schedule.advance()
    if schedules.crossed(0.01, schedule.previous_fraction, schedule.fraction):
        state.losses.append((schedule.step, state.loss))
    context = context_of(setup, state)
    with setup.timer("strategy"):
        strategy.refine(state.population, context)
        fitter.refine(context)
    update_running_mean(config.average, state.population, schedule.step, schedule.fraction)


def fitter_of(setup: Setup, state: State) -> Fitter:
    """What moves the Gaussians of a run."""
    loss = training_loss(setup.config, setup.depth_weight)
    return Fitter(state.population, setup.backend, loss, setup.hooks, state.per_photo, setup.timer, state.frozen)


def context_of(setup: Setup, state: State) -> StepContext:
    """Where a run is."""
    config, schedule, count = setup.config, state.schedule, state.first_count
    most = max(1, max_gaussians(config, schedule.expected, setup.pixels) - state.frozen_count)
    context = StepContext(
        schedule.step,
        schedule.fraction,
        schedule.previous_fraction,
        setup.scene.extent,
        coarse_to_fine.cap(config.coarse, count, most, schedule.fraction),
        config.seed,
        count,
        tuple(state.losses),
        timed=config.minutes is not None,
    )

    def view_at(index: int) -> TrainingView:
        camera, row = _camera(setup, state, index), setup.rows[index]
        view = TrainingView(index, setup.photos.get(index), camera, config.background, row=row)
        return transform_view(setup.hooks, view, context)

    sampler = ViewSampler(
        view_at,
        len(setup.views),
        setup.backend,
        _options(config, schedule.fraction, setup.scene.extent),
        config.seed,
        lambda cloud: deform(setup.hooks, cloud),
        state.frozen,
    )
    return replace(context, view_sampler=sampler)


def _options(config: TrainConfig, fraction: float, extent: float) -> RenderOptions:
    degree, near = schedules.sh_degree(config, fraction), near_plane(extent)
    return RenderOptions(background=config.background, sh_degree=degree, antialiased=config.antialiased, near=near)


def _training_view(setup: Setup, state: State, context: StepContext, number: int) -> TrainingView:
    """What the picture ``number`` of the run is compared with: a photo, or what a hook puts in its place."""
    view = None
    for hook in setup.hooks:
        if view is None and hook.extra_view is not None:
            view = hook.extra_view(shown(state), context)
    if view is None:
        view = _photo(setup, number)
    view = transform_view(setup.hooks, view, context)
    return dilated_rendering.strided(setup.config.dilate, view, context.fraction, setup.config.seed, number)


def _photo(setup: Setup, number: int) -> TrainingView:
    """The photo that the picture ``number`` of the run shows; the `Fitter` refines its camera."""
    config, photos = setup.config, len(setup.views)
    index = photo_at(config.seed, number, photos)
    with setup.timer("photo"):
        photo = setup.photos.get(index, upcoming=photo_at(config.seed, number + 1, photos))
    view, background, row = setup.views[index], _background(config, number), setup.rows[index]
    return TrainingView(index, photo, view.camera, background, *setup.keypoints[index], row=row, face=view.face)


def _camera(setup: Setup, state: State, index: int) -> Camera:
    """The camera of a training view, with pose refinement as it is by now."""
    camera = setup.views[index].camera
    if POSES not in state.per_photo:
        return camera
    correction = state.per_photo[POSES].parameters.row(setup.rows[index])
    return refined_camera(camera, correction, setup.scene.extent)[0]


def _background(config: TrainConfig, step: int) -> tuple[float, float, float]:
    if not config.random_background:
        return config.background
    return tuple(torch.rand(3, generator=generator(config.seed, "background", step)).tolist())


def _watch(state: State, view: TrainingView, loss: PictureLoss) -> None:
    """Keep the running means of loss and error; raise NonFiniteError for a loss that is not finite."""
    # Reading the loss waits for a GPU, where the fused step checks the gradients anyway: look only now and then.
    every = LOOK_ON_GPU if state.cloud.means.is_cuda else 1
    if state.schedule.step % every:
        return
    if not math.isfinite(loss.loss):
        check_finite(state)
        raise NonFiniteError(_fault("the rendered picture", state.schedule.step + 1))
    if view.index is not None and not view.photo.hidden:  # which says nothing about the cloud
        weight = 1 - (1 - SMOOTHING) ** every
        state.loss, state.mse = _smooth(state.loss, loss.loss, weight), _smooth(state.mse, loss.mse, weight)


def _smooth(mean: float, value: float, weight: float) -> float:
    return value if math.isnan(mean) else mean + weight * (value - mean)


def check_finite(state: State) -> None:
    """Raise NonFiniteError naming the first parameter tensor that holds a NaN or infinity."""
    fault = first_nonfinite(parameters(state.cloud))
    if fault is not None:
        raise NonFiniteError(_fault(f"{fault[0]} of the cloud (row {fault[1]})", state.schedule.step))


def _fault(where: str, step: int) -> str:
    return (
        f"a value that is not finite appeared in {where} at step {step}; resume from the last checkpoint with a lower "
        "learning rate, or report the scene"
    )
