"""`Camera`: a pinhole view of the world, from points to pixels and back."""

import dataclasses
import math
import numbers
from dataclasses import dataclass
from typing import Any, SupportsFloat

import torch
from torch import Tensor

from splat.coordinates import Georeference


@dataclass(frozen=True)
class Camera:
    """Undistorted pinhole camera with OpenCV axes (x right, y down, z forward); pixel centres lie at +0.5.

    Attributes:
        fx, fy: focal lengths, pixels.
        cx, cy: principal point, pixels from the outer corner of the top left pixel.
        width, height: image size, pixels.
        world_to_camera: (4, 4) rigid transform, float64 or float32.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    world_to_camera: Tensor

    def __post_init__(self) -> None:
        pose = self.world_to_camera
        if not isinstance(pose, Tensor) or pose.is_meta or not pose.is_floating_point():
            raise ValueError(f"world_to_camera is a {_kind(pose)}, expected a tensor of floating-point numbers")
        if tuple(pose.shape) != (4, 4):
            raise ValueError(f"world_to_camera has shape {tuple(pose.shape)}, expected (4, 4)")
        if not all(isinstance(size, numbers.Integral) and 1 <= size < 2**31 for size in (self.width, self.height)):
            raise ValueError(f"image size is {self.width}×{self.height}, expected whole numbers from 1×1 on")
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            if not isinstance(value, SupportsFloat) or not math.isfinite(value):
                raise ValueError(f"{name} is {value!r}, expected a finite number")
        if not (self.fx > 0 and self.fy > 0):
            raise ValueError(f"focal lengths are {self.fx}, {self.fy}, expected positive numbers")

    @property
    def camera_to_world(self) -> Tensor:
        """(4, 4) inverse of ``world_to_camera``."""
        return torch.linalg.inv(self.world_to_camera)

    @property
    def position(self) -> Tensor:
        """(3,) camera centre in world units."""
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]

    @property
    def forward(self) -> Tensor:
        """(3,) unit viewing direction in the world."""
        return self.world_to_camera[2, :3]

    def replace(self, **changes) -> "Camera":
        """A copy with some attributes exchanged."""
        return dataclasses.replace(self, **changes)

    def resized(self, width: int, height: int) -> "Camera":
        """The same view sampled on a grid of another size, at least 1×1 pixels."""
        sx, sy = width / self.width, height / self.height
        return self.replace(
            fx=self.fx * sx, fy=self.fy * sy, cx=self.cx * sx, cy=self.cy * sy, width=width, height=height
        )

    def about(self, old: Georeference, new: Georeference) -> "Camera":
        """The same view in coordinates relative to the origin of ``new``; today's are relative to that of ``old``."""
        if old.origin == new.origin:
            return self
        pose = self.world_to_camera.to(torch.float64, copy=True)
        moved = [after - before for before, after in zip(old.origin, new.origin, strict=True)]
        pose[:3, 3] += pose[:3, :3] @ torch.tensor(moved, dtype=torch.float64, device=pose.device)
        return self.replace(world_to_camera=pose)

    def strided(self, stride: int, x: int = 0, y: int = 0) -> "Camera":
        """The same view at every ``stride``-th pixel from pixel (``x``, ``y``) on, both less than ``stride``.

        A picture has the same colours there if it is drawn with ``stride``² times less blur (see `RenderOptions`).
        """
        if not (stride >= 1 and 0 <= x < stride and 0 <= y < stride):
            raise ValueError(f"stride is {stride}, first pixel ({x}, {y}); expected 1 or more, and a pixel before it")
        return self.replace(
            fx=self.fx / stride,
            fy=self.fy / stride,
            cx=(self.cx - x - 0.5) / stride + 0.5,
            cy=(self.cy - y - 0.5) / stride + 0.5,
            width=-(-(self.width - x) // stride),
            height=-(-(self.height - y) // stride),
        )

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Pixel positions (M, 2) and depths (M,) of world ``points`` (M, 3); meaningless where depth ≤ 0."""
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points have shape {tuple(points.shape)}, expected (M, 3)")
        world_to_camera = self.world_to_camera.to(points)
        local = points @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
        depth = local[:, 2]
        x = self.fx * local[:, 0] / depth + self.cx
        y = self.fy * local[:, 1] / depth + self.cy
        return torch.stack([x, y], -1), depth

    def pixel_centres(self, dtype: torch.dtype = torch.float64, device: torch.device | str | None = None) -> Tensor:
        """(H, W, 2) x and y of the centres of all pixels."""
        y, x = torch.meshgrid(
            torch.arange(self.height, dtype=dtype, device=device) + 0.5,
            torch.arange(self.width, dtype=dtype, device=device) + 0.5,
            indexing="ij",
        )
        return torch.stack([x, y], -1)

    def directions(self, pixels: Tensor) -> Tensor:
        """(…, 3) directions through ``pixels`` (…, 2) in camera axes, scaled to z = 1, of the same dtype."""
        if pixels.shape[-1:] != (2,):
            raise ValueError(f"pixels have shape {tuple(pixels.shape)}, expected (…, 2)")
        x, y = (pixels[..., 0] - self.cx) / self.fx, (pixels[..., 1] - self.cy) / self.fy
        return torch.stack([x, y, torch.ones_like(x)], -1)

    def rays(self, pixels: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Where rays start and run in the world: origin (3,) and directions (…, 3), float64.

        Args:
            pixels: (…, 2) positions in the picture; None takes the centres of all pixels, (H, W, 2).

        Directions are as long as their z-depth is 1: ``origin + depth * direction`` is a point at that z-depth.
        """
        local = self.directions(self.pixel_centres() if pixels is None else pixels.double())
        return self.position.double(), local @ self.world_to_camera[:3, :3].double()

    def unproject(self, depth: Tensor, pixels: Tensor | None = None) -> Tensor:
        """(…, 3) float64 world points at z-depth ``depth`` (…).

        Args:
            depth: world units; (H, W) without ``pixels``.
            pixels: (…, 2) positions in the picture; None takes the centres of all pixels.
        """
        expected = (self.height, self.width) if pixels is None else tuple(pixels.shape[:-1])
        if tuple(depth.shape) != expected:
            raise ValueError(f"depth has shape {tuple(depth.shape)}, expected {expected}")
        pose = self.world_to_camera.double()
        local = self.directions(self.pixel_centres() if pixels is None else pixels.double()) * depth.double()[..., None]
        return (local - pose[:3, 3]) @ pose[:3, :3]

    @staticmethod
    def look_at(
        position: Tensor, target: Tensor, up: Tensor, width: int, height: int, fov_degrees: float = 50.0
    ) -> "Camera":
        """Camera at ``position`` facing ``target`` with ``up`` (each (3,)) upwards; vertical field of view, degrees."""
        for name, value in (("position", position), ("target", target), ("up", up)):
            if not isinstance(value, Tensor) or value.shape != (3,):
                raise ValueError(f"{name} is {value!r}, expected a tensor of three numbers")
        if not 0 < fov_degrees < 180:
            raise ValueError(f"the field of view is {fov_degrees}°, expected more than 0° and less than 180°")
        position, target, up = (v.to(torch.float64) for v in (position, target, up))
        forward = torch.nn.functional.normalize(target - position, dim=0)
        right = torch.nn.functional.normalize(torch.linalg.cross(forward, up), dim=0)
        down = torch.linalg.cross(forward, right)
        rotation = torch.stack([right, down, forward])
        world_to_camera = torch.eye(4, dtype=torch.float64)
        world_to_camera[:3, :3] = rotation
        world_to_camera[:3, 3] = -rotation @ position
        focal = 0.5 * height / math.tan(math.radians(fov_degrees) / 2)
        return Camera(focal, focal, width / 2, height / 2, width, height, world_to_camera)


def _kind(value: Any) -> str:
    return f"{value.dtype} tensor on {value.device}" if isinstance(value, Tensor) else type(value).__name__
