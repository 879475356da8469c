"""Curved surfaces as grids of points: each `Patch` is a mesh, and carries a texture over its grid."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Albedo in linear RGB (..., 3) from points (..., 3) in metres and the patch's coordinates u, v (...) in [0, 1].
Paint = Callable[[NDArray, NDArray, NDArray], NDArray]


@dataclass(frozen=True)
class Gloss:
    """What a surface mirrors.

    Attributes:
        f0: RGB reflectance seen straight on; 0 switches reflections off.
        sharpness: of the lobe around the mirrored direction, exp(sharpness · (cos − 1)).
        metal: fraction of the diffuse light that is missing (1 for a bare metal).
    """

    f0: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sharpness: float = 60.0
    metal: float = 0.0


MATT = Gloss()


@dataclass(frozen=True)
class Patch:
    """A surface.

    Attributes:
        grid: (V, U, 3) points, metres; u runs along the second axis, and (∂/∂u) × (∂/∂v) points outwards.
        texels: (rows, columns) of its texture, corner texels on corner points.
        paint: its colour.
        gloss: its reflections.
        two_sided: seen from both sides (leaves, paper).
        light_step: texels between two samples of the light.
        casts_shadow: hides light from others.
        importance: how often sparse points lie on it, per area.
    """

    grid: NDArray[np.float64]
    texels: tuple[int, int]
    paint: Paint
    gloss: Gloss = MATT
    two_sided: bool = False
    light_step: int = 1
    casts_shadow: bool = True
    importance: float = 1.0


def resample(grid: NDArray, rows: int, columns: int) -> NDArray:
    """Bilinear interpolation of (V, U, C) on a regular grid (rows, columns, C) with the same corners."""
    for axis, size in ((0, rows), (1, columns)):
        position = np.linspace(0, grid.shape[axis] - 1, size)
        low = np.minimum(position.astype(np.int64), max(grid.shape[axis] - 2, 0))
        high = np.minimum(low + 1, grid.shape[axis] - 1)
        weight = (position - low).astype(grid.dtype).reshape([-1 if a == axis else 1 for a in range(3)])
        grid = grid.take(low, axis) * (1 - weight) + grid.take(high, axis) * weight
    return grid


def grid_faces(rows: int, columns: int) -> NDArray[np.int32]:
    """(2 (rows−1) (columns−1), 3) triangles over a grid of points in row-major order."""
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    a, b, c, d = corner, corner + 1, corner + columns + 1, corner + columns
    return np.stack([np.stack([a, b, c], 1), np.stack([a, c, d], 1)], 1).reshape(-1, 3).astype(np.int32)


def lathe(profile: NDArray, columns: int, centre: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> NDArray:
    """Turn a profile (V, 2) of (radius, height) about the z axis; outwards where the profile climbs."""
    angle = np.linspace(0, 2 * np.pi, columns)
    radius, height = profile[:, 0, None], profile[:, 1, None]
    points = [radius * np.cos(angle), radius * np.sin(angle), height + 0 * angle]
    return np.stack(points, -1) + np.asarray(centre)


def sphere(centre: tuple[float, float, float], radius: float, rows: int, columns: int) -> NDArray:
    """A ball, poles up and down."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rows)
    return lathe(radius * np.stack([np.cos(angle), np.sin(angle)], 1), columns, centre)


def disc(radius: float, height: float, side: int) -> NDArray:
    """A level disc facing up; the square of its coordinates is bent into a circle (elliptical grid mapping)."""
    v, u = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side), indexing="ij")
    points = [radius * u * np.sqrt(1 - v * v / 2), radius * v * np.sqrt(1 - u * u / 2), np.full_like(u, height)]
    return np.stack(points, -1)


def tube(axis: NDArray, radius: NDArray | float, sides: int) -> NDArray:
    """A tube around the polyline ``axis`` (U, 3), its cross-section carried along without twist; (sides + 1, U, 3)."""
    tangent = np.gradient(axis, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    normal = np.empty_like(axis)
    side = np.cross(tangent[0], [0.0, 0.0, 1.0] if abs(tangent[0, 2]) < 0.9 else [1.0, 0.0, 0.0])
    for i, direction in enumerate(tangent):
        side = side - direction * (side @ direction)
        side = side / np.linalg.norm(side)
        normal[i] = side
    binormal = np.cross(tangent, normal)
    angle = -np.linspace(0, 2 * np.pi, sides + 1)[:, None, None]
    radius = np.broadcast_to(np.asarray(radius, float), len(axis))[:, None]
    return axis + radius * (np.cos(angle) * normal + np.sin(angle) * binormal)


def rod(start: NDArray, end: NDArray, radius: float, sides: int = 8) -> NDArray:
    """A straight tube."""
    return tube(np.stack([start, (np.asarray(start) + end) / 2, end]).astype(float), radius, sides)


def closed_tube(axis: NDArray, radius: float, sides: int) -> NDArray:
    """A tube around a closed polyline (U, 3) given without its repeated end; the twist left over is spread along it."""
    points = np.concatenate([axis[-1:], axis, axis[:2]])
    grid = tube(points, radius, sides)[:, 1:-1]
    closed = np.concatenate([axis, axis[:1]])
    direction = np.gradient(points, axis=0)[1:-1]
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    first, last = grid[0, 0] - axis[0], grid[0, -1] - axis[0]
    twist = np.arctan2(np.cross(last, first) @ direction[0], last @ first)
    turn = np.linspace(0, 1, len(closed))[:, None] * twist
    arm = grid - closed
    grid = closed + arm * np.cos(turn) + np.cross(direction, arm) * np.sin(turn)
    grid[:, -1] = grid[:, 0]
    return grid


def box(size: tuple[float, float, float]) -> list[NDArray]:
    """Six sides of a box around the origin: −x, +x, −y, +y, −z, +z."""
    half = np.asarray(size) / 2
    v, u = np.meshgrid(np.linspace(-1, 1, 7), np.linspace(-1, 1, 7), indexing="ij")
    sides = []
    for axis in range(3):
        for sign in (-1, 1):
            first, second = ((axis + 1) % 3, (axis + 2) % 3)[::sign]
            points = np.empty((*u.shape, 3))
            points[..., first], points[..., second], points[..., axis] = (
                u * half[first],
                v * half[second],
                sign * half[axis],
            )
            sides.append(points)
    return sides


def leaf(stem: NDArray, width: NDArray, across: NDArray, fold: float = 0.25) -> NDArray:
    """A blade (3, U, 3) along the polyline ``stem`` (U, 3), ``width`` (U,) wide along ``across`` (3,), folded up."""
    tangent = np.gradient(stem, axis=0)
    side = across - tangent * ((tangent @ across) / (tangent * tangent).sum(1))[:, None]
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    up = np.cross(tangent / np.linalg.norm(tangent, axis=1, keepdims=True), side)
    edge = width[:, None] / 2
    return np.stack([stem - edge * side + fold * edge * up, stem, stem + edge * side + fold * edge * up])


def placed(grid: NDArray, at: tuple[float, float, float], turn: float = 0.0, tilt: float = 0.0) -> NDArray:
    """Tilt about x, then turn about z (degrees), then move."""
    a, b = np.radians(tilt), np.radians(turn)
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return grid @ (about_z @ about_x).T + np.asarray(at)
