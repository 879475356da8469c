"""Supervision from between the photos: what the dense points look like there (LM-Gaussian, Yu et al. 2024)."""

import torch

from splat.cloud import GaussianCloud
from splat.depth.multi_view_stereo import DensePoints
from splat.scene.images import Photo
from splat.scene.scene import Scene
from splat.training.hooks.hook import TrainingHook
from splat.training.rng import generator
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView
from splat.viewpoints.interpolation import virtual_cameras, warped

PER_PAIR = 6
_FEWEST = 0.05  # share of a picture that points must cover for it to be worth a step


def hook(
    scene: Scene, dense: DensePoints, share: float, seed: int, background: tuple[float, float, float]
) -> TrainingHook:
    """Trains on pictures of ``dense`` in ``share`` of the steps; pixels without a point do not count."""
    views = []
    for camera in virtual_cameras([view.camera for view in scene.train_views], PER_PAIR):
        picture, seen = warped(dense.xyz, dense.rgb, camera)
        if float(seen.float().mean()) >= _FEWEST:
            views.append(TrainingView(None, Photo(picture, seen), camera, background))

    def extra_view(cloud: GaussianCloud, context: StepContext) -> TrainingView | None:
        rng = generator(seed, "virtual", context.step)
        if not views or float(torch.rand((), generator=rng)) >= share:
            return None
        return views[int(torch.randint(len(views), (), generator=rng))]

    return TrainingHook("pseudo-views", extra_view=extra_view)
