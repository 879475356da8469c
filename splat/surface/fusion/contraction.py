"""Voxel coordinates: a uniform grid, or space contracted outside a sphere, for unbounded scenes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

EDGE = 1.9  # of 2: how far out the contracted grid reaches, ten radii from the middle


@dataclass(frozen=True)
class Space:
    """The map between grid coordinates (one voxel is 1) and the world.

    Attributes:
        middle: (3,) float64 world position of grid coordinate 0.
        voxel: world size of a voxel at the middle.
        radius: of the sphere within which the grid is uniform, world units; None where it is so everywhere. Outside,
            |y| = 2 − 1/|x| with x in radii (Barron et al., "Mip-NeRF 360", 2022, eq. 10).
    """

    middle: NDArray[np.float64]
    voxel: float
    radius: float | None = None

    def to_world(self, grid: NDArray) -> NDArray[np.float64]:
        """World positions (…, 3) of grid coordinates (…, 3); clamped to the end of contracted space."""
        local = np.asarray(grid, np.float64) * self.voxel
        if self.radius is None:
            return local + self.middle
        norm = np.linalg.norm(local, axis=-1, keepdims=True) / self.radius
        inner = np.minimum(norm, EDGE + 0.09)
        factor = np.where(norm <= 1, 1, 1 / ((2 - inner) * np.maximum(norm, 1)))
        return local * factor + self.middle

    def to_grid(self, world: NDArray) -> NDArray[np.float64]:
        """Grid coordinates (…, 3) of world positions (…, 3)."""
        local = np.asarray(world, np.float64) - self.middle
        if self.radius is not None:
            norm = np.linalg.norm(local, axis=-1, keepdims=True) / self.radius
            far = np.maximum(norm, 1)
            local = local * ((2 - 1 / far) / far)
        return local / self.voxel

    def size_at(self, world: NDArray) -> NDArray[np.float64]:
        """(…,) largest world size of a voxel there: along the ray from the middle."""
        if self.radius is None:
            return np.full(np.shape(world)[:-1], self.voxel)
        norm = np.linalg.norm(np.asarray(world, np.float64) - self.middle, axis=-1) / self.radius
        return self.voxel * np.maximum(norm, 1) ** 2

    def inside(self, grid: NDArray) -> NDArray[np.bool_]:
        """(…,) where grid coordinates are within the end of space."""
        if self.radius is None:
            return np.ones(np.shape(grid)[:-1], bool)
        return np.linalg.norm(grid, axis=-1) < EDGE * self.radius / self.voxel
