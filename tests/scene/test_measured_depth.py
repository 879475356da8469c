"""Depth maps beside the photos: found, their unit and kind told by the scene's points, and used."""

import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from splat.camera import Camera
from splat.errors import InputError
from splat.runs.train import train
from splat.scene import ImageCache, load_scene
from splat.scene.images import DepthSource, ImageSource
from splat.scene.measured_depth import seen_points
from splat.scene.scene import View
from splat.scene.undistort import Lens
from splat.training import depth_supervision
from splat.training.config.config import LossConfig, TrainConfig
from splat.training.start import Start
from tests.support.scenes import short
from tests.support.tiny import SIDE, tiny_cameras, write_scene

RADIUS = 1.3


def sphere(camera: Camera, width: int = SIDE, along_ray: bool = False) -> np.ndarray:
    """(H, W) exact depth of a ball around the middle, 0 where the ray misses it."""
    camera = camera.resized(width, width)
    rays = camera.directions(camera.pixel_centres()).numpy()
    rays = rays / np.linalg.norm(rays, axis=2, keepdims=True)
    towards = camera.world_to_camera[:3, 3].double().numpy()
    along = rays @ towards
    inside = along**2 - towards @ towards + RADIUS**2
    length = np.where(inside > 0, along - np.sqrt(np.maximum(inside, 0)), 0)
    return length if along_ray else length * rays[..., 2]


def on_the_sphere(folder):
    """The tiny scene, its points moved to the front of the ball, as one camera after the other sees them."""
    scene = load_scene(write_scene(folder))
    lines, images = [], []
    number = 1
    model = folder / "sparse" / "0"
    poses = (model / "images.txt").read_text().splitlines()[::2]
    for view, camera, pose in zip(scene.views, tiny_cameras(), poses, strict=True):
        depth, marks = sphere(camera), []
        for x, y in np.argwhere(depth.T > 0)[::17]:
            ray = camera.directions(torch.tensor([[x + 0.5, y + 0.5]], dtype=torch.float64))[0]
            local = ray * depth[y, x]
            world = camera.world_to_camera[:3, :3].double().T @ (local - camera.world_to_camera[:3, 3].double())
            lines.append(f"{number} {' '.join(f'{v:.9f}' for v in world)} 9 9 9 0.1 {view.name[:2].lstrip('0') or 1} 0")
            marks.append(f"{x + 0.5} {y + 0.5} {number}")
            number += 1
        images += [pose, " ".join(marks)]
    (model / "points3D.txt").write_text("\n".join(lines) + "\n")
    (model / "images.txt").write_text("\n".join(images) + "\n")
    (folder / "depths").mkdir()
    return folder


def save(folder, name, depth, kind):
    stem = name.removesuffix(".png")
    if kind == "png":
        Image.fromarray((depth * 1000 + 0.5).astype(np.uint16)).save(folder / "depths" / f"{stem}.png")
    elif kind == "tum":
        Image.fromarray((depth * 5000 + 0.5).astype(np.uint16)).save(folder / "depths" / f"{stem}_depth.png")
    elif kind == "npy":
        depth[depth == 0] = np.nan
        np.save(folder / "depths" / f"{stem}.npy", depth.astype(np.float32))
    else:
        Image.fromarray((depth * 0.37).astype(np.float32)).save(folder / "depths" / f"{stem}.tiff")


@pytest.mark.parametrize("along_ray", [False, True])
@pytest.mark.parametrize("kind, unit", [("png", 1e-3), ("tum", 1 / 5000), ("npy", 1.0), ("tiff", 1 / 0.37)])
def test_unit_and_kind_are_told_by_the_points(tmp_path, kind, unit, along_ray) -> None:
    folder = on_the_sphere(tmp_path)
    for index, camera in enumerate(tiny_cameras()):
        save(folder, f"{index:02}.png", sphere(camera, 2 * SIDE, along_ray), kind)
    scene = load_scene(folder)
    assert any("measured depth of 8 of 8 photos is used" in note for note in scene.notes), scene.notes
    for view in scene.views:
        assert view.depth.unit == pytest.approx(unit, rel=2e-3) and view.depth.along_ray == along_ray
        points, pixels = seen_points(view)
        assert len(points) > 500
        assert float((points.norm(dim=1) - RADIUS).abs().max()) < 0.01
        assert float((view.camera.project(points)[0] - pixels).abs().max()) < 1e-3


def test_depth_of_another_scene_is_not_used(tmp_path) -> None:
    folder = on_the_sphere(tmp_path)
    random = np.random.default_rng(0)
    for index in range(8):
        save(folder, f"{index:02}.png", 1 + 4 * random.random((SIDE, SIDE)), "png")
    scene = load_scene(folder)
    assert all(view.depth is None for view in scene.views)
    assert any("is not used: it differs from the scene's points by" in note for note in scene.notes)


