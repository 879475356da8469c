"""Whether a loaded scene can be right: points in sight of cameras, keypoints where measured, places, scale."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from splat.scene.scene import Scene

_POINTS = 500  # looked at
_VIEWS = 2_000  # aerial sets have thousands of photos, each with a small part of the points
_KEYPOINTS, _KEYPOINT_VIEWS = 5_000, 64
IN_SIGHT = 0.25  # fraction of the points below which they hardly belong to the cameras
_BEHIND = 0.9  # fraction of the points behind every camera from which the axes of the poses are doubted
_OFF = 0.02  # median distance of keypoints, in widths of the picture, from where they were measured
_FEWEST_KEYPOINTS = 20
_FLAT = 1e-3  # spread of the cameras over the distance of the points below which depth is not determined
_FAR = 1e3  # spread of the cameras over the spread of the points above which one of them is in other units


def doubts(scene: "Scene") -> list[str]:
    """Sentences about what can hardly be right in ``scene``; none for a sound one. Samples points and views."""
    if not scene.points.measured or len(scene.points) == 0:
        return []
    xyz = sample(scene.points.xyz.numpy(), _POINTS)
    seen, behind = _sight(scene, xyz)
    found = _keypoint_doubts(scene)
    if behind > _BEHIND:
        found.append(
            f"{behind:.0%} of the points are behind every camera: the poses may have other axes than their format "
            "says, or the points belong to another frame; what is trained from them will not be sharp"
        )
    elif seen < IN_SIGHT:
        found.append(
            f"only {seen:.0%} of the points are in sight of a camera: points and cameras may belong to different "
            "frames or units; what is trained from them will not be sharp"
        )
    return found + _scale_doubts(scene, xyz)


def sample(rows: np.ndarray, most: int) -> np.ndarray:
    """At most ``most`` of ``rows``, evenly."""
    return rows[:: max(1, -(-len(rows) // most))]


def _sight(scene: "Scene", xyz: np.ndarray) -> tuple[float, float]:
    cameras = [view.camera for view in scene.views]
    return sight(
        np.stack([camera.world_to_camera.double().numpy() for camera in cameras]),
        np.array([(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height) for camera in cameras]),
        xyz,
    )


def sight(poses: np.ndarray, lenses: np.ndarray, xyz: np.ndarray) -> tuple[float, float]:
    """Fraction of the points that some camera has in its picture, and fraction that are behind every camera.

    Args:
        poses: (V, 4, 4) world-to-camera.
        lenses: (V, 6) fx, fy, cx, cy, width, height in pixels.
        xyz: (M, 3) points; a sample will do.
    """
    poses, lenses = sample(poses, _VIEWS), sample(lenses, _VIEWS)
    seen, front = np.zeros(len(xyz), bool), np.zeros(len(xyz), bool)
    for pose, (fx, fy, cx, cy, width, height) in zip(poses, lenses, strict=True):
        local = xyz @ pose[:3, :3].T + pose[:3, 3]
        before = local[:, 2] > 0
        with np.errstate(all="ignore"):
            x, y = fx * local[:, 0] / local[:, 2] + cx, fy * local[:, 1] / local[:, 2] + cy
        front |= before
        seen |= before & (x >= 0) & (y >= 0) & (x <= width) & (y <= height)
    return float(seen.mean()), float((~front).mean())


def _keypoint_doubts(scene: "Scene") -> list[str]:
    """Whether the points land where they were measured."""
    distances: list[np.ndarray] = []
    views: Sequence = scene.views[:: max(1, len(scene.views) // _KEYPOINT_VIEWS)]
    for view in views:
        ids, xy = view.keypoints()
        step = max(1, len(ids) * len(views) // _KEYPOINTS)
        if len(ids):
            projected, depth = view.camera.project(scene.points.xyz[ids[::step]])
            away = (projected - xy[::step]).norm(dim=1) / max(view.camera.width, view.camera.height)
            distances.append(np.where(depth.numpy() > 0, away.numpy(), np.inf))
    every = np.concatenate(distances) if distances else np.zeros(0)
    if len(every) < _FEWEST_KEYPOINTS:
        return []
    median = float(np.median(every))
    if median <= _OFF:
        return []
    width = max(scene.views[0].camera.width, scene.views[0].camera.height)
    place = f"a median of {median * width:.0f} pixels away from" if np.isfinite(median) else "behind the cameras, not"
    return [
        f"the points land {place} where they were measured in the photos: cameras, poses and points do not belong "
        "together; export or run the reconstruction again"
    ]


def _scale_doubts(scene: "Scene", xyz: np.ndarray) -> list[str]:
    """Whether cameras and points have sizes that go together."""
    centres = scene.positions.numpy()
    spread = float(np.linalg.norm(centres - centres.mean(0), axis=1).max())
    distances = np.linalg.norm(xyz - np.median(centres, 0), axis=1)
    away, size = float(np.median(distances)), float(np.median(np.linalg.norm(xyz - np.median(xyz, 0), axis=1)))
    if spread < _FLAT * away:
        return [
            f"the cameras stand within {spread:.3g} units while the points are {away:.3g} away: from places so close "
            "together nothing fixes depth; take photos from places further apart"
        ]
    if spread > _FAR * max(size, 1e-300) and len(xyz) > 10:
        return [
            f"the cameras are spread over {spread:.3g} units, the points over {size:.3g}: poses and points may be in "
            "different units"
        ]
    return []
