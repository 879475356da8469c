"""Where the first picture is taken from, so that it is upright and framed."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.scene import Scene


@dataclass(frozen=True)
class FirstView:
    """Position, the point looked at, and up, (3,) float64 each; ``fov`` is vertical, degrees."""

    position: Tensor
    target: Tensor
    up: Tensor
    fov: float = 50.0

    def camera(self, width: int, height: int) -> Camera:
        """The camera of that picture."""
        return Camera.look_at(self.position, self.target, self.up, width, height, self.fov)


def first_view(cloud: GaussianCloud, scene: Scene | None, up: tuple[float, float, float] | None) -> FirstView:
    """From the first held-out photo of ``scene``; without one, from outside the middle of ``cloud``.

    A cloud alone does not say what is up: −y is assumed, as in the frame of COLMAP and of the trainers' files.
    Raises InputError for an empty cloud or an ``up`` without length.
    """
    if up is not None and not 0 < math.hypot(*up) < math.inf:
        raise InputError(f"--up is {up}, expected three numbers that are not all 0")
    if scene is not None:
        camera = (scene.test_views or scene.views)[0].camera
        upwards = scene.up if up is None else _unit(up)
        position, forward = camera.position.double(), camera.forward.double()
        distance = float((scene.focus.double() - position) @ forward)
        if distance <= 0:
            distance = scene.extent
        fov = math.degrees(2 * math.atan(0.5 * camera.height / camera.fy))
        return FirstView(position, position + distance * forward, upwards.double(), fov)
    upwards = _unit(up or (0.0, -1.0, 0.0))
    good = cloud.finite() & (cloud.opacities > 0.1)
    centres = cloud.means[good if bool(good.any()) else cloud.finite()].detach().cpu().double()
    if len(centres) == 0:
        raise InputError("the cloud holds no Gaussians with finite numbers; there is nothing to look at")
    # Medians and a quantile: a few floaters far away must not push the camera out.
    middle = centres.median(0).values
    reach = float((centres - middle).norm(dim=1).kthvalue(math.ceil(0.9 * len(centres))).values) or 1e-3
    axes = torch.eye(3, dtype=torch.float64)
    # Seen from −z, as the first camera of a reconstruction looks along +z.
    back = -axes[2] if abs(float(upwards[2])) < 0.9 else -axes[1]
    back = torch.nn.functional.normalize(back - (back @ upwards) * upwards, dim=0)
    direction = math.cos(math.radians(15)) * back + math.sin(math.radians(15)) * upwards
    return FirstView(middle + 2.6 * reach * direction, middle, upwards)


def _unit(vector: tuple[float, float, float]) -> Tensor:
    return torch.nn.functional.normalize(torch.tensor(vector, dtype=torch.float64), dim=0)
