"""The scene's plane and plain backdrops: against planes and pictures that are computed from their equations."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.scenes import MemorySource, row_scene

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth import multi_view_stereo
from splat.depth.completion import completed
from splat.depth.plane_sweep import Picture
from splat.depth.scene_plane import Plane, match_plane, scene_plane
from splat.rendering import render
from splat.runs.train import train
from splat.scene import Photo, Points, Scene, View
from splat.scene.background import colour_behind, mean_colour, plain_colour
from splat.training.config import config as settings

NORMAL = np.array([0.1, 0.2, math.sqrt(0.95)])  # of the plane of `floor`, away from the cameras
OFFSET = 0.3


def texture(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Grey of the plane of `floor` at the world coordinates x and y."""
    return 128 + 60 * np.sin(9 * x + np.sin(7 * y)) + 50 * np.sin(11 * y + 2 * np.sin(5 * x))


def floor(camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """(H, W) grey picture and z-depth of a textured plane: every pixel's ray met with NORMAL · x = OFFSET."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height) + 0.5 - camera.cy) / camera.fy
    rays = np.stack([*np.meshgrid(x, y), np.ones((camera.height, camera.width))], -1)
    rays = rays @ camera.world_to_camera.double().numpy()[:3, :3]
    centre = camera.position.double().numpy()
    depth = (OFFSET - NORMAL @ centre) / (rays @ NORMAL)
    places = centre + rays * depth[..., None]
    return texture(places[..., 0], places[..., 1]).astype(np.float32), depth


def camera_from(x: float, y: float) -> Camera:
    return Camera.look_at(torch.tensor([x, y, -3.0]), torch.zeros(3), torch.tensor([0.0, -1.0, 0.0]), 96, 64, 70.0)


def floor_scene(stray: int = 10, behind: bool = False) -> Scene:
    """Three photos of the floor from 60 to 90 degrees apart, the first held out; 90 points on it and ``stray`` not."""
    rng = np.random.default_rng(0)
    on = np.append(rng.uniform(-1, 1, (90, 2)), np.zeros((90, 1)), 1)
    on[:, 2] = (OFFSET - on[:, :2] @ NORMAL[:2]) / NORMAL[2] + rng.normal(0, 1e-3, 90)
    off = rng.uniform(-1, 1, (stray, 3)) + [0, 0, 2.0 if behind else -1.5]
    xyz = torch.from_numpy(np.concatenate([on, off]))
    empty, none = torch.zeros(len(xyz) + 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    points = Points(xyz, torch.full((len(xyz), 3), 100, dtype=torch.uint8), torch.zeros(len(xyz)).double(), empty, none)
    views = []
    for number, place in enumerate(((0.0, 1.0), (-2.5, 0.0), (2.5, 0.5))):
        camera = camera_from(*place)
        grey = torch.from_numpy(np.clip(floor(camera)[0], 0, 255)).to(torch.uint8)
        photo = Photo(grey[..., None].repeat(1, 1, 3).contiguous())
        views.append(View(f"{number}.png", camera, MemorySource(photo), held_out=number == 0))
    return Scene("floor", Path("floor"), "colmap", tuple(views), points)


def test_the_plane_of_most_points_is_found_and_points_away_from_the_cameras():
    plane = scene_plane(floor_scene())
    assert plane.normal @ NORMAL > math.cos(math.radians(0.2))
    assert plane.offset == pytest.approx(OFFSET, abs=2e-3)
    assert plane.outermost
    assert not scene_plane(floor_scene(behind=True)).outermost


def test_a_scene_without_a_plane_has_none():
    assert scene_plane(row_scene()) is None
    scene = floor_scene()
    few = replace(scene.points, xyz=scene.points.xyz[:10], track_offsets=torch.zeros(11, dtype=torch.int64))
    assert scene_plane(replace(scene, points=few)) is None


def test_photos_far_apart_agree_through_the_right_plane_only():
    cameras = [camera_from(-2.5, 0.0), camera_from(2.5, 0.5)]
    pictures = [Picture(camera, floor(camera)[0]) for camera in cameras]
    depth, cost = match_plane(Plane(NORMAL, OFFSET), 0, pictures, 100.0)
    truth = floor(cameras[0])[1]
    assert np.abs(depth / truth - 1).max() < 1e-5
    # Whatever the second photo shows as well.
    inside = (slice(20, 44), slice(30, 66))
    assert cost[inside].mean() < 0.1
    assert match_plane(Plane(NORMAL, OFFSET + 0.2), 0, pictures, 100.0)[1][inside].mean() > 0.5
    assert not match_plane(Plane(NORMAL, OFFSET), 0, pictures, 0.1)[0].any()


def test_stereo_and_guesses_keep_to_the_plane():
    scene = floor_scene()
    maps = multi_view_stereo.depth_maps(scene)
    for view, known, whole in zip(scene.train_views, maps, completed(scene, maps), strict=True):
        truth = floor(view.camera)[1]
        assert known.agreed.mean() > 0.3
        assert (np.abs(known.depth / truth - 1)[known.agreed] < 0.02).mean() > 0.98
        assert np.median(np.abs(whole.depth / truth - 1)) < 0.02


def ring_scene() -> Scene:
    """Blobs before black, seen from eight places on a circle, the first held out."""
    g = torch.Generator().manual_seed(0)
    cloud = GaussianCloud(
        means=torch.rand(60, 3, generator=g) * 2 - 1,
        log_scales=torch.full((60, 3), math.log(0.15)),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(60, 1),
        logit_opacities=torch.full((60,), 2.0),
        sh=torch.rand(60, 1, 3, generator=g) * 3 - 1.5,
    )
    views = []
    for number in range(8):
        angle = 2 * math.pi * number / 8
        place = torch.tensor([4 * math.cos(angle), 4 * math.sin(angle), 1.0])
        camera = Camera.look_at(place, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]), 40, 40)
        rgb = render(cloud, camera).rgb.clamp(0, 1)
        views.append(View(f"{number}.png", camera, MemorySource(Photo((rgb * 255 + 0.5).to(torch.uint8))), number == 0))
    empty, none = torch.zeros(61, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)
    colours = ((0.5 + 0.28209 * cloud.sh[:, 0]).clamp(0, 1) * 255).to(torch.uint8)
    points = Points(cloud.means.double(), colours, torch.zeros(60).double(), empty, none)
    return Scene("ring", Path("ring"), "colmap", tuple(views), points)


def test_a_plain_backdrop_is_told_from_a_picture():
    studio = ring_scene()
    assert plain_colour(studio.train_views) == (0.0, 0.0, 0.0) == colour_behind(studio.train_views)
    busy = floor_scene()
    assert plain_colour(busy.train_views) is None
    assert colour_behind(busy.train_views) == mean_colour(busy.train_views)


def test_few_photos_before_a_black_backdrop_do_not_grow_walls_before_the_others():
    """Black points guessed at before the black backdrop once hid the subject from every other place."""
    config = replace(settings.preset("sparse"), steps=200, eval_every=0.0)
    assert train(ring_scene(), config).metrics["psnr"] > 20
