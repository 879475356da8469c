"""Depth straight from the rasterizer: expected, median, or of the blended planes."""

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import Rendering, RenderOptions, render
from splat.rendering.reference import normals
from splat.sh import C0

KINDS = ("median", "expected", "plane")
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
    distance = _feature(cloud, camera, plane_distances(cloud, camera), options, backend)
    rays = camera.directions(camera.pixel_centres(torch.float32))
    facing = -(rendering.normal * rays.to(rendering.normal)).sum(-1)
    alpha = rendering.alpha.clamp_min(1e-6)
    good = facing > GRAZING * alpha
    return torch.where(good, distance / torch.where(good, facing, 1), 0)


def plane_distances(cloud: GaussianCloud, camera: Camera) -> torch.Tensor:
    """(N,) distance of the camera from each Gaussian's plane: through its centre, across its shortest axis."""
    pose = camera.world_to_camera.to(cloud.means)
    local = cloud.means @ pose[:3, :3].T + pose[:3, 3]
    return -(normals(cloud, local, pose[:3, :3]) * local).sum(1)


def _feature(
    cloud: GaussianCloud, camera: Camera, values: torch.Tensor, options: RenderOptions, backend: str
) -> torch.Tensor:
    """(H, W) blend Σ w v of one non-negative number per Gaussian, drawn as a colour."""
    colour = ((values - 0.5) / C0)[:, None, None].expand(-1, 1, 3).contiguous()
    plain = RenderOptions(antialiased=options.antialiased, near=options.near)
    return render(cloud.with_sh_degree(0).replace(sh=colour), camera, backend, plain).rgb[..., 0]
