"""A scene small enough for the reference backend: blobs seen by a ring of cameras, photos rendered from the truth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import RenderOptions, render
from splat.scene import Photo, Points, Scene, View
from splat.training import TrainConfig, TrainResult, train


@dataclass(frozen=True)
class MemorySource:
    """Stands in for an image file."""

    photo: Photo
    has_mask: bool = False
    has_alpha: bool = False

    def load(self) -> Photo:
        return self.photo


def truth(count: int = 24, seed: int = 5) -> GaussianCloud:
    """Random soft blobs in a unit ball."""
    g = torch.Generator().manual_seed(seed)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    means = means * torch.rand(count, 1, generator=g) ** (1 / 3)
    return GaussianCloud(
        means=means,
        log_scales=torch.log(0.08 + 0.15 * torch.rand(count, 3, generator=g)),
        quats=torch.randn(count, 4, generator=g),
        logit_opacities=torch.full((count,), 2.0),
        sh=(torch.rand(count, 1, 3, generator=g) - 0.5) * 3,
    )


def ring(count: int, size: int, radius: float = 4.0) -> list[Camera]:
    """Cameras around the origin, at changing heights."""
    up, target = torch.tensor([0.0, 1.0, 0.0]), torch.zeros(3)
    cameras = []
    for number in range(count):
        angle = 2 * math.pi * number / count
        position = torch.tensor([radius * math.cos(angle), 1.2 * math.sin(2.5 * angle), radius * math.sin(angle)])
        cameras.append(Camera.look_at(position, target, up, size, size, 40.0))
    return cameras


def mini_scene(views: int = 10, size: int = 48, points: int = 60, backend: str = "reference") -> Scene:
    """Every 8th view held out; points scattered around the blobs, coloured like them."""
    cloud = truth()
    made = []
    for number, camera in enumerate(ring(views, size)):
        rgb = render(cloud, camera, backend, RenderOptions(background=(0.1, 0.1, 0.1))).rgb
        photo = Photo((rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8))
        made.append(View(f"{number:03d}.png", camera, MemorySource(photo), held_out=number % 8 == 0))
    g = torch.Generator().manual_seed(1)
    rows = torch.randint(0, len(cloud), (points,), generator=g)
    xyz = (cloud.means[rows] + 0.1 * torch.randn(points, 3, generator=g)).to(torch.float64)
    colours = ((0.5 + 0.28209 * cloud.sh[rows, 0]).clamp(0, 1) * 255).to(torch.uint8)
    empty = torch.zeros(points + 1, dtype=torch.int64)
    cloud_points = Points(
        xyz, colours, torch.zeros(points, dtype=torch.float64), empty, torch.zeros(0, dtype=torch.int64)
    )
    return Scene("mini", Path("mini"), "colmap", tuple(made), cloud_points)


def train_in_pieces(scene: Scene, config: TrainConfig, out: Path, stops: Sequence[int | None]) -> TrainResult:
    """The result of a run that is stopped after each of these steps and resumed from ``out``; None: at its end."""
    for number, at in enumerate(stops):
        steps: list[int] = []
        result = train(
            scene, config, out, resume=number > 0,
            progress=lambda now, steps=steps: steps.append(now.step), stop=lambda at=at, steps=steps: steps[-1] == at,
        )  # fmt: skip
    return result
