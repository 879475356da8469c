"""`GaussianArrays`: a cloud as NumPy arrays, the working form of readers and writers: conversion needs no PyTorch."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from splat import sh_basis
from splat.coordinates import AT_ZERO, Georeference, origin_of_points

if TYPE_CHECKING:
    from splat.cloud import GaussianCloud

FIELDS = ("means", "log_scales", "quats", "logit_opacities", "sh")


@dataclass(frozen=True)
class GaussianArrays:
    """N Gaussians with the fields of `GaussianCloud`, as arrays.

    Attributes:
        means: (N, 3) centres, world units; float64 where float32 does not hold them, all else is float32.
        log_scales: (N, 3) natural logarithm of the standard deviations, world units.
        quats: (N, 4) rotations from own axes to world, w x y z, not necessarily normalised.
        logit_opacities: (N,) opacities before the sigmoid.
        sh: (N, K, 3) colour, K = (degree + 1)², DC first.
        extras: named arrays with leading dimension N.
        georeference: what to add to ``means`` for world coordinates.
    """

    means: np.ndarray
    log_scales: np.ndarray
    quats: np.ndarray
    logit_opacities: np.ndarray
    sh: np.ndarray
    extras: Mapping[str, np.ndarray] = field(default_factory=dict)
    georeference: Georeference = AT_ZERO

    def __len__(self) -> int:
        return len(self.means)

    @property
    def sh_degree(self) -> int:
        """Highest SH band stored, 0 to 4."""
        return sh_basis.degree_of(self.sh.shape[1])

    @property
    def wide(self) -> bool:
        """Whether the means are more precise than all else."""
        return self.means.dtype.itemsize > self.sh.dtype.itemsize

    @staticmethod
    def of(cloud: "GaussianCloud") -> "GaussianArrays":
        """The arrays of ``cloud``; on the CPU they share its memory."""
        return GaussianArrays(
            **{name: _array(getattr(cloud, name)) for name in FIELDS},
            extras={name: _array(tensor) for name, tensor in cloud.extras.items()},
            georeference=cloud.georeference,
        )

    def cloud(self) -> "GaussianCloud":
        """The same Gaussians as tensors, which share the arrays' memory; about an origin where they are `local`."""
        import torch

        from splat.cloud import GaussianCloud

        tensors = self.local().map(lambda array: torch.from_numpy(np.require(array, requirements="CW")))
        fields = {name: getattr(tensors, name) for name in FIELDS}
        return GaussianCloud(**fields, extras=tensors.extras, georeference=tensors.georeference)

    def local(self) -> "GaussianArrays":
        """The same Gaussians with float32 means, about an origin where float32 would not do without."""
        x, y, z = self.georeference.origin
        away = np.float64(origin_of_points(self.means))
        if not away.any():
            return self.replace(means=self.means.astype(self.sh.dtype)) if self.wide else self
        origin = (x + float(away[0]), y + float(away[1]), z + float(away[2]))
        means = (self.means.astype(np.float64) - away).astype(self.sh.dtype)
        return self.replace(means=means, georeference=Georeference(origin, self.georeference.epsg))

    def in_world(self) -> "GaussianArrays":
        """The same Gaussians with world coordinates as means, float64 if they had an origin."""
        if not self.georeference.placed:
            return self
        means = self.means.astype(np.float64) + np.float64(self.georeference.origin)
        return self.replace(means=means, georeference=Georeference(epsg=self.georeference.epsg))

    @staticmethod
    def empty(sh_degree: int = 0) -> "GaussianArrays":
        """No Gaussians."""
        shapes = ((0, 3), (0, 3), (0, 4), (0,), (0, (sh_degree + 1) ** 2, 3))
        return GaussianArrays(*(np.zeros(shape, np.float32) for shape in shapes))

    def map(self, function: Callable[[np.ndarray], Any]) -> "GaussianArrays":
        """Apply ``function`` to every array, extras included."""
        extras = {name: function(array) for name, array in self.extras.items()}
        return GaussianArrays(*(function(getattr(self, name)) for name in FIELDS), extras, self.georeference)

    def replace(self, **changes: Any) -> "GaussianArrays":
        """A copy with some attributes exchanged."""
        return dataclasses.replace(self, **changes)

    def select(self, rows: np.ndarray | slice) -> "GaussianArrays":
        """The rows named by a boolean mask (N,), an index array or a slice, in that order."""
        return self.map(lambda array: array[rows])

    @staticmethod
    def concat(tables: Sequence["GaussianArrays"]) -> "GaussianArrays":
        """All rows of ``tables``. Lower SH degrees are padded with zeros; extras must be common to all to survive."""
        if len(tables) == 1:
            return tables[0]
        if any(table.georeference != tables[0].georeference for table in tables):
            tables = [table.in_world() for table in tables]
        degree = max(table.sh_degree for table in tables)
        tables = [table.with_sh_degree(degree) for table in tables]
        common = [name for name in tables[0].extras if all(name in table.extras for table in tables)]
        return GaussianArrays(
            *(np.concatenate([getattr(table, name) for table in tables]) for name in FIELDS),
            {name: np.concatenate([table.extras[name] for table in tables]) for name in common},
            tables[0].georeference,
        )

    def with_sh_degree(self, degree: int) -> "GaussianArrays":
        """Cut (a view) or zero-pad the SH to ``degree``."""
        k, have = (degree + 1) ** 2, self.sh.shape[1]
        if k <= have:
            return self.replace(sh=self.sh[:, :k])
        return self.replace(sh=np.pad(self.sh, ((0, 0), (0, k - have), (0, 0))))

    def transform(self, rotation: np.ndarray, translation: np.ndarray, scale: float) -> "GaussianArrays":
        """Apply the similarity x → scale · R x + t to centres, axes and view-dependent colour.

        The means become float64 where they are moved so far that float32 would not do; an origin goes along.

        Args:
            rotation: (3, 3) proper rotation matrix.
            translation: (3,) world units after scaling.
            scale: positive factor.
        Raises ValueError when ``rotation`` or ``scale`` is none.
        """
        rotation = np.asarray(rotation, np.float64)
        if not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-5) or np.linalg.det(rotation) < 0:
            raise ValueError("rotation is not a proper rotation matrix")
        if not scale > 0:
            raise ValueError(f"scale is {scale}, expected a positive number")
        kind, sh = self.sh.dtype, self.sh.copy()
        for band, mix in enumerate(sh_basis.rotations(rotation, self.sh_degree), start=1):
            rows = slice(band * band, (band + 1) ** 2)
            sh[:, rows] = np.einsum("ij,njc->nic", mix.astype(kind), self.sh[:, rows], optimize=True)
        means, place = self._moved(scale * rotation, np.asarray(translation, np.float64))
        return self.replace(
            means=means,
            georeference=place,
            quats=self.quats @ _turner(rotation).T.astype(kind),
            log_scales=self.log_scales + kind.type(np.log(scale)),
            sh=sh,
        )

    def _moved(self, matrix: np.ndarray, translation: np.ndarray) -> tuple[np.ndarray, Georeference]:
        """The means after x → matrix x + translation, and where they are then."""
        place = self.georeference
        if place.placed:
            x, y, z = (matrix @ np.float64(place.origin) + translation).tolist()
            place, translation = Georeference((x, y, z), place.epsg), np.zeros(3)
        means = self.means @ matrix.T.astype(self.means.dtype) + translation.astype(self.means.dtype)
        if means.dtype != np.float64 and any(origin_of_points(means)):
            means = self.means.astype(np.float64) @ matrix.T + translation
        return means, place


def _turner(rotation: np.ndarray) -> np.ndarray:
    """(4, 4) matrix that multiplies quaternions w x y z from the left by that of ``rotation`` (3, 3)."""
    m = rotation
    # 4 q qᵀ of the quaternion q (Shepperd 1978); its longest row is the most accurate q.
    outer = np.array([
        [1 + m[0, 0] + m[1, 1] + m[2, 2], m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]],
        [m[2, 1] - m[1, 2], 1 + m[0, 0] - m[1, 1] - m[2, 2], m[0, 1] + m[1, 0], m[0, 2] + m[2, 0]],
        [m[0, 2] - m[2, 0], m[0, 1] + m[1, 0], 1 - m[0, 0] + m[1, 1] - m[2, 2], m[1, 2] + m[2, 1]],
        [m[1, 0] - m[0, 1], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1], 1 - m[0, 0] - m[1, 1] + m[2, 2]],
    ])  # fmt: skip
    row = outer[outer.diagonal().argmax()]
    w, x, y, z = row / np.linalg.norm(row)
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]])


def _array(tensor: Any) -> np.ndarray:
    """A tensor's values; NumPy has no bfloat16, which float32 holds exactly."""
    tensor = tensor.detach().cpu()
    return (tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor).numpy()
