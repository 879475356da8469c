"""Stereo rigs: cameras beside a camera, such that each pair is rectified by construction.

GS2Mesh (Wolf et al., ECCV 2024, §3.1) puts a second camera to the right of each view. Here up to four surround it:
what one of them cannot see because something stands before it, the opposite one sees, and edges along one axis, which
say nothing about depth, are crossed by the other.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from splat.camera import Camera
from splat.scene.camera_layout import camera_centres, meeting_point, world_to_camera_matrices

SIDES = ("right", "down", "left", "up")


@dataclass(frozen=True)
class StereoCamera:
    """The second camera of a pair: ``side`` of the first, ``baseline`` world units away."""

    side: str
    baseline: float

    def camera(self, first: Camera) -> Camera:
        """``first`` moved in its image plane."""
        axis, sign = (0 if self.side in ("right", "left") else 1), (1 if self.side in ("right", "down") else -1)
        world_to_camera = first.world_to_camera.clone()
        world_to_camera[axis, 3] -= sign * self.baseline
        return first.replace(world_to_camera=world_to_camera)

    def focal(self, first: Camera) -> float:
        """Focal length along the baseline, pixels: depth = focal · baseline / disparity."""
        return first.fx if self.side in ("right", "left") else first.fy

    def rectified(self, picture: NDArray) -> NDArray:
        """The picture (H, W, …) transposed and mirrored so that the second camera is to its right."""
        if self.side in ("down", "up"):
            picture = picture.swapaxes(0, 1)
        return np.ascontiguousarray(picture[:, ::-1] if self.side in ("left", "up") else picture)

    def unrectified(self, picture: NDArray) -> NDArray:
        """The inverse of `rectified`."""
        picture = picture[:, ::-1] if self.side in ("left", "up") else picture
        return picture.swapaxes(0, 1) if self.side in ("down", "up") else picture


def working_distance(cameras: list[Camera]) -> float:
    """Median distance of the cameras from the point that they look at together, world units.

    Where viewing axes do not meet (a drone, a corridor), the spread of the cameras serves.
    """
    poses = world_to_camera_matrices(cameras)
    centres = camera_centres(poses)
    focus = meeting_point(poses)
    middle = centres.mean(0) if focus is None else focus
    distance = float((centres - middle).norm(dim=1).median())
    return distance if distance > 0 else 1.0


def texture(picture: NDArray[np.uint8], window: int = 7) -> NDArray[np.float32]:
    """(H, W) root mean square of the horizontal gradient in the window: how well disparity can be told there."""
    gradient = cv2.Sobel(picture.astype(np.float32), cv2.CV_32F, 1, 0, ksize=3) / 8
    return np.sqrt(cv2.boxFilter((gradient * gradient).sum(-1), -1, (window, window)) + 0.5)


def picture(rgb: torch.Tensor) -> NDArray[np.uint8]:
    """(H, W, 3) uint8 of a rendering's colours."""
    return (rgb.detach().clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
