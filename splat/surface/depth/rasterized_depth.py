"""Depth straight from the rasterizer: expected, median, or of the blended planes."""

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import Rendering, RenderOptions, render
from splat.rendering.reference import normals

GRAZING = 0.05  # cosine between ray and blended plane below which a plane gives no depth


def rendered_depth(
    cloud: GaussianCloud, camera: Camera, rendering: Rendering, kind: str, options: RenderOptions, backend: str
) -> torch.Tensor:
    """(H, W) z-depth of ``rendering`` (of ``cloud`` by ``camera``, with depth, and with normals for planes).

    0 where unknown. ``expected`` is Σwz/Σw, ``median`` the Gaussian at which half the light is stopped, ``plane`` the
    depth at which the ray meets the blended plane (PGSR, Chen et al. 2024, eq. 5: Σw d / −(Σw n)·r).
    """
    if kind == "expected":
        return rendering.depth
    if kind == "median":
        return rendering.median_depth
    plain = RenderOptions(antialiased=options.antialiased, near=options.near)
    distance = render(cloud, camera, backend, plain, features=plane_distances(cloud, camera)[:, None]).features[..., 0]
    rays = camera.directions(camera.pixel_centres(torch.float32)).to(rendering.normal)
    facing = -(rendering.normal * rays).sum(-1)
    alpha = rendering.alpha.clamp_min(1e-6)
    good = facing > GRAZING * alpha
    return torch.where(good, distance / torch.where(good, facing, 1), 0)


def plane_distances(cloud: GaussianCloud, camera: Camera) -> torch.Tensor:
    """(N,) distance of the camera from each Gaussian's plane: through its centre, across its shortest axis."""
    world_to_camera = camera.world_to_camera.to(cloud.means)
    local = cloud.means @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    return -(normals(cloud, local, world_to_camera[:3, :3]) * local).sum(1)
