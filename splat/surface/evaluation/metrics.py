"""How near two surfaces are: accuracy, completeness, chamfer distance, F-score, on points sampled from both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splat.camera import Camera
from splat.colormaps import magma
from splat.errors import InputError
from splat.surface.mesh.draw import draw
from splat.surface.mesh.mesh import Mesh

MOST_SAMPLES = 4_000_000


@dataclass(frozen=True)
class FScore:
    """Precision (fraction of the mesh within ``threshold`` of the reference) and recall (the reverse)."""

    threshold: float
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        total = self.precision + self.recall
        return 2 * self.precision * self.recall / total if total > 0 else 0.0


@dataclass(frozen=True)
class SurfaceScores:
    """Distances in world units.

    Attributes:
        accuracy: mean distance from the mesh to the reference.
        completeness: mean distance from the reference to the mesh.
        f_scores: at each threshold asked for.
        diagonal: of the reference's bounding box.
        points: samples compared, of the mesh and of the reference.
    """

    accuracy: float
    completeness: float
    f_scores: tuple[FScore, ...]
    diagonal: float
    points: tuple[int, int]

    @property
    def chamfer(self) -> float:
        """Mean of accuracy and completeness."""
        return 0.5 * (self.accuracy + self.completeness)


def sample(mesh: Mesh, spacing: float, box: Sequence[float] | None = None, seed: int = 0) -> NDArray[np.float64]:
    """Points (M, 3), uniform on the area of ``mesh``, on average one per square of side ``spacing``.

    Args:
        spacing: world units; wider where more than `MOST_SAMPLES` would be needed.
        box: x y z of the lower and upper corner: only points inside are given.

    The same seed gives the same points. Raises InputError where the mesh has no area.
    """
    areas = mesh.areas
    if not areas.sum() > 0:
        raise InputError("the mesh has no area, so nothing can be compared; check how it was made")
    if box is not None:  # spend samples only on faces that may reach into the box
        corners = mesh.vertices[mesh.faces]
        reaches = (corners.max(1) >= np.array(box[:3])) & (corners.min(1) <= np.array(box[3:]))
        areas = np.where(reaches.all(1), areas, 0)
        if not areas.sum() > 0:
            return np.zeros((0, 3))
    count = int(np.clip(np.ceil(areas.sum() / spacing**2), 1000, MOST_SAMPLES))
    rng = np.random.default_rng(seed)
    # Stratified along the faces: evener than independent draws.
    area = (np.arange(count) + rng.random(count)) / count * areas.sum()
    face = np.minimum(np.searchsorted(np.cumsum(areas), area), len(areas) - 1)
    a, b = rng.random((2, count))
    flip = a + b > 1
    a, b = np.where(flip, 1 - a, a), np.where(flip, 1 - b, b)
    corner = mesh.vertices[mesh.faces[face]]
    points = corner[:, 0] + a[:, None] * (corner[:, 1] - corner[:, 0]) + b[:, None] * (corner[:, 2] - corner[:, 0])
    return points if box is None else points[in_box(points, box)]


def compare(points: NDArray, reference: NDArray, thresholds: Sequence[float]) -> SurfaceScores:
    """Scores of ``points`` (M, 3) against ``reference`` (K, 3), both dense. Raises InputError if one is empty."""
    for name, each in (("mesh", points), ("reference", reference)):
        if not len(each):
            raise InputError(f"nothing of the {name} is left to compare; widen the crop box or check the alignment")
    there = distances(points, reference)
    back = distances(reference, points)
    scores = tuple(FScore(float(t), float((there < t).mean()), float((back < t).mean())) for t in thresholds)
    diagonal = float(np.linalg.norm(reference.max(0) - reference.min(0)))
    return SurfaceScores(float(there.mean()), float(back.mean()), scores, diagonal, (len(points), len(reference)))


def distances(points: NDArray, reference: NDArray) -> NDArray[np.float64]:
    """(M,) distance of each of ``points`` to the nearest of ``reference``."""
    return cKDTree(reference).query(points, workers=-1)[0]


def in_box(points: NDArray, box: Sequence[float], margin: float = 0.0) -> NDArray[np.bool_]:
    """(M,) which points lie in the box (x y z of its lower, then of its upper corner), widened by ``margin``."""
    low, high = np.array(box[:3]) - margin, np.array(box[3:]) + margin
    return ((points >= low) & (points <= high)).all(1)


@dataclass(frozen=True)
class Sight:
    """What the cameras could see of the reference, for judging only that.

    Attributes:
        cameras: the views.
        depths: (H, W) per view: z-depth of the reference, 0 where it shows nothing.
    """

    cameras: tuple[Camera, ...]
    depths: tuple[NDArray[np.float32], ...]

    @staticmethod
    def of(reference: Mesh, cameras: Sequence[Camera]) -> "Sight":
        return Sight(tuple(cameras), tuple(draw(reference, camera).depth for camera in cameras))

    def seen(self, points: NDArray, margin: float) -> NDArray[np.bool_]:
        """(M,) points that some view could see: in its picture, and not behind the reference by more than ``margin``.

        Where the reference shows nothing, a view sees any distance.
        """
        result = np.zeros(len(points), bool)
        for camera, depth in zip(self.cameras, self.depths, strict=True):
            world_to_camera = camera.world_to_camera.double().numpy()
            rest = np.flatnonzero(~result)
            local = points[rest] @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
            z = local[:, 2]
            front = z > 0
            column = np.floor(camera.fx * local[:, 0] / np.where(front, z, 1) + camera.cx)
            row = np.floor(camera.fy * local[:, 1] / np.where(front, z, 1) + camera.cy)
            use = front & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
            use = np.flatnonzero(use)
            limit = depth[row[use].astype(int), column[use].astype(int)]
            result[rest[use[(limit == 0) | (z[use] <= limit + margin)]]] = True
        return result


def error_coloured(mesh: Mesh, reference: NDArray, most: float) -> Mesh:
    """``mesh`` with vertices coloured by their distance to ``reference`` (K, 3), from dark to bright at ``most``."""
    return replace(mesh, colours=magma(distances(mesh.vertices, reference) / most))
