"""Cameras from which a cloud is meshed."""

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.scene.scene import Scene
from splat.viewpoints.around_cloud import views_around


def scene_cameras(scene: Scene, with_masks: bool) -> tuple[list[Camera], list[NDArray[np.bool_] | None]]:
    """Cameras of the training photos of ``scene``, and the masks (H, W) of those that have one."""
    views = scene.train_views
    masks: list[NDArray[np.bool_] | None] = []
    for view in views:
        mask = view.load().mask if with_masks and view.source.has_mask else None
        masks.append(None if mask is None else mask.numpy())
    return [view.camera for view in views], masks


def cameras_around(cloud: GaussianCloud, count: int, side: int) -> list[Camera]:
    """``count`` cameras on a sphere around the bulk of ``cloud``, all outside it; pictures of ``side`` px."""
    # Of the three distances that turn about, the nearest may lie inside objects.
    return [camera for number, camera in enumerate(views_around(cloud, (3 * count + 1) // 2, side)) if number % 3 != 2]
