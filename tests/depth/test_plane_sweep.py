"""Stereo against surfaces whose depth is known in closed form."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from splat.camera import Camera
from splat.depth import multi_view_stereo, sgm
from splat.depth.completion import complete, completed
from splat.depth.plane_sweep import Picture, sweep
from splat.scene import Photo, Points, Scene, View

SIZE = (64, 80)  # rows, columns


class Memory:
    """Stands in for an image file."""

    has_mask = has_alpha = False

    def __init__(self, rgb: np.ndarray) -> None:
        self.photo = Photo(torch.from_numpy(rgb))

    def load(self) -> Photo:
        return self.photo


def wall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Brightness of a wall at metres (x, y): smooth noise of many wavelengths, 0 to 255."""
    rng = np.random.default_rng(3)
    value = np.zeros_like(x)
    for _ in range(60):
        kx, ky = rng.uniform(-14, 14, 2)
        value += np.sin(kx * x + ky * y + rng.uniform(0, 6.28))
    return np.clip(128 + 22 * value / 2, 0, 255)


def slanted(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Picture (H, W) and z-depth (H, W) of the wall z = 4 + 0.3 x."""
    rows, columns = np.mgrid[: camera.height, : camera.width] + 0.5
    pose = camera.world_to_camera.numpy()
    rays = np.stack([(columns - camera.cx) / camera.fx, (rows - camera.cy) / camera.fy, np.ones_like(rows)], -1)
    rays = rays @ pose[:3, :3]
    centre = camera.position.numpy()
    depth = (4 + 0.3 * centre[0] - centre[2]) / (rays[..., 2] - 0.3 * rays[..., 0])
    place = centre + rays * depth[..., None]
    return wall(place[..., 0], place[..., 1]).astype(np.float32), depth


def cameras() -> list[Camera]:
    target, up = torch.tensor([0.0, 0.0, 4.0]), torch.tensor([0.0, -1.0, 0.0])
    places = [[-0.5, 0.0, 0.0], [0.0, 0.1, 0.1], [0.5, 0.0, 0.0]]
    return [Camera.look_at(torch.tensor(p), target, up, SIZE[1], SIZE[0], 45.0) for p in places]


def scene() -> Scene:
    views = []
    for number, camera in enumerate(cameras()):
        grey = slanted(camera)[0].astype(np.uint8)
        views.append(View(f"{number}.png", camera, Memory(np.repeat(grey[..., None], 3, 2))))
    none = torch.zeros(0, dtype=torch.int64)
    xyz = torch.tensor([[x, y, 4 + 0.3 * x] for x in (-0.5, 0.0, 0.5) for y in (-0.4, -0.2, 0.2, 0.4)]).double()
    grey = torch.full((len(xyz), 3), 128, dtype=torch.uint8)
    points = Points(xyz, grey, torch.zeros(len(xyz)).double(), torch.zeros(len(xyz) + 1, dtype=torch.int64), none)
    return Scene("wall", Path("wall"), "colmap", tuple(views), points)


def test_depth_of_a_slanted_wall():
    own, *others = [Picture(camera, slanted(camera)[0]) for camera in cameras()]
    depth, confidence = sweep(own, others, 2.5, 8.0)
    error = np.abs(depth / slanted(own.camera)[1] - 1)[6:-6, 6:-6]
    assert np.median(error) < 0.01
    assert (error < 0.03).mean() > 0.9
    assert confidence.min() >= 0 and confidence.max() <= 1


def test_dense_points_lie_on_the_wall_and_carry_its_colour():
    made = scene()
    maps = multi_view_stereo.depth_maps(made)
    dense = multi_view_stereo.fuse(made, maps)
    assert all(own.agreed.mean() > 0.5 for own in maps)
    off = (dense.xyz[:, 2] - 4 - 0.3 * dense.xyz[:, 0]).abs()
    assert float(off.median()) < 0.03
    shown = wall(dense.xyz[:, 0].numpy(), dense.xyz[:, 1].numpy())
    assert np.median(np.abs(shown - dense.rgb[:, 0].numpy())) < 12
    # One pixel of the wall, seen from 4 m: the spacing is depth over focal length.
    assert float(dense.spacing.median()) == pytest.approx(4 / made.views[0].camera.fx, rel=0.1)
    # What several photos show is there once: about one photo's pixels and what the others add at the sides.
    assert len(dense) < 2.2 * SIZE[0] * SIZE[1]


def test_photos_without_overlap_give_no_points():
    made = scene()
    away = made.views[1].camera
    turn = torch.diag(torch.tensor([-1.0, 1.0, -1.0, 1.0], dtype=torch.float64))
    behind = dataclasses.replace(made.views[1], camera=away.replace(world_to_camera=turn @ away.world_to_camera))
    apart = dataclasses.replace(made, views=(made.views[0], behind))
    maps = multi_view_stereo.depth_maps(apart)
    assert len(multi_view_stereo.fuse(apart, maps)) == 0
    assert not any(own.agreed.any() for own in maps)


def test_path_costs_against_a_plain_loop():
    rng = np.random.default_rng(0)
    costs = rng.random((1, 6, 5)).astype(np.float32)
    grey = np.zeros((1, 6), np.float32)
    total = np.zeros_like(costs)
    sgm._walk(costs.swapaxes(0, 1), grey.T, 1, 0, total.swapaxes(0, 1))
    before = costs[0, 0].astype(np.float64)
    for column in range(1, 6):
        now = np.empty(5)
        for plane in range(5):
            ways = [before[plane], before.min() + sgm.LARGE]
            ways += [before[k] + sgm.SMALL for k in (plane - 1, plane + 1) if 0 <= k < 5]
            now[plane] = costs[0, column, plane] + min(ways) - before.min()
        assert np.allclose(total[0, column], now, atol=1e-5)
        before = now


def test_holes_are_filled_smoothly_but_not_across_edges():
    grey = np.zeros((20, 30), np.float32)
    grey[:, 15:] = 200
    inverse, sure = np.zeros_like(grey), np.zeros_like(grey)
    inverse[3:17:4, 3:12:4], sure[3:17:4, 3:12:4] = 0.5, 1
    inverse[3:17:4, 18:28:4], sure[3:17:4, 18:28:4] = 0.1, 1
    found = complete(inverse, sure, grey)
    assert np.abs(found[:, :14] - 0.5).max() < 0.02
    assert np.abs(found[:, 16:] - 0.1).max() < 0.02


def test_completed_maps_have_no_holes_and_keep_what_was_agreed():
    made = scene()
    maps = multi_view_stereo.depth_maps(made)
    for view, own, whole in zip(made.views, maps, completed(made, maps), strict=True):
        assert bool((whole.depth > 0).all())
        assert np.array_equal(whole.depth[own.agreed], own.depth[own.agreed])
        assert np.quantile(np.abs(whole.depth / slanted(view.camera)[1] - 1), 0.95) < 0.12
