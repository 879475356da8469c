"""Axis conventions of files: three letters name where x, y and z point (Right/Left, Up/Down, Front/Back)."""

import numpy as np

from splat.cloud_arrays import GaussianArrays

# The frame of this package and of every `.ply`: OpenCV's and COLMAP's.
HOME = "RDF"
_AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "D": (0, 1, 0), "U": (0, -1, 0), "F": (0, 0, 1), "B": (0, 0, -1)}


def is_frame(name: str) -> bool:
    """Whether ``name`` has one letter for each of the three directions."""
    return (
        sorted(sum(name.count(letter) for letter in pair) for pair in ("LR", "UD", "FB")) == [1, 1, 1]
        and len(name) == 3
    )


def change(source: str, target: str) -> np.ndarray:
    """(3, 3) float64 matrix that takes coordinates in frame ``source`` to frame ``target``."""
    home = [np.array([_AXES[letter] for letter in frame], np.float64) for frame in (source, target)]
    return home[1] @ home[0].T


def convert(table: GaussianArrays, source: str, target: str) -> GaussianArrays:
    """The same Gaussians with coordinates in ``target`` instead of ``source``.

    Frames of other handedness are mirror images; each Gaussian is symmetric under a flip of its own axes, so that a
    mirror about a coordinate axis is exact too.
    """
    matrix = change(source, target)
    if np.array_equal(matrix, np.eye(3)):
        return table
    table = table.in_world()  # the origin turns with the rest
    if np.linalg.det(matrix) < 0:
        # Mirror x first; what remains is a rotation.
        table, matrix = _flip(table, (-1.0, 1.0, 1.0)), matrix @ np.diag([-1.0, 1, 1])
    if np.array_equal(matrix, np.diag(matrix.diagonal())):
        return _flip(table, tuple(matrix.diagonal().tolist()))
    return table.transform(matrix, np.zeros(3), 1.0)


# How each of the 25 SH functions changes when an axis is negated (basis of splat.sh_basis): the axes it is odd in.
_ODD = (
    "", "y", "z", "x", "xy", "yz", "", "xz", "", "y", "xyz", "y", "z", "x", "z", "x",
    "xy", "yz", "xy", "yz", "", "xz", "", "xz", "",
)  # fmt: skip


def _flip(table: GaussianArrays, signs: tuple[float, float, float]) -> GaussianArrays:
    """Negate axes, exactly: a mirror, or half a turn.

    With the matrix D of the signs, the axes D R = (D R D) D: the last D is a symmetry of the Gaussian, and D R D
    negates vector parts of the quaternion.
    """
    if min(signs) > 0:
        return table
    x, y, z = signs
    colour = [np.prod([signs["xyz".index(axis)] for axis in odd]) for odd in _ODD[: table.sh.shape[1]]]
    kind = table.sh.dtype
    with np.errstate(invalid="ignore"):  # NaN of a damaged file
        return table.replace(
            means=table.means * np.array(signs, table.means.dtype),
            quats=table.quats * np.array([1, y * z, x * z, x * y], kind),
            sh=table.sh * np.array(colour, kind)[:, None],
        )
