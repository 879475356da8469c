"""Photos of a room with noise on its walls, ray cast: enough texture for structure from motion."""

from collections.abc import Callable

import cv2
import numpy as np

from splat.camera import Camera

SIZE, FOCAL = (320, 240), 260.0
Rays = Callable[[np.ndarray], np.ndarray]


def walls() -> np.ndarray:
    """(6, 512, 512) grey levels: noise of several sizes on the walls."""
    rng, picture = np.random.default_rng(0), np.zeros((6, 512, 512))
    for cells, weight in ((16, 0.8), (64, 1.0), (128, 1.2)):
        for wall in range(6):
            noise = rng.normal(size=(cells, cells))
            picture[wall] += weight * cv2.resize(noise, (512, 512), interpolation=cv2.INTER_CUBIC)
    return np.clip(127 + 45 * picture, 0, 255)


def grey(room: np.ndarray, centre: np.ndarray, towards: np.ndarray) -> np.ndarray:
    """(N,) what is seen from ``centre`` (3,) along ``towards`` (N, 3) of a room of 4 × 4 × 4 around the origin."""
    with np.errstate(divide="ignore"):
        distance = np.where(towards > 0, 2 - centre, -2 - centre) / towards
    axis = distance.argmin(1)
    hit = centre + distance[np.arange(len(axis)), axis][:, None] * towards
    side = 2 * axis + (np.take_along_axis(hit, axis[:, None], 1)[:, 0] > 0)
    uv = np.stack([np.take_along_axis(hit, ((axis + k) % 3)[:, None], 1)[:, 0] for k in (1, 2)])
    u, v = np.clip((uv + 2) / 4 * 512, 0, 511).astype(int)
    return room[side, v, u]


def ray_cast(room: np.ndarray, pose: np.ndarray, size: tuple[int, int], rays: Rays) -> np.ndarray:
    """(H, W, 3) uint8 of the room; each pixel is the mean of 2 × 2 rays. ``rays`` of pixels, in camera axes."""
    width, height = size
    total = np.zeros((height, width))
    for dx in (0.25, 0.75):
        for dy in (0.25, 0.75):
            y, x = np.mgrid[:height, :width].astype(float)
            towards = rays(np.stack([x + dx, y + dy], -1).reshape(-1, 2)) @ pose[:3, :3]
            total += grey(room, -pose[:3, :3].T @ pose[:3, 3], towards).reshape(height, width)
    return np.repeat((total / 4).astype(np.uint8)[..., None], 3, 2)


def photo(room: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(240, 320, 3) uint8 through a pinhole."""
    middle = np.array(SIZE) / 2
    return ray_cast(room, pose, SIZE, lambda xy: np.column_stack([(xy - middle) / FOCAL, np.ones(len(xy))]))


def poses(count: int) -> list[np.ndarray]:
    """Cameras on an arc that look at a corner of the room."""
    import torch

    found = []
    for k in range(count):
        angle = 0.35 * (k - (count - 1) / 2)
        place = torch.tensor([-1.2 + np.cos(angle) * 0.4, 1.5 * np.sin(angle), 0.3 * (k % 2)], dtype=torch.float64)
        corner, up = torch.tensor([2.0, 0.3, 0.0], dtype=torch.float64), torch.tensor([0.0, 0.0, 1.0]).double()
        found.append(Camera.look_at(place, corner, up, 10, 10).world_to_camera.double().numpy())
    return found
