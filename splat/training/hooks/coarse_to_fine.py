"""Coarse to fine: small pictures and few Gaussians first. After Chen et al. 2025, "DashGaussian", §4.

DashGaussian derives its levels from the photos' spectra and never shrinks by more than 8. On a CPU a step costs about
as much per pixel as per Gaussian, so here both follow one curve: the factor falls log-linearly from `start` to 1, in
steps of √2, and the largest number of Gaussians rises with the fraction of the pixels in use.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from splat.scene.images import Photo, shrunk
from splat.training.config.config import CoarseConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

LEAST_SIDE = 16  # pixels; no picture is made smaller


def factor(config: CoarseConfig, fraction: float) -> float:
    """What the photos' sides are divided by at ``fraction`` of the run: a power of √2, 1 from ``until`` on."""
    if config.start <= 1 or fraction >= config.until:
        return 1.0
    exact = config.start ** (1 - fraction / config.until)
    return 2 ** (math.ceil(2 * math.log2(exact) - 1e-9) / 2)


def cap(config: CoarseConfig, first: int, cap: int, fraction: float) -> int:
    """Largest number of Gaussians at ``fraction`` of a run that began with ``first`` and may end with ``cap``."""
    if config.start <= 1 or config.count == 0 or fraction >= config.until or first >= cap:
        return cap
    pixels = config.start ** (-2 * (1 - fraction / config.until))  # fraction of them, without the steps of the levels
    return first + math.floor((cap - first) * pixels**config.count)


def hook(config: CoarseConfig, limit: int) -> TrainingHook:
    """The hook that shrinks photos and cameras; keeps those of the level in use, up to ``limit`` bytes."""
    return TrainingHook("coarse", transform_view=_shrinking(config, limit))


def _shrinking(config: CoarseConfig, limit: int) -> Callable[[TrainingView, StepContext], TrainingView]:
    kept: dict[int, Photo] = {}
    level = held = 0

    def transform(view: TrainingView, context: StepContext) -> TrainingView:
        nonlocal level, held
        by = factor(config, context.fraction)
        if by != level:
            kept.clear()
            level, held = by, 0
        size = sizes(view.camera.width, view.camera.height, by)
        if size == (view.camera.width, view.camera.height):
            return view
        photo = kept.get(view.index) if view.index is not None else None
        if photo is None:
            photo = shrunk(view.photo, *size)
            if view.index is not None and held + photo.nbytes <= limit:
                kept[view.index] = photo
                held += photo.nbytes
        ratio = view.camera.width / size[0]
        pixels = None if view.pixels is None else view.pixels / ratio
        return replace(view, photo=photo, camera=view.camera.resized(*size), pixels=pixels)

    return transform


def sizes(width: int, height: int, by: float) -> tuple[int, int]:
    """Width and height divided by ``by``, but with no side under `LEAST_SIDE` unless it was to begin with."""
    by = max(1.0, min(by, min(width, height) / LEAST_SIDE))
    return max(1, round(width / by)), max(1, round(height / by))
