"""Scenes held in memory, small enough for the reference backend: photos rendered from clouds that are known."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import RenderOptions, render
from splat.runs.train import TrainResult, train
from splat.scene import Photo, Points, Scene, View
from splat.training.config.config import TrainConfig
from splat.training.config.densify import AdcConfig, DensifyConfig

# A run with everything that matters in 120 steps.
TINY = TrainConfig(
    steps=120,
    gaussians=120,
    sh_degree=1,
    background=(0.1, 0.1, 0.1),
    densify=DensifyConfig(every=10),
    adc=AdcConfig(reset_every=0.25),
    checkpoint_seconds=1e-6,
)


@dataclass(frozen=True)
class MemorySource:
    """Stands in for an image file."""

    photo: Photo
    has_mask: bool = False
    has_alpha: bool = False
    files: tuple[Path, ...] = ()

    def load(self) -> Photo:
        return self.photo


def scene_of(pictures: Sequence[Tensor], cameras: Sequence[Camera], held_out: int, xyz: Tensor, sh: Tensor) -> Scene:
    """The photos ``pictures`` (H, W, 3) in 0..1, every ``held_out``th held out; points ``xyz`` coloured by ``sh``."""
    views = []
    for number, (rgb, camera) in enumerate(zip(pictures, cameras, strict=True)):
        photo = Photo((rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8))
        views.append(View(f"{number:03d}.png", camera, MemorySource(photo), held_out=number % held_out == 0))
    count = len(xyz)
    colours = ((0.5 + 0.28209 * sh[:, 0]).clamp(0, 1) * 255).to(torch.uint8)
    first, none = torch.zeros(count + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    points = Points(xyz.to(torch.float64), colours, torch.zeros(count, dtype=torch.float64), first, none)
    return Scene("mini", Path("mini"), "colmap", tuple(views), points)


# ---- soft blobs in a unit ball, seen from all around ----


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


def ring_scene(views: int = 10, size: int = 48, points: int = 60, backend: str = "reference") -> Scene:
    """`truth` seen by a `ring`, every 8th view held out; points scattered around the blobs, coloured like them."""
    cloud, cameras = truth(), ring(views, size)
    options = RenderOptions(background=(0.1, 0.1, 0.1))
    pictures = [render(cloud, camera, backend, options).rgb for camera in cameras]
    g = torch.Generator().manual_seed(1)
    rows = torch.randint(0, len(cloud), (points,), generator=g)
    xyz = cloud.means[rows] + 0.1 * torch.randn(points, 3, generator=g)
    return scene_of(pictures, cameras, 8, xyz, cloud.sh[rows])


# ---- small blobs in a box, seen from one side ----


def row_scene(views: int = 4, size: int = 32, change: Callable[[Tensor, int], Tensor] | None = None) -> Scene:
    """Blobs seen by ``views`` cameras side by side, the first held out; ``change(rgb, number)`` alters the photos."""
    g = torch.Generator().manual_seed(4)
    cloud = GaussianCloud(
        means=(torch.rand(40, 3, generator=g) - 0.5) * 1.6,
        log_scales=torch.full((40, 3), math.log(0.15)),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(40, 1),
        logit_opacities=torch.full((40,), 2.5),
        sh=(torch.rand(40, 1, 3, generator=g) - 0.5) * 3,
    )
    up, target = torch.tensor([0.0, -1.0, 0.0]), torch.zeros(3)
    positions = [torch.tensor([0.5 * (number - views / 2), 0.1 * number, -3.5]) for number in range(views)]
    cameras = [Camera.look_at(position, target, up, size, size, 40.0) for position in positions]
    pictures = [render(cloud, camera).rgb.clamp(0, 1) for camera in cameras]
    if change is not None:
        pictures = [change(rgb, number) for number, rgb in enumerate(pictures)]
    return scene_of(pictures, cameras, views, cloud.means, cloud.sh)


def short(**changes: object) -> TrainConfig:
    """Settings of a run without growth."""
    config = TrainConfig(strategy="adc", gaussians=500, eval_every=0.0, sh_degree=0, **changes)
    return replace(config, densify=replace(config.densify, gradient=1e9))


def train_in_pieces(scene: Scene, config: TrainConfig, out: Path, stops: Sequence[int | None]) -> TrainResult:
    """The result of a run that is stopped after each of these steps and resumed from ``out``; None: at its end."""
    for number, at in enumerate(stops):
        steps: list[int] = []
        result = train(
            scene, config, out, resume=number > 0,
            progress=lambda now, steps=steps: steps.append(now.step), stop=lambda at=at, steps=steps: steps[-1] == at,
        )  # fmt: skip
    return result
