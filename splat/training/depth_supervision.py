"""What depth a training run knows: maps measured beside the photos, a scan, or sparse points where photos show them."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from splat.camera import Camera
from splat.scene import ImageCache, Scene
from splat.scene.measured_depth import MOST_SAMPLES, seen_points
from splat.scene.scene import Points, View
from splat.training.config.config import TrainConfig
from splat.training.rng import generator
from splat.training.start import Start

MEASURED_WEIGHT = 1.0  # of `LossConfig.depth` where depth was measured
_DENSE = 20_000  # points from which a file of them is a scan, in which near surfaces hide far ones
_BEHIND = 1.02  # times the nearest depth around: what lies farther is hidden
_START_POINTS = 100_000  # of all photos together, before they are thinned
_CELLS = 256  # a scene extent; one start point each


def weight(config: TrainConfig, views: Sequence[View], scan: Tensor | None = None) -> float:
    """Weight of the depth loss: that of ``config``, or by whether depth was measured, in ``views`` or by a ``scan``."""
    if config.loss.depth is not None:
        return config.loss.depth
    return MEASURED_WEIGHT if scan is not None or any(view.depth is not None for view in views) else 0.0


def scan_of(start: Start) -> Tensor | None:
    """The points (M, 3) that a run begins with, if they are so many that they show surfaces."""
    points = start.points
    return points.xyz if points is not None and points.measured and len(points) >= _DENSE else None


def points_of_views(
    scene: Scene, views: Sequence[View], weight: float, scan: Tensor | None = None
) -> tuple[tuple[Tensor | None, Tensor | None], ...]:
    """Points (M, 3) and their pixels (M, 2) of each of ``views``, for the depth loss; None each without that loss.

    Raises InputError for a damaged depth map.
    """
    if not weight:
        return tuple((None, None) for _ in views)
    return tuple(_points_of_view(scene, view, scan) for view in views)


def _points_of_view(scene: Scene, view: View, scan: Tensor | None) -> tuple[Tensor, Tensor]:
    if view.depth is not None:
        return seen_points(view)
    return _sparse(scene, view) if scan is None else unhidden(scan, view.camera)


def unhidden(scan: Tensor, camera: Camera) -> tuple[Tensor, Tensor]:
    """The points (M, 3) of a dense ``scan`` (N, 3) that ``camera`` sees, and their pixels (M, 2) float32.

    A z-buffer whose cells hold two points each on average tells what nearer ones around hide; at most `MOST_SAMPLES`.
    """
    pixels, depth = camera.project(scan.double())
    size = torch.tensor([camera.width, camera.height], dtype=torch.float64)
    rows = torch.nonzero((depth > 0) & (pixels >= 0).all(1) & (pixels < size).all(1))[:, 0]
    if not len(rows):
        return scan[:0].double(), pixels[:0].float()
    cell = max(1.0, math.sqrt(2 * camera.width * camera.height / len(rows)))
    across, down = math.ceil(camera.width / cell), math.ceil(camera.height / cell)
    column, row = (pixels[rows] / cell).long().unbind(1)
    nearest = torch.full((down * across,), torch.inf, dtype=torch.float64)
    nearest.scatter_reduce_(0, row * across + column, depth[rows], "amin")
    around = -torch.nn.functional.max_pool2d(-nearest.reshape(1, 1, down, across), 3, stride=1, padding=1)[0, 0]
    rows = rows[depth[rows] <= _BEHIND * around[row, column]]
    if len(rows) > MOST_SAMPLES:
        rows = rows[torch.randperm(len(rows), generator=generator(0, "scan"))[:MOST_SAMPLES].sort().values]
    return scan[rows].double(), pixels[rows].float()


def _sparse(scene: Scene, view: View) -> tuple[Tensor, Tensor]:
    ids, pixels = view.keypoints()
    return scene.points.xyz[ids], pixels


def with_start_points(scene: Scene, photos: ImageCache, weight: float) -> Scene:
    """``scene`` with points of the measured depth of its training photos beside its own, in the photos' colours.

    Args:
        photos: of the training views of ``scene``.
        weight: of the depth loss; where it is 0 nothing is added.
    """
    measured = [index for index, view in enumerate(photos.views) if view.depth is not None]
    if not measured or not weight:
        return scene
    xyz, rgb = [], []
    for index in measured:
        points, pixels = seen_points(photos.views[index], max(1, _START_POINTS // len(measured)))
        photo = photos.get(index)
        column, row = (pixels[:, axis].long().clamp(0, photo.rgb.shape[1 - axis] - 1) for axis in (0, 1))
        kept = slice(None) if photo.mask is None else photo.mask[row, column]
        xyz.append(points[kept])
        rgb.append(photo.rgb[row, column][kept])
    return replace(scene, points=_with(scene.points, torch.cat(xyz), torch.cat(rgb), scene.extent / _CELLS))


def _with(points: Points, xyz: Tensor, rgb: Tensor, cell: float) -> Points:
    """``points`` and of ``xyz`` (M, 3), ``rgb`` (M, 3) the first in each cell; random points give way."""
    first = np.unique(np.floor(xyz.numpy() / cell).astype(np.int64), axis=0, return_index=True)[1]
    rows = torch.from_numpy(np.sort(first))
    xyz, rgb = xyz[rows], rgb[rows]
    unknown = torch.full((len(xyz),), torch.nan, dtype=torch.float64)
    if not points.measured:
        ends = torch.zeros(len(xyz) + 1, dtype=torch.int64)
        return Points(xyz, rgb, unknown, ends, torch.zeros(0, dtype=torch.int64))
    return replace(
        points,
        xyz=torch.cat([points.xyz, xyz]),
        rgb=torch.cat([points.rgb, rgb]),
        error=torch.cat([points.error, unknown]),
        track_offsets=torch.cat([points.track_offsets, points.track_offsets[-1:].expand(len(xyz))]),
        confidence=None if points.confidence is None else torch.cat([points.confidence, torch.ones(len(xyz))]),
    )
