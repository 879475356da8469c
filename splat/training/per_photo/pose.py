"""Pose refinement: training cameras move by small rigid motions until their photos fit."""

import torch
from torch import Tensor


def refined(world_to_camera: Tensor, correction: Tensor, extent: float) -> Tensor:
    """The pose (4, 4) with its camera shifted and turned about its own centre, differentiable in ``correction``.

    Args:
        world_to_camera: (4, 4).
        correction: (6,) shift in scene extents, then rotation vector in radians, both along world axes. World axes make
            the mean over cameras meaningful: it is a motion of the whole scene, which `PhotoParameters` removes.
        extent: world units per scene extent.
    """
    base = world_to_camera.to(correction)
    rotation = base[:3, :3]
    centre = -rotation.T @ base[:3, 3] + extent * correction[:3]
    # camera_to_world becomes [exp(ω) Rᵀ | centre]; its inverse has the rotation R exp(ω)ᵀ.
    turned = rotation @ rotation_of(correction[3:]).T
    top = torch.cat([turned, -(turned @ centre)[:, None]], 1)
    return torch.cat([top, base[3:]], 0)


def rotation_of(vector: Tensor) -> Tensor:
    """Rotation matrix (3, 3) of the rotation ``vector`` (3,), radians; Rodrigues' formula, smooth at zero."""
    x, y, z = vector.unbind()
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero]).reshape(3, 3)
    square = vector @ vector
    small = square < 1e-6
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    a = torch.where(small, 1 - square / 6, angle.sin() / angle)
    b = torch.where(small, 0.5 - square / 24, (1 - angle.cos()) / safe)
    return torch.eye(3, dtype=vector.dtype, device=vector.device) + a * cross + b * (cross @ cross)
