"""Axis conventions of files: three letters name where x, y and z point (Right/Left, Up/Down, Front/Back)."""

import torch
from torch import Tensor

from splat.cloud import GaussianCloud

# The frame of this package and of every `.ply`: OpenCV's and COLMAP's.
HOME = "RDF"
_AXES = {"R": (1, 0, 0), "L": (-1, 0, 0), "D": (0, 1, 0), "U": (0, -1, 0), "F": (0, 0, 1), "B": (0, 0, -1)}


def is_frame(name: str) -> bool:
    """Whether ``name`` has one letter for each of the three directions."""
    return (
        sorted(sum(name.count(letter) for letter in pair) for pair in ("LR", "UD", "FB")) == [1, 1, 1]
        and len(name) == 3
    )


def change(source: str, target: str) -> Tensor:
    """(3, 3) float64 matrix that takes coordinates in frame ``source`` to frame ``target``."""
    home = [torch.tensor([_AXES[letter] for letter in frame], dtype=torch.float64) for frame in (source, target)]
    return home[1] @ home[0].T


def convert(cloud: GaussianCloud, source: str, target: str) -> GaussianCloud:
    """The same Gaussians with coordinates in ``target`` instead of ``source``.

    Frames of other handedness are mirror images; each Gaussian is symmetric under a flip of its own axes, so that a
    mirror about a coordinate axis is exact too.
    """
    matrix = change(source, target)
    if torch.equal(matrix, torch.eye(3, dtype=torch.float64)):
        return cloud
    if torch.linalg.det(matrix) < 0:
        # Mirror x first; what remains is a rotation.
        cloud, matrix = _mirror_x(cloud), matrix @ torch.diag(torch.tensor([-1.0, 1, 1], dtype=torch.float64))
        if torch.equal(matrix, torch.eye(3, dtype=torch.float64)):
            return cloud
    if torch.equal(matrix, torch.diag(torch.diagonal(matrix))):
        return _half_turn(cloud, torch.diagonal(matrix))
    return cloud.transform(matrix)


# How each of the 25 SH functions changes when an axis is negated (basis of splat.sh): the axes it is odd in.
_ODD = (
    "", "y", "z", "x", "xy", "yz", "", "xz", "", "y", "xyz", "y", "z", "x", "z", "x",
    "xy", "yz", "xy", "yz", "", "xz", "", "xz", "",
)  # fmt: skip


def _sh_signs(signs: dict[str, float], coefficients: int) -> Tensor:
    values = []
    for odd in _ODD[:coefficients]:
        value = 1.0
        for axis in odd:
            value *= signs[axis]
        values.append(value)
    return torch.tensor(values)


def _mirror_x(cloud: GaussianCloud) -> GaussianCloud:
    signs = torch.tensor([-1.0, 1, 1]).to(cloud.means)
    # The mirrored axes M R = (M R M) M: the last M is a symmetry of the Gaussian, and M R M negates q_y and q_z.
    quats = cloud.quats * torch.tensor([1.0, 1, -1, -1]).to(cloud.quats)
    sh = cloud.sh * _sh_signs({"x": -1.0, "y": 1.0, "z": 1.0}, cloud.sh.shape[1]).to(cloud.sh)[None, :, None]
    return cloud.replace(means=cloud.means * signs, quats=quats, sh=sh)


def _half_turn(cloud: GaussianCloud, diagonal: Tensor) -> GaussianCloud:
    """Turn by 180° about an axis, exactly: only signs and places change."""
    x, y, z = diagonal.tolist()
    means = cloud.means * diagonal.to(cloud.means)
    # R' = D R and, a Gaussian being symmetric, D R D serves as well: it negates two vector parts of the quaternion.
    quats = cloud.quats * torch.tensor([1.0, y * z, x * z, x * y]).to(cloud.quats)
    sh = cloud.sh * _sh_signs({"x": x, "y": y, "z": z}, cloud.sh.shape[1]).to(cloud.sh)[None, :, None]
    return cloud.replace(means=means, quats=quats, sh=sh)
