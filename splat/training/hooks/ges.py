"""Generalised exponential Gaussians: Hamdi et al. 2024, "GES", as its released code draws them.

Each Gaussian has a shape b, and is drawn as an ordinary Gaussian of scales exp(s) · φ(b), φ(b) = 2σ(b/10). The cloud
that is written has log s + log φ(b) for its scales (the released code writes s · φ, a defect). Now and then b is folded
into s; the released code sets it to 0, which changes the picture.
"""

import functools

import torch
from torch import Tensor
from torch.nn.functional import conv2d, interpolate, logsigmoid

from splat.cloud import GaussianCloud
from splat.rendering.types import ImageGradients, Rendering
from splat.training import population as edit
from splat.training.config.config import GesConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.losses.image import composite
from splat.training.population import Population
from splat.training.schedules import crossed
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

SHAPE = "shape"
"""Column of a cloud in training: b."""
SHAPE_RATE = 1e-3  # learning rate of the shapes
STRENGTH = 0.1
# Fractions of a run: between two foldings of the shapes into the scales, and up to the last (every 750 of 30,000 steps,
# up to 11,250): later ones would disturb scales that have settled.
RESET_EVERY, RESET_UNTIL = 0.025, 0.375
LEAST = 0.005  # φ of a Gaussian that is removed
_SHRINK = 0.2  # of the picture that is searched for frequencies
_CUT = 0.5  # of the largest difference of Gaussians


def hook(config: GesConfig) -> TrainingHook:
    """The hook with the settings ``config``."""
    penalty = functools.partial(frequency_error, config.frequency) if config.frequency > 0 else None
    if not config.shape:
        return TrainingHook("ges", penalty=penalty)

    def initialize(cloud: GaussianCloud) -> GaussianCloud:
        return cloud.replace(extras=dict(cloud.extras) | {SHAPE: torch.zeros_like(cloud.logit_opacities)})

    return TrainingHook(
        "ges",
        initialize=initialize,
        deform=lambda cloud, view: shaped(cloud),
        rates={SHAPE: SHAPE_RATE},
        penalty=penalty,
        refine=fold_and_prune,
    )


def log_width(shape: Tensor) -> Tensor:
    """log φ(b)."""
    return logsigmoid(STRENGTH * shape) + torch.log(shape.new_tensor(2.0))


def shaped(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` as an ordinary one."""
    extras = {name: values for name, values in cloud.extras.items() if name != SHAPE}
    wide = cloud.log_scales + log_width(cloud.extras[SHAPE])[:, None]
    return cloud.replace(log_scales=wide, extras=extras)


def fold_and_prune(population: Population, context: StepContext) -> None:
    """Where one is due, remove Gaussians whose shape made them vanish, and fold the shapes into the scales."""
    due = crossed(RESET_EVERY, context.previous_fraction, context.fraction)
    if context.fraction > RESET_UNTIL or not due:
        return
    widths = log_width(population.cloud.extras[SHAPE])
    edit.keep(population, widths.exp() >= LEAST)
    cloud = population.cloud
    cloud.log_scales.add_(log_width(cloud.extras[SHAPE])[:, None])  # the scales' moments stay right: same gradient
    rows = torch.arange(len(cloud), device=cloud.means.device)
    edit.replace(population, rows, {SHAPE: torch.zeros_like(cloud.extras[SHAPE])})


# ---- the frequency-modulated loss ----


def frequency_error(
    weight: float, rendering: Rendering, view: TrainingView, context: StepContext
) -> tuple[float, ImageGradients]:
    """``weight`` · (L1 where the picture has the frequencies of the moment − L1), and its gradient."""
    rgb = rendering.rgb
    target = composite(view.photo, view.background).to(rgb) / 255
    valid = torch.ones_like(rgb[..., 0]) if view.photo.mask is None else view.photo.mask.to(rgb)
    change = weight * (frequency_mask(rgb, context.fraction) - 1) * valid / (3 * valid.sum().clamp_min(1))
    difference = rgb - target
    value = (change[..., None] * difference.abs()).sum()
    return float(value), ImageGradients(rgb=change[..., None] * difference.sign())


def frequency_mask(rgb: Tensor, fraction: float) -> Tensor:
    """(H, W) 1 where the difference of Gaussians of the picture (H, W, 3) says so, else 0.

    Wide Gaussians in the middle of the run, narrow ones at both ends; smooth places in the first half.
    """
    percent = 100 * fraction
    sigma = 0.1 + 0.1 * (100 - percent if percent >= 50 else percent)
    grey = rgb.mean(2)[None, None]
    small = interpolate(grey, scale_factor=_SHRINK, mode="bilinear") if min(rgb.shape[:2]) >= 10 else grey
    difference = blurred(small, sigma) - blurred(small, 2 * sigma)
    difference = interpolate(difference, size=rgb.shape[:2], mode="bilinear")[0, 0]
    difference = difference - difference.min()
    difference = difference / difference.max().clamp_min(1e-12)
    chosen = 1 - difference if percent < 50 else difference
    return (chosen >= _CUT).to(rgb)


def blurred(image: Tensor, sigma: float) -> Tensor:
    """``image`` (1, 1, H, W) under a Gaussian of ``sigma`` pixels, zeros outside, kernel cut at 3σ."""
    radius = round(3 * sigma)
    offsets = torch.arange(-radius, radius + 1, dtype=image.dtype, device=image.device)
    line = torch.exp(-(offsets**2) / (2 * sigma**2))
    line = (line / line.sum())[None, None]
    across = conv2d(image, line[:, :, None, :], padding=(0, radius))
    return conv2d(across, line[:, :, :, None], padding=(radius, 0))
