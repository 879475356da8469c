"""The plane on which much of a scene lies (a floor, a table, a wall), and which pixels of the photos show it.

Stereo compares windows parallel to the picture, so it loses a floor that photos see at different slants. Once the floor
is known, the map between photos is one homography, and photos far apart can be compared by it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from splat.camera import Camera
from splat.depth.plane_sweep import WORST, Picture, compare_by
from splat.scene.scene import Scene

_TRIES = 1000  # triples of points that are tried
_NEAR = 0.02  # scene extents: points closer than this to a plane lie on it
_FRACTION = 0.5  # of the points must lie on it
_FEWEST = 20  # points
_BEHIND, _STRAY = 2.0, 0.02  # nothing is behind a plane if at most 2 % of the points lie two `_NEAR` behind


@dataclass(frozen=True)
class Plane:
    """All x with ``normal`` · x = ``offset``; ``normal`` (3,) float64 of length 1, world, points away from the cameras.

    outermost: whether nothing lies behind it, as behind a wall or below the ground.
    """

    normal: np.ndarray
    offset: float
    outermost: bool = False

    def coefficients(self, camera: Camera) -> np.ndarray:
        """(3,) float64 m with m · x = 1 for the plane's points x in the axes of ``camera``."""
        world_to_camera = camera.world_to_camera.double().numpy()
        turned = world_to_camera[:3, :3] @ self.normal
        return turned / (self.offset + turned @ world_to_camera[:3, 3])

    def inverse_depth(self, camera: Camera) -> np.ndarray:
        """(H, W) float32 inverse z-depth of the plane behind each pixel; ≤ 0 where a ray never meets it."""
        m = self.coefficients(camera)
        rays = camera.directions(camera.pixel_centres()).numpy()
        return (m[0] * rays[..., 0] + m[1] * rays[..., 1] + m[2]).astype(np.float32)


def scene_plane(scene: Scene) -> Plane | None:
    """The plane on which most sparse points of ``scene`` lie, or None if there is none."""
    points = scene.points.xyz.numpy()
    if not scene.points.measured or len(points) < _FEWEST:
        return None
    random, near = np.random.default_rng(0), _NEAR * scene.extent
    best, most = None, 0.0
    for _ in range(_TRIES):
        plane = _through(points[random.choice(len(points), 3, replace=False)])
        if plane is not None:
            score = np.clip(1 - np.abs(points @ plane.normal - plane.offset) / near, 0, None).sum()
            if score > most:
                best, most = plane, score
    if best is None:
        return None
    on = np.abs(points @ best.normal - best.offset) < near
    if on.mean() < _FRACTION or on.sum() < _FEWEST:
        return None
    centre = points[on].mean(0)
    normal = np.linalg.svd(points[on] - centre, full_matrices=False)[2][2]
    cameras = np.stack([view.camera.position.double().numpy() for view in scene.train_views])
    normal = normal if np.median((cameras - centre) @ normal) < 0 else -normal
    behind = (points - centre) @ normal > _BEHIND * near
    return Plane(normal, float(normal @ centre), bool(behind.mean() <= _STRAY))


def _through(corners: np.ndarray) -> Plane | None:
    normal = np.cross(corners[1] - corners[0], corners[2] - corners[0])
    length = np.linalg.norm(normal)
    return Plane(normal / length, float(normal @ corners[0] / length)) if length > 1e-12 else None


def match_plane(
    plane: Plane, index: int, pictures: Sequence[Picture], farthest: float
) -> tuple[np.ndarray, np.ndarray]:
    """Depth of ``plane`` in the picture ``index``, and how well another one shows the same through it.

    Returns:
        depth (H, W) float32, 0 where the plane is not to be seen within ``farthest``; and cost (H, W) float32, from 0
        (equal) to `WORST`.
    """
    reference = pictures[index]
    inverse = plane.inverse_depth(reference.camera)
    seen = inverse > 1 / farthest
    m, cost = plane.coefficients(reference.camera), np.full(reference.grey.shape, WORST, np.float32)
    for number, other in enumerate(pictures):
        if number != index and _same_side(plane, reference.camera, other.camera):
            cost = np.minimum(cost, compare_by(reference, other, m))
    return np.where(seen, 1 / np.where(seen, inverse, 1), 0).astype(np.float32), np.where(seen, cost, WORST)


def _same_side(plane: Plane, a: Camera, b: Camera) -> bool:
    first, second = (float(plane.normal @ c.position.double().numpy()) - plane.offset for c in (a, b))
    return first * second > 0
