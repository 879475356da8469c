"""Background colour of a scene: that of a plain backdrop which the photos share, else their mean colour."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.scene.scene import View

_RIM = 0.02  # of the shorter side: how wide the rim of a photo is
_SHARE = 0.6  # of every photo's rim that a plain backdrop fills
_LIKE = 4  # grey levels by which a backdrop's pixels differ from its colour, at most


def colour_behind(views: Sequence[View]) -> tuple[float, float, float]:
    """The plain backdrop's colour in [0, 1], or else the mean colour: the best guess where nothing is known."""
    return plain_colour(views) or mean_colour(views)


def mean_colour(views: Sequence[View]) -> tuple[float, float, float]:
    """Mean of the photos' colours in [0, 1], each photo counting alike; masked pixels do not count."""
    means = []
    for view in views:
        photo = view.load()
        pixels = photo.rgb.float() if photo.mask is None else photo.rgb[photo.mask].float()
        if pixels.numel():
            means.append(pixels.reshape(-1, 3).mean(0) / 255)
    return _rounded(torch.stack(means).mean(0)) if means else (0.0, 0.0, 0.0)


def plain_colour(views: Sequence[View]) -> tuple[float, float, float] | None:
    """The one colour in [0, 1] that fills most of the rims of all photos, as in a studio; None if there is none.

    Depth must not be completed there: it would stand as walls in front of the other photos.
    """
    rims = []
    for view in views:
        photo = view.load()
        rim = torch.ones(photo.rgb.shape[:2], dtype=torch.bool)
        wide = max(1, round(_RIM * min(rim.shape)))
        rim[wide:-wide, wide:-wide] = False
        if photo.mask is not None:
            rim &= photo.mask
        if bool(rim.any()):
            rims.append(photo.rgb[rim])
    if not rims:
        return None
    colour = _rounded(torch.cat(rims).float().median(0).values / 255)
    return colour if all(float(of_colour(rim, colour).float().mean()) >= _SHARE for rim in rims) else None


def of_colour(rgb: Tensor, colour: tuple[float, float, float]) -> Tensor:
    """(...) bool: which of ``rgb`` (..., 3) uint8 are a plain backdrop of ``colour``."""
    return ((rgb.float() - 255 * torch.tensor(colour, device=rgb.device)).abs() <= _LIKE).all(-1)


def _rounded(colour: Tensor) -> tuple[float, float, float]:
    red, green, blue = (round(value, 4) for value in colour.tolist())
    return red, green, blue
