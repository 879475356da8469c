"""`prepare`: the priors that a run's settings switch on, as hooks."""

import sys
import warnings

from splat.depth import monocular, multi_view_stereo
from splat.depth.completion import completed
from splat.depth.multi_view_stereo import DensePoints, DepthMap
from splat.errors import InputError
from splat.priors import depth_prior
from splat.priors.points import floater_removal, proximity_unpooling
from splat.priors.points.dense_initialization import confidence_hook, with_dense
from splat.priors.views import diffusion, iterative_refinement, pseudo_views
from splat.priors.views.enhancer import ViewEnhancer, classical
from splat.priors.wild import transient_masks
from splat.scene.progress import Report, reporter
from splat.scene.scene import Scene
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook


def prepare(
    scene: Scene, config: TrainConfig, enhance: ViewEnhancer | None = None
) -> tuple[Scene, tuple[TrainingHook, ...]]:
    """``scene`` with what the priors in ``config`` know of it, and their hooks.

    ``enhance`` replaces the diffusion model that ``config.enhance.model`` names. Raises InputError for a prior that
    cannot be loaded.
    """
    with reporter(sys.stderr.isatty()) as report:
        return _prepare(scene, config, enhance, report)


def _prepare(scene: Scene, config: TrainConfig, enhance: ViewEnhancer | None, report: Report):
    priors, seed = config.priors, config.seed
    cameras = [view.camera for view in scene.train_views]
    hooks: list[TrainingHook] = []
    maps, dense = None, None
    by_stereo = priors.source == "stereo" and (priors.depth > 0 or priors.normal > 0)
    if priors.dense or priors.virtual > 0 or priors.floaters > 0 or by_stereo:
        maps = multi_view_stereo.depth_maps(scene, report)
        dense = multi_view_stereo.fuse(scene, maps)
    if priors.dense:
        points = dense
        if priors.guess > 0:
            points = multi_view_stereo.fuse(scene, completed(scene, maps), priors.guess)
        scene = with_dense(scene, points)
    if priors.confidence_rates:
        hooks.append(confidence_hook(scene.points))
    if priors.dropout > 0:
        hooks.append(TrainingHook("dropout", dropout=lambda context: priors.dropout * context.fraction))
    if priors.depth > 0 or priors.normal > 0:
        known = maps if priors.source == "stereo" else _asked(scene, config, report)
        if known is None:
            known = maps or multi_view_stereo.depth_maps(scene, report)
        if priors.depth > 0:
            hooks.append(depth_prior.depth_hook(known, priors.depth, seed))
        if priors.normal > 0:
            hooks.append(depth_prior.normal_hook(known, cameras, priors.normal))
    if priors.virtual > 0 and dense is not None:
        hooks.append(pseudo_views.hook(scene, dense, priors.virtual, seed, config.background))
    if priors.floaters > 0 and maps is not None:
        hooks.append(floater_removal.hook(maps, cameras, priors.floaters))
    if priors.proximity > 0:
        hooks.append(proximity_unpooling.hook(priors.proximity))
    if priors.partner > 0:
        from splat.priors.views import co_regularization

        hooks.append(co_regularization.hook(scene, config, tuple(hook for hook in hooks if hook.state is None)))
    return scene, tuple(hooks + _enhanced(scene, config, enhance, dense))


def _enhanced(
    scene: Scene, config: TrainConfig, enhance: ViewEnhancer | None, dense: DensePoints | None
) -> list[TrainingHook]:
    """The hooks that may need an enhancer: refinement, and what is behind occluders."""
    settings, hooks = config.enhance, []
    if enhance is None and settings.model:
        try:
            enhance = diffusion.load(
                settings.model, settings.control, settings.prompt, settings.strength, settings.inference_steps
            )
        except InputError as error:
            warnings.warn(f"{error}; going on without refinement", stacklevel=2)
    if enhance is not None:
        hooks.append(iterative_refinement.hook(scene, config, enhance, dense, config.backend))
    if config.wild.occluders:
        painter = (enhance or classical) if config.wild.inpaint else None
        hooks.append(transient_masks.hook(config.wild, len(scene.train_views), painter, config.seed))
    return hooks


def _asked(scene: Scene, config: TrainConfig, report: Report) -> tuple[DepthMap, ...] | None:
    """Depth of each training view by the monocular prior in ``config``; None, said once, where it cannot be loaded."""
    try:
        prior = monocular.load(config.priors.source)
    except InputError as error:
        warnings.warn(f"{error}; going on with the depth of stereo", stacklevel=2)
        return None
    return monocular.prior_maps(scene, prior, report)
