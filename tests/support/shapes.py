"""Shapes whose surface is known exactly, and depth maps of them."""

import math

import numpy as np
import torch

from splat.camera import Camera
from splat.depth.depth_maps import MapStore
from splat.surface.depth.rasterized_depth import rays
from splat.surface.mesh.mesh import Mesh


def cameras_around(count: int, size: int, distance: float = 3.0) -> list[Camera]:
    """Cameras spread evenly over a sphere, looking at its middle."""
    found = []
    for index in range(count):
        height = 1 - 2 * (index + 0.5) / count
        across, angle = math.sqrt(1 - height * height), 2.4 * index
        place = distance * torch.tensor([across * math.cos(angle), height, across * math.sin(angle)])
        up = torch.tensor([0.0, 0.0, 1.0] if abs(height) > 0.9 else [0.0, 1.0, 0.0])
        found.append(Camera.look_at(place, torch.zeros(3), up, size, size, 50.0))
    return found


def sphere_depth(camera: Camera, radius: float = 1.0, middle=(0.0, 0.0, 0.0)) -> np.ndarray:
    """(H, W) z-depth of a sphere, infinite beside it."""
    pose = camera.world_to_camera.double().numpy()
    directions = rays(camera).double().numpy() @ pose[:3, :3]
    origin = camera.position.double().numpy() - np.asarray(middle)
    a, b = (directions**2).sum(-1), directions @ origin
    inside = b * b - a * (origin @ origin - radius * radius)
    return np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)


def store_of(cameras: list[Camera], depths: list[np.ndarray]) -> MapStore:
    """Maps of equal weight in one grey."""
    store = MapStore(cameras)
    for index, depth in enumerate(depths):
        store.put(index, depth, np.ones(depth.shape), np.full((*depth.shape, 3), 200, np.uint8))
    return store


def sphere_mesh(radius: float = 1.0, across: int = 64) -> Mesh:
    """A sphere of latitude and longitude."""
    rows, columns = across // 2, across
    theta = np.pi * np.arange(1, rows) / rows
    phi = 2 * np.pi * np.arange(columns) / columns
    ring = np.stack(
        [np.sin(theta)[:, None] * np.cos(phi), np.sin(theta)[:, None] * np.sin(phi), np.cos(theta)[:, None] + 0 * phi],
        -1,
    ).reshape(-1, 3)
    vertices = np.concatenate([ring, [[0, 0, 1], [0, 0, -1]]]) * radius
    top, bottom, faces = len(ring), len(ring) + 1, []
    for row in range(rows - 2):
        for column in range(columns):
            a, b = row * columns + column, row * columns + (column + 1) % columns
            faces += [(a, a + columns, b), (b, a + columns, b + columns)]
    last = (rows - 2) * columns
    for column in range(columns):
        after = (column + 1) % columns
        faces += [(top, column, after), (bottom, last + after, last + column)]
    return Mesh(vertices, np.array(faces))


def square(size: float = 1.0, z: float = 0.0) -> Mesh:
    """A square in the plane at height ``z``, its front towards +z."""
    vertices = np.array([[0, 0, z], [size, 0, z], [size, size, z], [0, size, z]], float)
    return Mesh(vertices, np.array([[0, 1, 2], [0, 2, 3]]))


def volume(mesh: Mesh) -> float:
    """Signed volume inside a closed mesh; positive if faces are counter-clockwise from outside."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    return float((np.cross(a, b) * c).sum() / 6)
