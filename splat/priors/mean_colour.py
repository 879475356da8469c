"""The colour that all photos have on average: the best guess where nothing is known."""

from collections.abc import Sequence

import torch

from splat.scene.scene import View


def mean_colour(views: Sequence[View]) -> tuple[float, float, float]:
    """Mean of the photos' colours in [0, 1], each photo counting alike; masked pixels do not count."""
    means = []
    for view in views:
        photo = view.load()
        pixels = photo.rgb.float() if photo.mask is None else photo.rgb[photo.mask].float()
        if pixels.numel():
            means.append(pixels.reshape(-1, 3).mean(0) / 255)
    if not means:
        return (0.0, 0.0, 0.0)
    red, green, blue = (round(value, 4) for value in torch.stack(means).mean(0).tolist())
    return red, green, blue