def test_a_map_of_another_shape_or_damaged_is_named(tmp_path) -> None:
    folder = on_the_sphere(tmp_path)
    np.save(folder / "depths" / "00.npy", np.ones((10, 40)))
    with pytest.raises(InputError, match=r"00\.npy is 40×10 but its photo"):
        load_scene(folder)
    data = (folder / "depths" / "00.npy").read_bytes()
    (folder / "depths" / "00.npy").write_bytes(data[:-1])
    with pytest.raises(InputError, match=r"00\.npy"):
        load_scene(folder)
    np.save(folder / "depths" / "00.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"00\.npy"):
        load_scene(folder)


def test_without_points_the_usual_units_are_taken(tmp_path) -> None:
    folder = on_the_sphere(tmp_path)
    save(folder, "00.png", sphere(tiny_cameras()[0]), "png")
    lines = (folder / "sparse" / "0" / "images.txt").read_text().splitlines()
    lines[1::2] = [""] * 8
    (folder / "sparse" / "0" / "images.txt").write_text("\n".join(lines) + "\n")
    assert load_scene(folder).views[0].depth.unit == 1e-3
    assert load_scene(folder, depth_unit=0.5).views[0].depth.unit == 0.5
    assert load_scene(folder).views[1].depth is None


def test_depth_through_a_lens_lands_where_the_keypoint_would(tmp_path) -> None:
    lens = Lens("OPENCV", (60.0, 60.0, 40.0, 30.0, -0.2, 0.05, 0.001, 0.002), 80, 60)
    target = lens.pinhole()
    np.save(tmp_path / "a.npy", np.full((60, 80), 2.0))
    pose = torch.eye(4, dtype=torch.float64)
    camera = Camera(target.fx, target.fy, target.cx, target.cy, target.width, target.height, pose)
    source = ImageSource(tmp_path / "a.png", False, lens, target.width, target.height)
    view = View("a.png", camera, source, depth=DepthSource(tmp_path / "a.npy", 0.5))
    points, pixels = seen_points(view)
    back = lens.distort((points[:, :2] / points[:, 2:]).numpy())
    assert np.abs(back - np.floor(back) - 0.5).max() < 1e-3  # centres of pixels of the original
    assert torch.allclose(points[:, 2], torch.ones(len(points), dtype=torch.float64))
    torch.testing.assert_close(camera.project(points)[0], pixels.double(), atol=1e-3, rtol=0)


def test_depth_is_a_constraint_and_gives_start_points(tmp_path) -> None:
    folder = on_the_sphere(tmp_path)
    for index, camera in enumerate(tiny_cameras()):
        save(folder, f"{index:02}.png", sphere(camera), "png")
    scene = load_scene(folder)
    cache = ImageCache(scene.train_views)
    started = depth_supervision.with_start_points(scene, cache, 0.1)
    added = started.points.xyz[len(scene.points) :]
    assert len(added) > 1000 and float((added.norm(dim=1) - RADIUS).abs().max()) < 0.01
    assert len(started.points.track_offsets) == len(started.points) + 1
    config = TrainConfig()
    assert depth_supervision.weight(config, cache.views) == depth_supervision.MEASURED_WEIGHT
    assert depth_supervision.weight(TrainConfig(loss=LossConfig(depth=0.0)), cache.views) == 0
    assert all(len(points) > 500 for points, _ in depth_supervision.points_of_views(scene, cache.views, 0.1))


def test_a_scan_is_seen_only_where_nothing_hides_it() -> None:
    camera = tiny_cameras()[0].resized(96, 96)
    random = np.random.default_rng(0)
    directions = random.normal(size=(40_000, 3))
    ball = torch.from_numpy(RADIUS * directions / np.linalg.norm(directions, axis=1, keepdims=True))
    points, pixels = depth_supervision.unhidden(ball, camera)
    outwards = ((camera.position.double() - points) * points).sum(1)
    assert float((outwards > -0.05 * RADIUS).double().mean()) > 0.999  # the far side is hidden, but at the very rim
    facing = ((camera.position.double() - ball) * ball).sum(1) > 2.0  # within 60° of the surface's normal
    assert len(points) > 0.9 * int(facing.sum())
    torch.testing.assert_close(camera.project(points)[0].float(), pixels)


@pytest.mark.parametrize("what", ["the same", "other maps", "no scan"])
def test_a_run_goes_on_with_the_depth_that_it_had(tmp_path, what) -> None:
    folder = on_the_sphere(tmp_path / "scene")
    for index, camera in enumerate(tiny_cameras()):
        save(folder, f"{index:02}.png", sphere(camera), "png")
    config, start = short(steps=12, checkpoint_seconds=1e9), Start()
    if what == "no scan":
        shutil.rmtree(folder / "depths")
        directions = np.random.default_rng(0).normal(size=(25_000, 3))
        ball = torch.from_numpy(RADIUS * directions / np.linalg.norm(directions, axis=1, keepdims=True))
        known = load_scene(folder).points
        start = Start(points=replace(known, xyz=ball, rgb=torch.full((25_000, 3), 99, dtype=torch.uint8)))
    whole = train(load_scene(folder), config, start=start)
    stops = iter([False] * 4 + [True] * 9)
    train(load_scene(folder), config, tmp_path / "run", stop=lambda: next(stops), start=start)
    if what == "the same":
        again = train(load_scene(folder), config, tmp_path / "run", resume=True)
        assert torch.equal(again.cloud.means, whole.cloud.means)
        return
    if what == "other maps":
        save(folder, "01.png", 0.9 * sphere(tiny_cameras()[1]), "png")
    with pytest.raises(InputError, match="with other known depth"):
        train(load_scene(folder), config, tmp_path / "run", resume=True)
