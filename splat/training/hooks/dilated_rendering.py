"""Dilated rendering: each step draws and compares every s-th pixel of every s-th row (Feng et al. 2026, "Turbo-GS").

The first pixel of the grid is drawn at random, so all pixels get their turn. What is drawn is exactly what the full
picture has at these pixels (`Camera.strided`); L1 and its gradient are those of a sample of the pixels. SSIM is taken
on the grid, as in the paper: its window spans s times more of the photo. Strategies that look at whole photos see
whole ones.
"""

from dataclasses import replace

import torch

from splat.rendering.types import BLUR
from splat.scene.images import Photo
from splat.training.config.config import DilateConfig
from splat.training.hooks.coarse_to_fine import LEAST_SIDE
from splat.training.rng import generator
from splat.training.training_view import TrainingView


def strided(config: DilateConfig, view: TrainingView, fraction: float, seed: int, number: int) -> TrainingView:
    """``view``, the picture ``number`` of a run, on the grid that ``config`` wants at ``fraction`` of it."""
    stride, width, height = config.stride, view.camera.width, view.camera.height
    if stride == 1 or fraction >= config.until:
        return view
    if width * height < config.least or min(width, height) < stride * LEAST_SIDE:
        return view
    x, y = torch.randint(0, stride, (2,), generator=generator(seed, "dilate", number)).tolist()
    channels = (view.photo.rgb, view.photo.mask, view.photo.alpha)
    photo = Photo(*(None if each is None else each[y::stride, x::stride].contiguous() for each in channels))
    pixels = None
    if view.pixels is not None:
        pixels = (view.pixels - view.pixels.new_tensor([x + 0.5, y + 0.5])) / stride + 0.5
    camera = view.camera.strided(stride, x, y)
    return replace(view, photo=photo, camera=camera, pixels=pixels, blur=BLUR / stride**2)
