"""Score-guided growth to an exact budget: Mallick et al. 2024, "Taming 3DGS", §4.

Departures from the released code, most of them known defects: the budget is met exactly, also when too few rows pass
the threshold; candidates and the pruned are drawn from themselves, not from rows that have moved meanwhile; no
division by zero without candidates; opacities stay below 1 and trained to the end, so the result is an ordinary
cloud; two Gaussians share their parent's opacity; opacities fade by a weight instead of resets. Sums over pixels
are weighted by αT, the share of a Gaussian in the pixel, where the code counts every pixel a Gaussian touches.
Two additions make small budgets work: a run begins with no more than half of its budget, however many sparse points
there are, and each change also gives the places of the faintest Gaussians to others.
"""

import functools
import math

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.training import population as edit
from splat.training.config.config import TamingConfig
from splat.training.losses.image import compare, composite
from splat.training.population import Population
from splat.training.step_context import StepContext
from splat.training.strategies.splitting import choose, densify, fill
from splat.training.strategies.strategy import Strategy
from splat.training.strategies.view_sampler import ViewSampler
from splat.training.training_view import TrainingView

# Weights of the terms of the score, as in the paper's code.
_LOSS, _EDGES = 50.0, 50.0  # of a pixel
_GRADIENT, _OPACITY, _DEPTH, _RADIUS, _VOLUME = 25.0, 100.0, 5.0, 10.0, 25.0  # of a Gaussian
_SPREAD, _ERROR, _AREA, _BLEND = 50.0, 10.0, 0.1, 50.0  # of a Gaussian's pixels
_VIEW = 50.0


def strategy(config: TamingConfig) -> Strategy:
    """Taming with the settings ``config``."""
    return Strategy(config, ("grad2d", "count"), functools.partial(refine, config))


def refine(config: TamingConfig, population: Population, context: StepContext) -> None:
    """Prune what is transparent and grow to the budget of the moment, every ``config.every`` steps."""
    if context.due(config.every) and context.fraction <= config.stop:
        if context.fraction > config.start:
            grow(config, population, context)
        edit.clear_statistics(population)


def budget(config: TamingConfig, context: StepContext) -> int:
    """Number of Gaussians after the change at ``moment``: B − (B − S)(1 − x)², x from 0 to 1; B at the last change."""
    x = min((context.fraction - config.start) / max(config.stop - config.start, 1e-9), 1.0)
    x = 1.0 if is_last(config, context) else x
    most = context.max_gaussians
    return math.floor(most - (most - min(context.first_count, most)) * (1 - x) ** 2)


def is_last(config: TamingConfig, context: StepContext) -> bool:
    """Whether this is the last change of the run."""
    return context.fraction + context.period(config.every) > config.stop


def grow(config: TamingConfig, population: Population, context: StepContext) -> None:
    """One change: transparent rows out, and as many rows doubled, drawn by score, as the budget wants."""
    statistics = population.statistics
    mean = statistics["grad2d"] / statistics["count"].clamp_min(1)
    to_prune = population.cloud.opacities < config.prune_opacity
    if bool(to_prune.all()):
        return
    share = config.recycle * context.period(config.every) / max(config.stop - config.start, 1e-9)
    to_prune = with_faintest(population.cloud.opacities, to_prune, share)
    room = budget(config, context) - (len(population) - int(to_prune.sum()))
    source = context.generator("taming")
    if room < 0:  # a lower budget than rows: keep the opaque ones
        kept = torch.where(to_prune, -1.0, population.cloud.opacities).argsort(descending=True, stable=True)
        to_prune[kept[int((~to_prune).sum()) + room :]] = True
        edit.keep(population, ~to_prune)
        return
    score = scores(population.cloud, mean, context, config.views)
    candidates = (mean >= config.gradient) & ~to_prune & (score > 0)
    chosen = choose(score, candidates, room, source)
    missing = min(room - int(chosen.sum()), int((~to_prune & ~chosen).sum()))
    if missing > 0:
        rest = ~to_prune & ~chosen
        chosen |= choose(score + 1e-12, rest, missing, source)
    densify(population, chosen, to_prune, config.small * context.extent, config.split_factor)
    if is_last(config, context):
        fill(population, context.max_gaussians, config.small * context.extent, config.split_factor, source)


def with_faintest(opacities: Tensor, to_prune: Tensor, share: float) -> Tensor:
    """``to_prune`` (N,) and of the others the least opaque, until ``share`` of all rows (but not all) are in."""
    count = min(max(math.floor(share * len(to_prune)), int(to_prune.sum())), len(to_prune) - 1)
    order = torch.where(to_prune, -1.0, opacities).argsort(stable=True)
    more = to_prune.clone()
    more[order[:count]] = True
    return more


