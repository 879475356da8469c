"""A scene small enough for the reference backend, and settings for a few steps on it."""

import math
from dataclasses import replace
from pathlib import Path

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import render
from splat.scene import Photo, Points, Scene, View
from splat.training.config.config import TrainConfig


class Memory:
    """Stands in for an image file."""

    has_mask = has_alpha = False

    def __init__(self, photo: Photo) -> None:
        self.photo = photo

    def load(self) -> Photo:
        return self.photo


def mini_scene(views: int = 4, size: int = 32, change=None) -> Scene:
    """Blobs seen by ``views`` cameras side by side, the first held out; ``change(rgb, number)`` alters the photos."""
    g = torch.Generator().manual_seed(4)
    cloud = GaussianCloud(
        means=(torch.rand(40, 3, generator=g) - 0.5) * 1.6,
        log_scales=torch.full((40, 3), math.log(0.15)),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(40, 1),
        logit_opacities=torch.full((40,), 2.5),
        sh=(torch.rand(40, 1, 3, generator=g) - 0.5) * 3,
    )
    made = []
    for number in range(views):
        place = torch.tensor([0.5 * (number - views / 2), 0.1 * number, -3.5])
        camera = Camera.look_at(place, torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]), size, size, 40.0)
        rgb = render(cloud, camera).rgb.clamp(0, 1)
        rgb = rgb if change is None else change(rgb, number)
        photo = Photo((rgb * 255 + 0.5).to(torch.uint8))
        made.append(View(f"{number}.png", camera, Memory(photo), held_out=number == 0))
    empty, none = torch.zeros(41, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    colours = ((0.5 + 0.28209 * cloud.sh[:, 0]).clamp(0, 1) * 255).to(torch.uint8)
    points = Points(cloud.means.double(), colours, torch.zeros(40).double(), empty, none)
    return Scene("mini", Path("mini"), "colmap", tuple(made), points)


def short(**changes) -> TrainConfig:
    """Settings of a run without growth."""
    config = TrainConfig(strategy="adc", gaussians=500, eval_every=0.0, sh_degree=0, **changes)
    return replace(config, adc=replace(config.adc, gradient=1e9))
