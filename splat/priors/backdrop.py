"""A backdrop: a shell of large, opaque Gaussians behind everything, in the colours the photos show in each direction.

With few photos much of a new view was seen by none of them. There a cloud is transparent, and the picture shows the
background colour; the best guess without any prior is what the photos show nearby. The shell is part of the cloud, so
every viewer draws it, and it is trained like the rest.
"""

import math

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.scene.scene import Scene
from splat.sh import rgb_to_dc

COUNT = 1500
_REACH = 2.0  # radius of the shell, in distances to the farthest known points
_ANGLE = math.radians(15)  # over which colours are averaged
_PRIOR = 0.02  # weight of the mean colour of all photos, against all samples in one direction
_OPACITY = 0.95
_SAMPLES = 24  # pixels a side to which a photo is shrunk


def backdrop(scene: Scene, points: Tensor, sh_degree: int, count: int = COUNT) -> GaussianCloud:
    """The shell for ``scene`` around its known ``points`` (M, 3)."""
    views = scene.train_views
    centre = torch.stack([view.camera.position.double() for view in views]).mean(0)
    far = float((points.double() - centre).norm(dim=1).quantile(0.98)) if len(points) else scene.extent
    radius = _REACH * max(far, scene.extent)
    directions = fibonacci_sphere(count)
    colours = colours_by_direction(scene, directions)
    # Neighbours on the sphere are √(4π/n) apart; a deviation of 0.7 of that leaves no gaps.
    size = 0.7 * radius * math.sqrt(4 * math.pi / count)
    sh = torch.zeros(count, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = rgb_to_dc(colours.float())
    quats = torch.zeros(count, 4)
    quats[:, 0] = 1
    return GaussianCloud(
        means=(centre + radius * directions).float(),
        log_scales=torch.full((count, 3), math.log(size)),
        quats=quats,
        logit_opacities=torch.full((count,), math.log(_OPACITY / (1 - _OPACITY))),
        sh=sh,
    )


def fibonacci_sphere(count: int) -> Tensor:
    """(count, 3) float64 unit vectors, evenly spread."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    height = 1 - 2 * index / count
    turn = math.pi * (1 + math.sqrt(5)) * index
    level = (1 - height**2).sqrt()
    return torch.stack([level * turn.cos(), level * turn.sin(), height], 1)


def colours_by_direction(scene: Scene, directions: Tensor) -> Tensor:
    """(N, 3) float64 in [0, 1]: mean colour of the training photos around each of ``directions`` (N, 3)."""
    rays, colours = [], []
    for view in scene.train_views:
        photo = view.load()
        small = view.camera.resized(_SAMPLES, _SAMPLES)
        picture = photo.rgb.permute(2, 0, 1)[None].double() / 255
        weight = torch.ones(1, 1, *picture.shape[2:], dtype=torch.float64)
        if photo.mask is not None:
            weight = photo.mask[None, None].double()
        pooled = torch.nn.functional.adaptive_avg_pool2d(torch.cat([picture * weight, weight], 1), _SAMPLES)
        seen = pooled[0, 3].flatten() > 0.5
        grid = torch.arange(_SAMPLES, dtype=torch.float64) + 0.5
        x, y = (grid - small.cx) / small.fx, (grid - small.cy) / small.fy
        local = torch.stack(
            [x.expand(_SAMPLES, -1), y[:, None].expand(-1, _SAMPLES), torch.ones(_SAMPLES, _SAMPLES)], -1
        )
        world = torch.nn.functional.normalize(
            local.reshape(-1, 3).double() @ view.camera.world_to_camera[:3, :3].double()
        )
        rays.append(world[seen])
        colours.append((pooled[0, :3] / pooled[0, 3].clamp_min(1e-6)).reshape(3, -1).T[seen])
    rays, colours = torch.cat(rays), torch.cat(colours)
    weights = torch.exp((directions @ rays.T - 1) / _ANGLE**2)  # von Mises–Fisher
    most = weights.sum(1).max()
    mean = colours.mean(0)
    return (weights @ colours + _PRIOR * most * mean) / (weights.sum(1, keepdim=True) + _PRIOR * most)
