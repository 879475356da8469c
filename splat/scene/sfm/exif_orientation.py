"""Turning a view upright: what an EXIF orientation does to intrinsics, pose and keypoints.

Structure from motion works on the stored pixels, where portrait and landscape photos of one camera share intrinsics.
"""

import dataclasses

import numpy as np

from splat.scene.build import RawView
from splat.scene.undistort import Lens

# EXIF orientation → quarter turns clockwise that make the stored image upright. Mirrored ones (2, 4, 5, 7) are no
# rotations of a camera; no camera writes them, and such photos stay as stored.
QUARTER_TURNS = {3: 2, 6: 1, 8: 3}


def turn_upright(view: RawView, orientation: int) -> RawView:
    """The same view of the image turned as its EXIF ``orientation`` asks."""
    for _ in range(QUARTER_TURNS.get(orientation, 0)):
        view = _quarter_turn(view)
    return dataclasses.replace(view, turn=orientation in QUARTER_TURNS)


def turn_back(view: RawView, orientation: int) -> RawView:
    """The view of the image as it is stored, of one that was turned upright: the inverse of `turn_upright`."""
    for _ in range(-QUARTER_TURNS.get(orientation, 0) % 4):
        view = _quarter_turn(view)
    return view


def _quarter_turn(view: RawView) -> RawView:
    """Clockwise: pixel (x, y) of a W×H image moves to (H − y, x); camera axes turn the same way."""
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    world_to_camera = view.world_to_camera.copy()
    world_to_camera[:3] = turn @ world_to_camera[:3]
    xy = np.stack([view.lens.height - view.xy[:, 1], view.xy[:, 0]], axis=1)
    return dataclasses.replace(view, lens=_turn_lens(view.lens), world_to_camera=world_to_camera, xy=xy)


def _turn_lens(lens: Lens) -> Lens:
    p, height = lens.params, lens.height
    if lens.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL"):
        params = (p[0], height - p[2], p[1], *p[3:])
    elif lens.model == "PINHOLE":
        params = (p[1], p[0], height - p[3], p[2])
    elif lens.model == "OPENCV":
        # Decentring (k1, k2, p1, p2): substituting x' = −y, y' = x gives p1' = p2, p2' = −p1.
        params = (p[1], p[0], height - p[3], p[2], p[4], p[5], p[7], -p[6])
    else:
        raise ValueError(f"cannot turn a {lens.model} camera")
    return Lens(lens.model, params, lens.height, lens.width)
