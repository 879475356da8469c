"""What depth a training run knows: maps measured beside the photos, else the sparse points where photos show them."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from splat.scene import ImageCache, Scene
from splat.scene.measured_depth import seen_points
from splat.scene.scene import Points, View
from splat.training.config.config import TrainConfig

MEASURED_WEIGHT = 2.0  # of `LossConfig.depth` where depth was measured
_START_POINTS = 100_000  # of all photos together, before they are thinned
_CELLS = 256  # a scene extent; one start point each


def weight(config: TrainConfig, views: Sequence[View]) -> float:
    """Weight of the depth loss: that of ``config``, or by whether ``views`` have measured depth."""
    if config.loss.depth is not None:
        return config.loss.depth
    return MEASURED_WEIGHT if any(view.depth is not None for view in views) else 0.0


def points_of_views(
    scene: Scene, views: Sequence[View], weight: float
) -> tuple[tuple[Tensor | None, Tensor | None], ...]:
    """Points (M, 3) and their pixels (M, 2) of each of ``views``, for the depth loss; None each without that loss.

    Raises InputError for a damaged depth map.
    """
    if not weight:
        return tuple((None, None) for _ in views)
    return tuple(seen_points(view) if view.depth is not None else _sparse(scene, view) for view in views)


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
