"""Cameras around a cloud that has no scene: where a viewer would look from."""

import math

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.scene.scene import Scene

GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
SIDE = 256  # pixels
FOV = 50.0  # degrees
# Share of the visible mass that must lie within the sphere that is looked at; the rest is sky and stray Gaussians.
INSIDE = 0.9
NEAR_AND_FAR = (1.15, 1.8, 0.6)  # distances in turn, times the one at which the sphere fills the picture


def views_around(cloud: GaussianCloud, count: int = 12, side: int | None = None, phase: float = 0.0) -> list[Camera]:
    """``count`` views spread evenly over a sphere about the bulk of the finite ``cloud``, at three distances in turn.

    The middle is the median and the radius a quantile of the centres, weighted by opacity times size, so that strays
    far away move neither.

    Args:
        side: of the pictures, pixels; SIDE if None.
        phase: turns the directions by this part of one step; views of another phase judge without bias.
    """
    if len(cloud) == 0:
        return []
    side = side or SIDE
    means = cloud.means.detach().double().cpu()
    weights = mass(cloud)
    center = torch.stack([quantile(means[:, axis], weights, 0.5) for axis in range(3)])
    radius = float(quantile((means - center).norm(dim=1), weights, INSIDE))
    radius = max(radius, 3 * float(quantile(cloud.scales.detach().double().cpu().amax(1), weights, 0.5)), 1e-9)
    fit = radius / math.sin(math.radians(FOV) / 2)
    cameras = []
    for number in range(count):
        height = 1 - 2 * (number + 0.25 + 0.5 * (phase % 1)) / count
        angle = GOLDEN_ANGLE * (number + phase)
        across = math.sqrt(max(1 - height * height, 0.0))
        direction = torch.tensor([across * math.cos(angle), height, across * math.sin(angle)], dtype=torch.float64)
        up = torch.tensor([0.0, -1.0, 0.0] if across > 0.1 else [0.0, 0.0, 1.0], dtype=torch.float64)
        position = center + fit * NEAR_AND_FAR[number % len(NEAR_AND_FAR)] * direction
        cameras.append(Camera.look_at(position, center, up, side, side, FOV))
    return cameras


def scene_views(scene: Scene, held_out: bool = False, most: int | None = None) -> list[Camera]:
    """Cameras of the training (or held-out) photos; at most ``most``, evenly chosen."""
    views = scene.test_views if held_out else scene.train_views
    step = max(1, math.ceil(len(views) / most)) if most else 1
    return [view.camera for view in views[::step]]


def mass(cloud: GaussianCloud) -> torch.Tensor:
    """(N,) float64 opacity times the area of the median face, none larger than a thousand times the median."""
    log_scales = cloud.log_scales.detach().double().cpu().clamp(-30, 30)
    area = (log_scales.sum(1) * 2 / 3).exp()
    area = area.clamp_max(1000 * float(area.median()))
    return area * cloud.logit_opacities.detach().double().cpu().sigmoid() + 1e-30


def quantile(values: torch.Tensor, weights: torch.Tensor, fraction: float) -> torch.Tensor:
    """The value below which ``fraction`` of the weight lies."""
    order = values.argsort()
    total = weights[order].cumsum(0)
    return values[order[min(int(torch.searchsorted(total, fraction * total[-1])), len(values) - 1)]]
