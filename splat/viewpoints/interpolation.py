"""Cameras between the photos, and what dense points look like from there."""

from collections.abc import Sequence

import numpy as np
import torch
from scipy.spatial.transform import Rotation, Slerp
from torch import Tensor

from splat.camera import Camera

_OUTER = 0.05  # how close to a photo a virtual view may be, as a fraction of the way
_BEHIND = 1.05  # a point this much farther than its neighbours in the picture is one seen through a gap


def blend(a: Camera, b: Camera, fraction: float) -> Camera:
    """The camera ``fraction`` of the way from ``a`` to ``b``: the centre on the straight line, the rotation on the arc.

    Intrinsics and size are those of ``a``.
    """
    turns = np.stack([camera.world_to_camera[:3, :3].double().numpy() for camera in (a, b)])
    rotation = torch.from_numpy(Slerp([0, 1], Rotation.from_matrix(turns))([fraction]).as_matrix()[0])
    centre = torch.lerp(a.position.double(), b.position.double(), fraction)
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3, :3] = rotation
    world_to_camera[:3, 3] = -rotation @ centre
    return a.replace(world_to_camera=world_to_camera)


def pairs(cameras: Sequence[Camera], each: int = 2) -> list[tuple[int, int]]:
    """Every camera with the ``each`` nearest to it, as sorted pairs without repetition."""
    centres = torch.stack([camera.position.double() for camera in cameras])
    distance = torch.cdist(centres, centres)
    distance.fill_diagonal_(float("inf"))
    chosen = set()
    for index, row in enumerate(distance):
        for other in row.argsort(stable=True)[: min(each, len(cameras) - 1)].tolist():
            chosen.add((min(index, other), max(index, other)))
    return sorted(chosen)


def virtual_cameras(cameras: Sequence[Camera], per_pair: int, each: int = 2) -> list[Camera]:
    """``per_pair`` cameras, evenly spaced, between each camera and its nearest ones."""
    fractions = [_OUTER + (1 - 2 * _OUTER) * (k + 0.5) / per_pair for k in range(per_pair)]
    return [blend(cameras[a], cameras[b], fraction) for a, b in pairs(cameras, each) for fraction in fractions]


def warped(xyz: Tensor, rgb: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """Points as ``camera`` sees them, each as one pixel, the nearest in front.

    Args:
        xyz: (M, 3) world. rgb: (M, 3) uint8.

    Returns:
        (H, W, 3) uint8 picture and (H, W) bool: where a point of the foremost surface is.
    """
    height, width = camera.height, camera.width
    xy, z = camera.project(xyz.double())
    column, row = xy[:, 0].floor().long(), xy[:, 1].floor().long()
    use = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    index, z, colour = (row * width + column)[use], z[use], rgb[use]
    nearest = torch.full((height * width,), float("inf"), dtype=z.dtype).scatter_reduce(0, index, z, "amin")
    front = z <= nearest[index]
    picture = torch.zeros(height * width, 3, dtype=torch.uint8)
    picture[index[front]] = colour[front]
    depth = nearest.reshape(1, 1, height, width)
    around = -torch.nn.functional.max_pool2d(-depth, 5, 1, 2)
    seen = torch.isfinite(depth) & (depth <= _BEHIND * around)
    return picture.reshape(height, width, 3), seen[0, 0]
