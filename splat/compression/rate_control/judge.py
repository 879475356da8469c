"""Judging a smaller cloud by pictures: against renders of the input, or against held-out photos."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import RenderOptions, render
from splat.scene import Scene
from splat.training.losses.image import composite
from splat.viewpoints.around_cloud import views_around


@dataclass(frozen=True)
class Judge:
    """Pictures that a cloud should show.

    Attributes:
        cameras, pictures, masks: one each per view; pictures (H, W, 3) in [0, 1], masks (H, W) bool or None.
        options: how to draw.
        mean_of_views: PSNR is the mean over views (as papers give it), or that of the mean error.
    """

    cameras: Sequence[Camera]
    pictures: Sequence[Tensor]
    masks: Sequence[Tensor | None]
    options: RenderOptions
    mean_of_views: bool = False

    def errors(self, cloud: GaussianCloud) -> list[float]:
        """Mean squared error of each view."""
        errors = []
        for camera, picture, mask in zip(self.cameras, self.pictures, self.masks, strict=True):
            with torch.no_grad():
                found = render(cloud, camera, options=self.options).rgb.clamp(0, 1)
            squares = (found - picture).double().square().mean(-1)
            errors.append(float(squares.mean() if mask is None else squares[mask].mean()))
        return errors

    def error(self, cloud: GaussianCloud) -> float:
        """Mean squared error over the views; 0 without any."""
        errors = self.errors(cloud)
        return sum(errors) / len(errors) if errors else 0.0

    def psnr(self, cloud: GaussianCloud) -> float:
        """dB; infinite when every picture is the same."""
        errors = self.errors(cloud)
        if self.mean_of_views and errors:
            return sum(map(decibels, errors)) / len(errors)
        return decibels(sum(errors) / len(errors)) if errors else math.inf


def decibels(error: float) -> float:
    """PSNR of a mean squared error."""
    return -10 * math.log10(error) if error > 0 else math.inf


def by_renders(cloud: GaussianCloud, options: RenderOptions, views: int = 6, scene: Scene | None = None) -> Judge:
    """Judge by renders of ``cloud`` itself, from the scene's held-out cameras or from around the cloud."""
    cameras = (
        [view.camera for view in (scene.test_views or scene.views)] if scene else views_around(cloud, views, phase=0.5)
    )
    with torch.no_grad():
        pictures = [render(cloud, camera, options=options).rgb.clamp(0, 1) for camera in cameras]
    return Judge(cameras, pictures, [None] * len(cameras), options)


def by_photos(scene: Scene, options: RenderOptions) -> Judge:
    """Judge by the held-out photos of ``scene`` (all photos where none is held out)."""
    views = scene.test_views or scene.views
    photos = [view.load() for view in views]
    pictures = [composite(photo, options.background).float() / 255 for photo in photos]
    return Judge([view.camera for view in views], pictures, [photo.mask for photo in photos], options, True)
