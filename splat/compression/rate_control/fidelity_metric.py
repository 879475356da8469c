"""How near the pictures of a smaller cloud come: to renders of the input, or to held-out photos."""

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
class FidelityMetric:
    """PSNR of renders to reference pictures.

    Attributes:
        cameras, pictures, masks: one each per view; pictures (H, W, 3) in [0, 1], masks (H, W) bool or None.
        options: how to render.
        mean_of_views: PSNR is the mean over the views (as papers give it), or that of the mean squared error.
    """

    cameras: Sequence[Camera]
    pictures: Sequence[Tensor]
    masks: Sequence[Tensor | None]
    options: RenderOptions
    mean_of_views: bool = False

    @staticmethod
    def to_renders(
        cloud: GaussianCloud, options: RenderOptions, views: int = 6, scene: Scene | None = None
    ) -> "FidelityMetric":
        """Against renders of ``cloud`` itself, from the scene's held-out cameras or from ``views`` around the cloud."""
        if scene:
            cameras = [view.camera for view in (scene.test_views or scene.views)]
        else:
            cameras = views_around(cloud, views, phase=0.5)
        with torch.no_grad():
            pictures = [render(cloud, camera, options=options).rgb.clamp(0, 1) for camera in cameras]
        return FidelityMetric(cameras, pictures, [None] * len(cameras), options)

    @staticmethod
    def to_photos(scene: Scene, options: RenderOptions) -> "FidelityMetric":
        """Against the held-out photos of ``scene`` (all photos where none is held out)."""
        views = scene.test_views or scene.views
        photos = [view.load() for view in views]
        pictures = [composite(photo, options.background).float() / 255 for photo in photos]
        cameras, masks = [view.camera for view in views], [photo.mask for photo in photos]
        return FidelityMetric(cameras, pictures, masks, options, True)

    def errors(self, cloud: GaussianCloud) -> list[float]:
        """Mean squared error of each view."""
        errors = []
        for camera, picture, mask in zip(self.cameras, self.pictures, self.masks, strict=True):
            with torch.no_grad():
                rendered = render(cloud, camera, options=self.options).rgb.clamp(0, 1)
            squares = (rendered - picture).double().square().mean(-1)
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
            return sum(map(psnr_of_mse, errors)) / len(errors)
        return psnr_of_mse(sum(errors) / len(errors)) if errors else math.inf


def psnr_of_mse(error: float) -> float:
    """dB of a mean squared error of values in [0, 1]."""
    return -10 * math.log10(error) if error > 0 else math.inf
