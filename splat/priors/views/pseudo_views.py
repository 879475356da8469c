"""Supervision from between the photos: what the dense points look like there (LM-Gaussian, Yu et al. 2024)."""

import torch

from splat.depth.multi_view_stereo import DensePoints
from splat.scene.images import Photo
from splat.scene.scene import Scene
from splat.training.hooks.hook import Part
from splat.training.rng import generator
from splat.training.step_types import Shot, When
from splat.viewpoints.interpolation import virtual_cameras, warped

PER_PAIR = 6
_FEWEST = 0.05  # share of a picture that points must cover for it to be worth a step


def part(scene: Scene, dense: DensePoints, share: float, seed: int, background: tuple[float, float, float]) -> Part:
    """Trains on pictures of ``dense`` in ``share`` of the steps; pixels without a point do not count."""
    shots = []
    for camera in virtual_cameras([view.camera for view in scene.train_views], PER_PAIR):
        picture, seen = warped(dense.xyz, dense.rgb, camera)
        if float(seen.float().mean()) >= _FEWEST:
            shots.append(Shot(None, Photo(picture, seen), camera, background))

    def shot(state: object, when: When) -> Shot | None:
        dice = generator(seed, "virtual", when.step)
        if not shots or float(torch.rand((), generator=dice)) >= share:
            return None
        return shots[int(torch.randint(len(shots), (), generator=dice))]

    return Part("virtual", shot=shot)
