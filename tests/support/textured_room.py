"""Photos of a room with noise on its walls, ray cast: enough texture for structure from motion."""

import cv2
import numpy as np

from splat.camera import Camera

SIZE, FOCAL = (320, 240), 260.0


def walls() -> np.ndarray:
    """(6, 512, 512) grey levels: noise of several sizes on the walls."""
    rng, picture = np.random.default_rng(0), np.zeros((6, 512, 512))
    for cells, weight in ((16, 0.8), (64, 1.0), (128, 1.2)):
        for wall in range(6):
            noise = rng.normal(size=(cells, cells))
            picture[wall] += weight * cv2.resize(noise, (512, 512), interpolation=cv2.INTER_CUBIC)
    return np.clip(127 + 45 * picture, 0, 255)


def photo(room: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(240, 320, 3) uint8 of a room of 4 × 4 × 4 around the origin; each pixel is the mean of 2 × 2 rays."""
    width, height = SIZE
    total = np.zeros((height, width))
    centre = -pose[:3, :3].T @ pose[:3, 3]
    for dx in (0.25, 0.75):
        for dy in (0.25, 0.75):
            y, x = np.mgrid[:height, :width].astype(float)
            local = np.stack([(x + dx - width / 2) / FOCAL, (y + dy - height / 2) / FOCAL, np.ones_like(x)], -1)
            towards = local.reshape(-1, 3) @ pose[:3, :3]
            with np.errstate(divide="ignore"):
                distance = np.where(towards > 0, 2 - centre, -2 - centre) / towards
            axis = distance.argmin(1)
            hit = centre + distance[np.arange(len(axis)), axis][:, None] * towards
            side = 2 * axis + (np.take_along_axis(hit, axis[:, None], 1)[:, 0] > 0)
            uv = np.stack([np.take_along_axis(hit, ((axis + k) % 3)[:, None], 1)[:, 0] for k in (1, 2)])
            u, v = np.clip((uv + 2) / 4 * 512, 0, 511).astype(int)
            total += room[side, v, u].reshape(height, width)
    return np.repeat((total / 4).astype(np.uint8)[..., None], 3, 2)


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
