"""From a scene's sparse points to the first Gaussians."""

import math

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.scene.scene import Scene
from splat.sh import rgb_to_dc
from splat.training.rng import generator

NEIGHBOURS = 3
# Points closer than this fraction of the scene extent count as so far apart: duplicates get a finite log scale.
NEAREST = 1e-4


def initialize(scene: Scene, cap: int, opacity: float, scale: float, sh_degree: int, seed: int = 0) -> GaussianCloud:
    """One isotropic Gaussian per sparse point (Kerbl et al. 2023, §5.1), at most ``cap`` of them.

    Args:
        cap: of more points than this, a random subset is used.
        opacity: of every Gaussian.
        scale: standard deviation, in root mean square distances to the three nearest points.
        sh_degree: bands of the result; all but the first are zero.
    """
    points, colours = scene.points.xyz, scene.points.rgb
    if len(points) > cap:
        rows = torch.randperm(len(points), generator=generator(seed, "initialize"))[:cap].sort().values
        points, colours = points[rows], colours[rows]
    spacing = neighbour_distances(points).clamp_min(NEAREST * scene.extent)
    n = len(points)
    sh = torch.zeros(n, (sh_degree + 1) ** 2, 3)
    sh[:, 0] = rgb_to_dc(colours.to(torch.float32) / 255)
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1
    return GaussianCloud(
        means=points.to(torch.float32),
        log_scales=(scale * spacing).log().to(torch.float32)[:, None].repeat(1, 3),
        quats=quats,
        logit_opacities=torch.full((n,), math.log(opacity / (1 - opacity))),
        sh=sh,
    )


def neighbour_distances(points: Tensor) -> Tensor:
    """(M,) float64 root mean square distance of each of ``points`` (M, 3) to its three nearest others.

    With fewer than four points, to all others; a point alone gets 1.
    """
    count = min(NEIGHBOURS, len(points) - 1)
    if count < 1:
        return torch.ones(len(points), dtype=torch.float64)
    array = points.to("cpu", torch.float64).numpy()
    distances, _ = cKDTree(array).query(array, k=count + 1)
    return torch.from_numpy(np.sqrt(np.square(distances[:, 1:]).mean(1)))
