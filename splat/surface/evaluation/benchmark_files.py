"""Files that DTU and Tanks and Temples publish with their scans: observability, ground planes, crop volumes."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splat.errors import InputError


@dataclass(frozen=True)
class Observability:
    """Where the DTU scanner could see: ``mask`` (X, Y, Z) bool over voxels of ``resolution`` mm from ``low`` (3,)."""

    mask: NDArray[np.bool_]
    low: NDArray[np.float64]
    resolution: float

    def holds(self, points: NDArray) -> NDArray[np.bool_]:
        """(M,) which of ``points`` (M, 3) are in the mask."""
        cell = np.rint((points - self.low) / self.resolution).astype(np.int64)
        inside = ((cell >= 0) & (cell < self.mask.shape)).all(1)
        result = np.zeros(len(points), bool)
        result[inside] = self.mask[tuple(cell[inside].T)]
        return result


@dataclass(frozen=True)
class CropVolume:
    """The prism in which Tanks and Temples counts points (Open3D's ``SelectionPolygonVolume``).

    Attributes:
        polygon: (P, 2) its outline in the plane of the two other axes, in their order x, y, z.
        axis: 0, 1 or 2, along which it extends.
        low, high: where it begins and ends there.
    """

    polygon: NDArray[np.float64]
    axis: int
    low: float
    high: float

    def holds(self, points: NDArray) -> NDArray[np.bool_]:
        """(M,) which of ``points`` (M, 3) are inside, by the even-odd rule."""
        u, v = np.delete(points, self.axis, 1).T
        inside = np.zeros(len(points), bool)
        for (u0, v0), (u1, v1) in zip(self.polygon, np.roll(self.polygon, -1, 0), strict=True):
            if v0 != v1:
                inside ^= ((v0 > v) != (v1 > v)) & (u < u0 + (v - v0) / (v1 - v0) * (u1 - u0))
        along = points[:, self.axis]
        return inside & (along >= self.low) & (along <= self.high)


def read_observability(path: Path) -> Observability:
    """DTU's ``ObsMask<scan>_10.mat``. Raises InputError."""
    mask, bounds, resolution = _matlab(path, "ObsMask", "BB", "Res")
    if mask.ndim != 3 or bounds.shape != (2, 3) or resolution.size != 1:
        raise InputError(f"{path} has a mask {mask.shape} and bounds {bounds.shape}, expected (X, Y, Z) and (2, 3)")
    return Observability(mask > 0, bounds[0].astype(np.float64), float(resolution.item()))


def read_ground_plane(path: Path) -> NDArray[np.float64]:
    """(4,) of DTU's ``Plane<scan>.mat``. Raises InputError."""
    (plane,) = _matlab(path, "P")
    if plane.size != 4:
        raise InputError(f"{path} has a plane of {plane.size} numbers, expected 4; take DTU's Plane<scan>.mat")
    return plane.astype(np.float64).ravel()


def _matlab(path: Path, *names: str) -> list[NDArray]:
    """The variables ``names`` of a MATLAB file. Raises InputError."""
    from scipy.io import loadmat

    try:
        values = loadmat(path)
        return [np.asarray(values[name]) for name in names]
    except (OSError, ValueError, TypeError, NotImplementedError, KeyError) as error:
        raise InputError(
            f"{path} cannot be read as a MATLAB file with {', '.join(names)} ({error}); take it from DTU's ObsMask"
        ) from error


def read_crop_volume(path: Path) -> CropVolume:
    """The ``<scene>.json`` of Tanks and Temples. Raises InputError."""
    try:
        values = json.loads(path.read_text())
        axis = "XYZ".index(values["orthogonal_axis"].upper())
        polygon = np.array(values["bounding_polygon"], np.float64).reshape(-1, 3)
        return CropVolume(np.delete(polygon, axis, 1), axis, float(values["axis_min"]), float(values["axis_max"]))
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be read as a crop volume ({error}); expected the benchmark's .json with bounding_polygon, "
            "orthogonal_axis, axis_min and axis_max"
        ) from error
