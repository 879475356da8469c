"""Smooth curves through given values and orientations."""

import torch
from torch import Tensor

from splat.cloud import matrix_to_quaternion, quaternion_multiply, quaternion_to_matrix


def hermite(values: Tensor, knots: Tensor, times: Tensor, closed: bool) -> Tensor:
    """Cubic Hermite spline through ``values`` (K, C) at ``knots`` (K,) with Catmull-Rom slopes → (T, C)."""
    secants = (values[1:] - values[:-1]) / knots.diff()[:, None]
    slopes = catmull_rom_slopes(secants, knots, closed)
    i = (torch.searchsorted(knots, times, right=True) - 1).clamp(0, len(knots) - 2)
    h = knots.diff()[i][:, None]
    s = (times - knots[i])[:, None] / h
    a, b = values[i], values[i + 1]
    return (
        a * (1 + 2 * s) * (1 - s) ** 2
        + b * s * s * (3 - 2 * s)
        + h * (slopes[i] * s * (1 - s) ** 2 + slopes[i + 1] * s * s * (s - 1))
    )


def catmull_rom_slopes(secants: Tensor, knots: Tensor, closed: bool) -> Tensor:
    """(K, C) slopes at the knots: neighbouring secants (K−1, C), each weighted by the other's length of time."""
    h = knots.diff()[:, None]
    inner = (secants[:-1] * h[1:] + secants[1:] * h[:-1]) / (h[1:] + h[:-1])
    if closed:
        ends = (secants[-1:] * h[:1] + secants[:1] * h[-1:]) / (h[:1] + h[-1:])
        return torch.cat([ends, inner, ends])
    return torch.cat([secants[:1], inner, secants[-1:]])


def hermite_rotations(rotations: Tensor, knots: Tensor, times: Tensor, closed: bool) -> Tensor:
    """Rotation matrices (T, 3, 3) at ``times`` (T,) on a curve through ``rotations`` (K, 3, 3) at ``knots`` (K,).

    A cubic Bézier curve between each two keys, written with exponentials of cumulative Bernstein functions so that it
    stays on the unit sphere; angular velocities at the keys are those of Catmull-Rom (Kim, Kim and Shin 1995).
    Neighbouring keys must be less than half a turn apart.
    """
    keys = torch.stack([matrix_to_quaternion(rotation.to(torch.float64)) for rotation in rotations])
    h = knots.diff()
    steps = logarithm(quaternion_multiply(conjugate(keys[:-1]), keys[1:]))
    velocity = catmull_rom_slopes(steps / h[:, None], knots, closed)
    i = (torch.searchsorted(knots, times, right=True) - 1).clamp(0, len(knots) - 2)
    s = ((times - knots[i]) / h[i])[:, None]
    third = h[i][:, None] / 3
    start, end = exponential(velocity[i] * third), exponential(velocity[i + 1] * third)
    whole = exponential(steps[i])
    # From the second control point to the third: start⁻¹ · whole · end⁻¹.
    middle = logarithm(quaternion_multiply(quaternion_multiply(conjugate(start), whole), conjugate(end)))
    parts = (
        exponential(velocity[i] * third * (1 - (1 - s) ** 3)),
        exponential(middle * (3 * s**2 - 2 * s**3)),
        exponential(velocity[i + 1] * third * s**3),
    )
    result = keys[i]
    for part in parts:
        result = quaternion_multiply(result, part)
    return quaternion_to_matrix(result)


def conjugate(quats: Tensor) -> Tensor:
    """Inverse of unit quaternions (..., 4)."""
    return quats * torch.tensor([1.0, -1.0, -1.0, -1.0], dtype=quats.dtype)


def exponential(vectors: Tensor) -> Tensor:
    """Unit quaternions (..., 4) that turn by |v| radians about v (..., 3)."""
    half = vectors.norm(dim=-1, keepdim=True) / 2
    return torch.cat([half.cos(), torch.sinc(half / torch.pi) * vectors / 2], -1)


def logarithm(quats: Tensor) -> Tensor:
    """Rotation vectors (..., 3), at most half a turn long, of unit quaternions (..., 4)."""
    quats = torch.where(quats[..., :1] < 0, -quats, quats)
    sine = quats[..., 1:].norm(dim=-1, keepdim=True)
    half = torch.atan2(sine, quats[..., :1])
    return quats[..., 1:] * torch.where(sine > 1e-12, 2 * half / sine.clamp_min(1e-12), 2.0)
