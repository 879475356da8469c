"""What a run begins with beside its scene: other points, clouds to go on with, and clouds that stay as they are."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.coordinates import AT_ZERO, Georeference
from splat.errors import InputError
from splat.scene import Scene
from splat.scene.scene import Points
from splat.training.budget import max_gaussians
from splat.training.config.config import TrainConfig
from splat.training.config.densify import DensifyConfig
from splat.training.initialize import initialize

_LOOKED_AT = 5000  # points that are looked for in the photos


@dataclass(frozen=True, eq=False)
class Start:
    """What a run begins with; all of it in the frame of the scene's cameras.

    Attributes:
        points: take the place of the scene's sparse points.
        init: Gaussians to begin with instead of points.
        added: Gaussians to begin with beside those.
        frozen: Gaussians that are drawn with the others and end as they are, bit for bit.
        files: name, role and SHA-256 of each file that this was read from, by which a resumed run knows them; and the
            EPSG code of its coordinates where it says one.
    """

    points: Points | None = None
    init: GaussianCloud | None = None
    added: GaussianCloud | None = None
    frozen: GaussianCloud | None = None
    files: tuple[dict[str, Any], ...] = ()

    @property
    def has_clouds(self) -> bool:
        """Whether Gaussians come from elsewhere, which have their colours already."""
        return any(cloud is not None for cloud in (self.init, self.added, self.frozen))


def settled(config: TrainConfig, start: Start) -> TrainConfig:
    """``config`` as a run from ``start`` needs it: Gaussians with colours of all bands are drawn with them at once.

    Raises InputError where the two do not go together.
    """
    if start.frozen is not None and config.priors.co_regularization > 0:
        raise InputError("frozen Gaussians and priors.co_regularization, a second model, cannot be combined; drop one")
    if config.priors.confidence_rates and (start.points is not None or start.has_clouds):
        raise InputError(
            "priors.confidence_rates is for the points of a dense reconstruction; switch it off to begin with others"
        )
    if not start.has_clouds:
        return config
    degree = config.sh_degree if start.frozen is None else max(config.sh_degree, start.frozen.sh_degree)
    config = dataclasses.replace(config, sh_every=0.0, sh_degree=degree)
    clouds = [cloud for cloud in (start.init, start.added, start.frozen) if cloud is not None]
    count, most = sum(map(len, clouds)), max_gaussians(config)
    needed = count + (start.init is None)  # a run that begins with points has one at least
    if needed > most:
        raise InputError(
            f"the clouds to begin with have {count:,} Gaussians, but the run may have {most:,}; "
            f"allow more with --gaussians {needed}, or make them smaller: splat convert IN OUT --decimate"
        )
    return config


def place_of(place: Georeference, files: Sequence[dict[str, Any]]) -> Georeference:
    """``place`` of a scene on a map, whose reference system, where it names none, is that of ``files``."""
    codes = [code for each in files if (code := each.get("epsg")) is not None]
    return dataclasses.replace(place, epsg=codes[0]) if place.placed and place.epsg is None and codes else place


def first_count(start: Start, points: int, most: int, fraction: float) -> int:
    """Number of trained Gaussians a run begins with.

    Args:
        points: of the scene.
        most: allowed beside the frozen ones.
        fraction: of those, that a strategy begins with at most.
    """
    added = 0 if start.added is None else len(start.added)
    if start.init is not None:
        return len(start.init) + added
    points = points if start.points is None else len(start.points)
    return added + min(points, max(1, int(fraction * (most - added))))


def start_cloud(scene: Scene, start: Start, count: int, config: TrainConfig, densify: DensifyConfig) -> GaussianCloud:
    """The first ``count`` Gaussians of a run, those that are trained (see `first_count`)."""
    added = () if start.added is None else (start.added,)
    if start.init is not None:
        first = start.init
    else:
        if start.points is not None:
            scene = dataclasses.replace(scene, points=start.points)
        rows = count - sum(map(len, added))
        first = initialize(scene, rows, densify.init_opacity, densify.init_scale, config.sh_degree, config.seed)
    # All are in the scene's coordinates already, wherever on a map those are.
    clouds = [cloud.replace(extras={}, georeference=AT_ZERO) for cloud in (first, *added)]
    clouds = [cloud.with_sh_degree(config.sh_degree) for cloud in clouds]
    return GaussianCloud.concat(clouds).to(dtype=torch.float32)


def fraction_in_sight(xyz: Tensor, cameras: Sequence[Camera]) -> float:
    """Which fraction of points ``xyz`` (N, 3) some camera has in its picture, from some thousands of them."""
    some = xyz[:: max(1, len(xyz) // _LOOKED_AT)].to("cpu", torch.float64)
    seen = torch.zeros(len(some), dtype=torch.bool)
    for camera in cameras:
        pixels, depth = camera.project(some)
        x, y = pixels.unbind(1)
        seen |= (depth > 0) & (x >= 0) & (x <= camera.width) & (y >= 0) & (y <= camera.height)
    return float(seen.double().mean()) if len(some) else 0.0
