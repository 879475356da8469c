"""Layout of a set of cameras: centres, the up direction, and the point that they look at."""

from collections.abc import Sequence

import torch
from torch import Tensor

from splat.camera import Camera

_FLAT = 0.05  # second eigenvalue of the right axes' scatter below which they span no plane
_CONVERGING = 0.02  # smallest eigenvalue of the axes' mean cross projector for a stable meeting point


def world_to_camera_matrices(cameras: Sequence[Camera]) -> Tensor:
    """(V, 4, 4) float64 world-to-camera matrices."""
    return torch.stack([camera.world_to_camera.to(torch.float64) for camera in cameras])


def camera_centres(poses: Tensor) -> Tensor:
    """(V, 3) camera centres of world-to-camera ``poses`` (V, 4, 4)."""
    return -(poses[:, :3, :3].transpose(1, 2) @ poses[:, :3, 3:])[:, :, 0]


def up_direction(poses: Tensor) -> Tensor:
    """(3,) unit vector that points up in most photos, found without assuming that cameras look level.

    Photographers keep the horizon level, so the cameras' right axes lie in the ground plane: up is the direction of
    least Σ(right·up)². Where they span no plane (a forward-facing row), or the result contradicts the cameras, the mean
    of the cameras' own up axes decides.
    """
    right, mean_up = poses[:, 0, :3], -poses[:, 1, :3].mean(0)
    if mean_up.norm() < 1e-6:
        mean_up = -poses[0, 1, :3]
    values, vectors = torch.linalg.eigh(right.T @ right / len(poses))
    up = vectors[:, 0]
    agreement = float(up @ mean_up / mean_up.norm())
    if values[1] < _FLAT or abs(agreement) < 0.3:
        return mean_up / mean_up.norm()
    return up if agreement >= 0 else -up


def meeting_point(poses: Tensor) -> Tensor | None:
    """(3,) point nearest to all optical axes, or None where they run parallel or meet behind the cameras."""
    forward, centres = poses[:, 2, :3], camera_centres(poses)
    across = torch.eye(3, dtype=poses.dtype) - forward[:, :, None] * forward[:, None, :]
    if torch.linalg.eigvalsh(across.mean(0))[0] < _CONVERGING:
        return None
    meeting = torch.linalg.solve(across.sum(0), (across @ centres[:, :, None]).sum(0)[:, 0])
    in_front = (((meeting - centres) * forward).sum(1) > 0).double().mean()
    return meeting if in_front > 0.8 else None
