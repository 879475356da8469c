"""Dense points in place of the sparse ones a scene came with."""

import dataclasses

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.depth.multi_view_stereo import DensePoints
from splat.scene.scene import Points, Scene
from splat.training.hooks.dropout import POSITION_STEP
from splat.training.hooks.hook import TrainingHook

FEWEST = 200  # dense points; with fewer the sparse ones alone are better
_SAME = 1e-5  # of the largest coordinate: what float32 may have moved a point by
_STIFF = 0.1  # share of a step that the surest points make (InstantSplat, Fan et al. 2024)


def with_dense(scene: Scene, dense: DensePoints) -> Scene:
    """``scene`` with the dense points behind its sparse ones; random points are replaced."""
    if len(dense) < FEWEST:
        note = "stereo found next to no surface that two photos share, so training starts from the points there were"
        return dataclasses.replace(scene, notes=(*scene.notes, note))
    old = scene.points
    keep = len(old) if old.measured else 0
    count = len(dense)
    offsets = torch.cat([old.track_offsets[: keep + 1], old.track_offsets[keep].repeat(count)])
    points = Points(
        torch.cat([old.xyz[:keep], dense.xyz]),
        torch.cat([old.rgb[:keep], dense.rgb]),
        torch.cat([old.error[:keep], torch.full((count,), float("nan"), dtype=torch.float64)]),
        offsets,
        old.track_views[: int(offsets[-1])],
        confidence=torch.cat([torch.ones(keep), dense.confidence]),
    )
    note = f"stereo between the photos gave {count} points to start from"
    return dataclasses.replace(scene, points=points, notes=(*scene.notes, note))


def confidence_hook(points: Points) -> TrainingHook:
    """Lets each Gaussian's position go a share of its steps: 1 for unsure points, down to `_STIFF` for sure ones."""

    def initialize(cloud: GaussianCloud) -> GaussianCloud:
        sure = confidence_at(cloud.means, points)
        return cloud.replace(extras={**cloud.extras, POSITION_STEP: (1 - (1 - _STIFF) * sure).to(cloud.means)})

    return TrainingHook("confidence", initialize=initialize)


def confidence_at(means: Tensor, points: Points) -> Tensor:
    """(N,) float32 confidence of the point that each of ``means`` (N, 3) was made from; 0 where it is none of them."""
    from scipy.spatial import cKDTree

    if points.confidence is None:
        return torch.zeros(len(means))
    places = points.xyz.numpy()
    distance, row = cKDTree(places).query(means.double().cpu().numpy())
    same = torch.from_numpy(distance <= _SAME * np.abs(places).max())
    return torch.where(same, points.confidence[torch.from_numpy(row)], torch.zeros(len(row)))