# ---- the score ----


def scores(cloud: GaussianCloud, gradient: Tensor, context: StepContext, views: int) -> Tensor:
    """(N,) sum over ``views`` photos, drawn at random, of each Gaussian's `view_score`."""
    total = torch.zeros(len(cloud), device=cloud.device)
    sampler = context.view_sampler
    for view in sampler.sample(views, "taming", context.step):
        rendering, _ = sampler.render(cloud, view)
        target = composite(view.photo, sampler.options.background)
        mask = view.photo.mask
        loss = compare(rendering.rgb, target, mask, 0.2).loss
        target = target.to(rendering.rgb) / 255
        weight = pixel_weights(rendering.rgb, target, mask)
        height, width = weight.shape
        sums, blend = spreads(sampler, cloud, view, weight, rendering.means2d)
        drawn = sampler.deform(cloud)
        terms = gaussian_terms(drawn, gradient, view.camera, rendering.radii)
        terms |= {"spread": (_SPREAD, sums[0]), "error": (_ERROR, sums[1]), "blend": (_BLEND, blend)}
        terms["area"] = (_AREA, math.pi * rendering.radii.to(blend).square().clamp_max(height * width))
        total += torch.where(rendering.visible, _VIEW * loss * combined(terms), 0.0)
    return total


def pixel_weights(rgb: Tensor, target: Tensor, mask: Tensor | None) -> Tensor:
    """(H, W) error and edges of the photo, each from 0 to 1 and times 50; 0 outside the mask."""
    error = (rgb - target).abs().mean(2)
    grey = target @ target.new_tensor([0.299, 0.587, 0.114])
    padded = torch.nn.functional.pad(grey[None, None], (1, 1, 1, 1), mode="replicate")
    around = torch.nn.functional.avg_pool2d(padded, 3, stride=1)[0, 0] * 9
    edges = (9 * grey - around).clamp(0, 1)
    weight = _LOSS * _between(error) + _EDGES * _between(edges)
    return weight if mask is None else weight * mask.to(weight)


def _between(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1e-12)


def spreads(
    sampler: ViewSampler, cloud: GaussianCloud, view: TrainingView, weight: Tensor, centres: Tensor
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """For each Gaussian √(Σ αT · Σ αT ‖centre − pixel‖²) and Σ αT · ``weight``; and Σ αT.

    The first stands for Σ αT ‖centre − pixel‖, which is no sum of given pixel values: it is its upper bound (Jensen).
    """
    height, width = weight.shape
    y, x = torch.meshgrid(
        torch.arange(height, device=weight.device) + 0.5, torch.arange(width, device=weight.device) + 0.5, indexing="ij"
    )
    # Coordinates from the middle of the picture keep the differences below exact enough in float32.
    x, y = x - width / 2, y - height / 2
    ones = torch.ones_like(weight)
    squares, places = torch.stack([ones, weight, x * x + y * y], -1), torch.stack([x, y, torch.zeros_like(x)], -1)
    sums, first = sampler.weighted_sums(cloud, view, squares, places)
    (blend, error, square), (along, down, _) = sums.unbind(1), first.unbind(1)
    cx, cy = centres[:, 0] - width / 2, centres[:, 1] - height / 2
    moment = (square - 2 * (cx * along + cy * down) + (cx * cx + cy * cy) * blend).clamp_min(0)
    return ((blend * moment).sqrt(), error), blend


def gaussian_terms(
    cloud: GaussianCloud, gradient: Tensor, camera: Camera, radii: Tensor
) -> dict[str, tuple[float, Tensor]]:
    """Weight and value (N,) of the terms that need no pixels."""
    _, depth = camera.project(cloud.means)
    seen = radii > 0
    return {
        "gradient": (_GRADIENT, torch.where(seen, gradient, 0.0)),
        "opacity": (_OPACITY, torch.where(seen, cloud.opacities, 0.0)),
        "depth": (_DEPTH, torch.where(seen, depth, 0.0)),
        "radius": (_RADIUS, radii.to(gradient)),
        "volume": (_VOLUME, torch.where(seen, cloud.scales.prod(1), 0.0)),
    }


def combined(terms: dict[str, tuple[float, Tensor]]) -> Tensor:
    """(N,) Σ over terms of weight · value / median of the positive values."""
    total = None
    for weight, values in terms.values():
        positive = values[values > 0]
        part = weight * (values / positive.median()).clamp_min(0) if len(positive) else torch.zeros_like(values)
        total = part if total is None else total + part
    return total
