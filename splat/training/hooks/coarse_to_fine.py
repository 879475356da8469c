"""Coarse to fine: small pictures and few Gaussians first. After Chen et al. 2025, "DashGaussian", §4.

DashGaussian derives its levels from the photos' spectra and never shrinks by more than 8. On a CPU a step costs about
as much per pixel as per Gaussian, so here both follow one curve: the factor falls log-linearly from `start` to 1, in
steps of √2, and the largest number of Gaussians rises with the share of the pixels in use.
"""

import math
from collections.abc import Callable
from dataclasses import replace

from splat.scene.images import Photo, shrunk
from splat.training.config.config import CoarseConfig
from splat.training.hooks.hook import Part
from splat.training.step_types import Shot, When

CAP_POWER = 0.5  # the cap is scaled by (fraction of the pixels in use) ** this while photos are small
LEAST_SIDE = 16  # pixels; no picture is made smaller


def factor(config: CoarseConfig, fraction: float) -> float:
    """What the photos' sides are divided by at ``fraction`` of the run: a power of √2, 1 from ``until`` on."""
    if config.start <= 1 or fraction >= config.until:
        return 1.0
    exact = config.start ** (1 - fraction / config.until)
    return 2 ** (math.ceil(2 * math.log2(exact) - 1e-9) / 2)


def cap(config: CoarseConfig, first: int, cap: int, fraction: float) -> int:
    """Largest number of Gaussians at ``fraction`` of a run that began with ``first`` and may end with ``cap``."""
    if config.start <= 1 or fraction >= config.until or first >= cap:
        return cap
    pixels = config.start ** (-2 * (1 - fraction / config.until))  # share of them, without the steps of the levels
    return first + math.floor((cap - first) * pixels**CAP_POWER)


def part(config: CoarseConfig, limit: int) -> Part:
    """The part that shrinks photos and cameras; keeps those of the level in use, up to ``limit`` bytes."""
    return Part("coarse", view=_shrinking(config, limit))


def _shrinking(config: CoarseConfig, limit: int) -> Callable[[Shot, When], Shot]:
    kept: dict[int, Photo] = {}
    level = held = 0

    def view(shot: Shot, when: When) -> Shot:
        nonlocal level, held
        by = factor(config, when.fraction)
        if by != level:
            kept.clear()
            level, held = by, 0
        size = sizes(shot.camera.width, shot.camera.height, by)
        if size == (shot.camera.width, shot.camera.height):
            return shot
        photo = kept.get(shot.index) if shot.index is not None else None
        if photo is None:
            photo = shrunk(shot.photo, *size)
            if shot.index is not None and held + photo.nbytes <= limit:
                kept[shot.index] = photo
                held += photo.nbytes
        ratio = shot.camera.width / size[0]
        pixels = None if shot.pixels is None else shot.pixels / ratio
        return replace(shot, photo=photo, camera=shot.camera.resized(*size), pixels=pixels)

    return view


def sizes(width: int, height: int, by: float) -> tuple[int, int]:
    """Width and height divided by ``by``, but with no side under `LEAST_SIDE` unless it was to begin with."""
    by = max(1.0, min(by, min(width, height) / LEAST_SIDE))
    return max(1, round(width / by)), max(1, round(height / by))
