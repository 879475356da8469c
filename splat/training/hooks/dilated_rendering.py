"""Dilated rendering: each step draws and compares every s-th pixel of every s-th row (Feng et al. 2026, "Turbo-GS").

The first pixel of the grid is drawn by lot, so all pixels get their turn. What is drawn is exactly what the full
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
from splat.training.step_types import Shot


def strided(config: DilateConfig, shot: Shot, fraction: float, seed: int, number: int) -> Shot:
    """``shot``, the picture ``number`` of a run, on the grid that ``config`` wants at ``fraction`` of it."""
    stride, width, height = config.stride, shot.camera.width, shot.camera.height
    if stride == 1 or fraction >= config.until:
        return shot
    if width * height < config.min_pixels or min(width, height) < stride * LEAST_SIDE:
        return shot
    x, y = torch.randint(0, stride, (2,), generator=generator(seed, "dilate", number)).tolist()
    channels = (shot.photo.rgb, shot.photo.mask, shot.photo.alpha)
    photo = Photo(*(None if each is None else each[y::stride, x::stride].contiguous() for each in channels))
    pixels = None
    if shot.pixels is not None:
        pixels = (shot.pixels - shot.pixels.new_tensor([x + 0.5, y + 0.5])) / stride + 0.5
    camera = shot.camera.strided(stride, x, y)
    return replace(shot, photo=photo, camera=camera, pixels=pixels, blur=BLUR / stride**2)
