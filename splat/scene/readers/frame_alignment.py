"""How two descriptions of the same photos lie to each other: the similarity between their poses."""

from dataclasses import dataclass

import numpy as np

_FEWEST = 3  # photos that both must have
_ANGLE = np.radians(2)  # by which the rotations of most photos may differ from one
_DISTANCE = 0.02  # by which camera centres may be off, in spreads of all of them
_MOST = 0.8  # fraction of the photos that must agree


@dataclass(frozen=True, eq=False)
class Alignment:
    """``scale · rotation · x + translation`` leads from the first frame to the second.

    Attributes:
        rotation, translation, scale: of the similarity.
        flip: whether the second description's cameras look along the opposite axes (y and z negated).
        count: photos compared.
    """

    rotation: np.ndarray
    translation: np.ndarray
    scale: float
    flip: bool
    count: int

    def move(self, xyz: np.ndarray) -> np.ndarray:
        """Points (M, 3) of the first frame in the second."""
        return self.scale * xyz @ self.rotation.T + self.translation

    def is_near(self, matrix: np.ndarray) -> bool:
        """Whether the similarity is the one of ``matrix`` (4, 4)."""
        own = np.eye(4)
        own[:3, :3], own[:3, 3] = self.scale * self.rotation, self.translation
        return bool(np.abs(own - matrix).max() < _DISTANCE * max(1.0, float(np.abs(matrix).max())))


def align(first: np.ndarray, second: np.ndarray) -> Alignment | None:
    """The similarity between the world-to-camera poses (N, 4, 4) of the same photos; None where most agree on none."""
    if len(first) < _FEWEST:
        return None
    for flip in (False, True):
        turned = np.diag([1.0, -1.0, -1.0, 1.0]) @ second if flip else second
        found = _align(first, turned, flip)
        if found is not None:
            return found
    return None


def _align(first: np.ndarray, second: np.ndarray, flip: bool) -> Alignment | None:
    rotations = np.swapaxes(second[:, :3, :3], 1, 2) @ first[:, :3, :3]
    good = np.ones(len(first), bool)
    for _ in range(3):  # the mean, then that of those near it: a few photos may be elsewhere
        rotation = _nearest_rotation(rotations[good].sum(0))
        cosine = (np.trace(np.swapaxes(rotations, 1, 2) @ rotation, axis1=1, axis2=2) - 1) / 2
        angles = np.arccos(np.clip(cosine, -1, 1))
        good = angles <= max(_ANGLE, float(np.median(angles)))
    if (angles <= _ANGLE).mean() < _MOST:
        return None
    good = angles <= _ANGLE
    a, b = _centres(first) @ rotation.T, _centres(second)
    for _ in range(3):
        middle_a, middle_b = a[good].mean(0), b[good].mean(0)
        da, db = a - middle_a, b - middle_b
        spread = float((da[good] ** 2).sum())
        if spread <= 0:
            return None
        scale = float((da[good] * db[good]).sum()) / spread
        size = float(np.sqrt((db[good] ** 2).sum(1).mean()))
        off = np.linalg.norm(scale * da - db, axis=1)
        good = (angles <= _ANGLE) & (off <= max(_DISTANCE * size, float(np.median(off))))
    if scale <= 0 or (off <= _DISTANCE * size).mean() < _MOST:
        return None
    return Alignment(rotation, middle_b - scale * middle_a, scale, flip, len(first))


def _nearest_rotation(matrix: np.ndarray) -> np.ndarray:
    u, _, v = np.linalg.svd(matrix)
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ v)]) @ v


def _centres(poses: np.ndarray) -> np.ndarray:
    return -(np.swapaxes(poses[:, :3, :3], 1, 2) @ poses[:, :3, 3:])[:, :, 0]
