"""Registration of a mesh to its reference: similarity from point pairs (Umeyama 1991), and ICP."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splat.errors import InputError


@dataclass(frozen=True)
class Similarity:
    """x → scale · R x + t."""

    scale: float
    rotation: NDArray[np.float64]
    translation: NDArray[np.float64]

    def apply(self, points: NDArray) -> NDArray[np.float64]:
        """Moved ``points`` (M, 3)."""
        return self.scale * points @ self.rotation.T + self.translation

    def after(self, first: "Similarity") -> "Similarity":
        """``first``, then this."""
        return Similarity(
            self.scale * first.scale,
            self.rotation @ first.rotation,
            self.scale * self.rotation @ first.translation + self.translation,
        )

    @staticmethod
    def identity() -> "Similarity":
        return Similarity(1.0, np.eye(3), np.zeros(3))

    @staticmethod
    def of_matrix(matrix: NDArray) -> "Similarity":
        """From a (4, 4) matrix. Raises InputError unless it is a similarity."""
        scale = float(np.cbrt(max(np.linalg.det(matrix[:3, :3]), 0)))
        rotation = matrix[:3, :3] / (scale or 1)
        if scale <= 0 or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-4):
            raise InputError("the 4×4 matrix for alignment is no rotation with scale and shift; check the file")
        return Similarity(scale, rotation, matrix[:3, 3].copy())


def umeyama(source: NDArray, target: NDArray, with_scale: bool = True) -> Similarity:
    """The similarity that brings ``source`` (M, 3) nearest to ``target`` (M, 3) in least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 1991, eq. 40–43.
    """
    if len(source) != len(target) or len(source) < 3:
        raise InputError(f"alignment needs three pairs of points or more, found {min(len(source), len(target))}")
    a, b = source.mean(0), target.mean(0)
    x, y = source - a, target - b
    u, d, vt = np.linalg.svd(y.T @ x / len(x))
    sign = np.ones(3)
    if np.linalg.det(u) * np.linalg.det(vt) < 0:
        sign[2] = -1
    rotation = u @ np.diag(sign) @ vt
    variance = (x * x).sum() / len(x)
    scale = float((d * sign).sum() / variance) if with_scale and variance > 0 else 1.0
    return Similarity(scale, rotation, b - scale * rotation @ a)


def icp(
    source: NDArray,
    target: NDArray,
    reach: float,
    start: Similarity | None = None,
    with_scale: bool = False,
    rounds: int = 60,
) -> Similarity:
    """Iterated closest points (Besl and McKay 1992) from ``source`` to ``target``, pairs within ``reach`` only.

    Stops when the motion becomes negligible. Raises InputError where fewer than three pairs lie within reach.
    """
    motion = start or Similarity.identity()
    tree = cKDTree(target)
    for _ in range(rounds):
        moved = motion.apply(source)
        distance, nearest = tree.query(moved, distance_upper_bound=reach, workers=-1)
        pairs = np.isfinite(distance)
        if pairs.sum() < 3:
            raise InputError(
                f"no part of the mesh lies within {reach:.4g} of the reference, so they cannot be aligned; "
                "give a start with --transform"
            )
        step = umeyama(moved[pairs], target[nearest[pairs]], with_scale)
        motion = step.after(motion)
        shift = np.linalg.norm(step.apply(moved[pairs]) - moved[pairs], axis=1).max()
        if shift < 1e-6 * reach:
            break
    return motion


def voxel_downsample(points: NDArray, voxel: float) -> NDArray[np.float64]:
    """One point (their mean) per occupied cube of side ``voxel``."""
    cell = np.floor(points / voxel).astype(np.int64)
    _, row, counts = np.unique(cell, axis=0, return_inverse=True, return_counts=True)
    row = row.reshape(-1)
    return np.stack([np.bincount(row, points[:, axis]) for axis in range(3)], 1) / counts[:, None]
