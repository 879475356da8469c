"""Transient occluders: what one photo shows and the others do not, found by its residuals and left out of the loss.

As in RobustNeRF (Sabour et al., CVPR 2023): residuals that are large against the photo's own distribution, smoothed so
that a mask covers areas and not single edges. Here each photo keeps a running mean of its residuals, so that one bad
step does not flip its mask.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from splat.priors.views.enhancer import ViewEnhancer, inpainted
from splat.scene.images import Photo
from splat.training.config.config import WildConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

_NEWEST = 0.1  # weight of the newest residual in the running mean
_INLIERS = 0.8  # share of a photo that shows no occluder, usually
_ABOVE = 2.0  # a residual above so many times the largest of those is suspicious …
_LEAST = 0.1  # … if it is also larger than this
_AREA = 0.5  # share of suspicious pixels in the neighbourhood that makes an occluder
_REPAINT = 50  # visits of a photo between two inpaintings


def hook(config: WildConfig, photos: int, enhance: ViewEnhancer | None, seed: int) -> TrainingHook:
    """Masks occluders in the photos; with ``enhance`` it trains on what that invents behind them instead."""
    residuals: dict[int, Tensor] = {}
    painted: dict[int, tuple[int, Tensor]] = {}
    visits = [0] * photos

    def refine_target(picture: Tensor, view: TrainingView, context: StepContext) -> TrainingView:
        if view.index is None:
            return view
        residual = (picture.cpu() - view.photo.rgb.float() / 255).abs().mean(-1)
        old = residuals.get(view.index)
        residuals[view.index] = residual if old is None else torch.lerp(old, residual, _NEWEST)
        visits[view.index] += 1
        if context.fraction < config.occluder_start:
            return view
        hidden = occluded(residuals[view.index], view.photo.mask)
        if enhance is not None and bool(hidden.any()):
            return replace(view, photo=_painted(view, hidden))
        return replace(view, photo=Photo(view.photo.rgb, _both(view.photo.mask, ~hidden), view.photo.alpha))

    def _painted(view: TrainingView, hidden: Tensor) -> Photo:
        last = painted.get(view.index)
        if last is None or visits[view.index] - last[0] >= _REPAINT:
            done = inpainted(enhance, view.photo.rgb.float() / 255, hidden, seed + view.index)
            painted[view.index] = last = (visits[view.index], (done * 255 + 0.5).to(torch.uint8).contiguous())
        return Photo(torch.where(hidden[..., None], last[1], view.photo.rgb), view.photo.mask, view.photo.alpha)

    def state() -> dict[str, Any]:
        return {"residuals": dict(residuals), "painted": dict(painted), "visits": list(visits)}

    def restore(packed: dict[str, Any]) -> None:
        residuals.update(packed["residuals"])
        painted.update(packed["painted"])
        visits[:] = packed["visits"]

    return TrainingHook("transient masks", refine_target=refine_target, state=state, restore=restore)


def occluded(residual: Tensor, mask: Tensor | None = None) -> Tensor:
    """(H, W) bool: where a photo shows an occluder, judged by its running ``residual``; ``mask``: what counts."""
    counting = residual if mask is None else residual[mask]
    if counting.numel() == 0:
        return torch.zeros_like(residual, dtype=torch.bool)
    sample = counting.flatten()[:: max(1, counting.numel() // 100_000)]
    limit = max(_ABOVE * float(torch.quantile(sample, _INLIERS)), _LEAST)
    side = max(3, min(residual.shape) // 32) | 1
    suspicious = (residual > limit).float()[None, None]
    near = avg_pool2d(suspicious, side, 1, side // 2, count_include_pad=False)
    area = (near > _AREA).float()
    grown = avg_pool2d(area, side, 1, side // 2, count_include_pad=False)[0, 0] > 0
    return grown if mask is None else grown & mask


def _both(a: Tensor | None, b: Tensor) -> Tensor:
    return b if a is None else a & b
