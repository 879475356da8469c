"""Scenes of wide photos as they are loaded: faces with the right colours, points and masks, held out photo by photo."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from support.wide_scenes import FISHEYE, LIMIT, PANORAMA, far_colour, write_colmap, write_transforms

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.image_circle import circle_angle
from splat.scene.scene import Scene, photo_count, photo_numbers
from splat.scene.subset import keep_views

FACES = ["front", "right", "back", "left", "up", "down"]


def assert_shows_the_world(scene: Scene, lost: float = 0.0) -> None:
    """All pixels that count have the colour of their direction; at most the fraction ``lost`` does not count."""
    left_out = []
    for view in scene.views:
        photo = view.load()
        assert photo.rgb.shape == (view.camera.height, view.camera.width, 3)
        keep = torch.ones(photo.rgb.shape[:2], dtype=torch.bool) if photo.mask is None else photo.mask
        assert (photo.mask is not None) == view.source.has_mask
        expected = far_colour(view.camera.rays()[1].reshape(-1, 3).numpy()).reshape(photo.rgb.shape)
        assert np.abs(photo.rgb.numpy() - expected)[keep.numpy()].max() < 2.5
        left_out.append(1 - float(keep.double().mean()))
    assert np.mean(left_out) <= lost and (lost == 0 or max(left_out) > 0)


@pytest.mark.parametrize("model", ["EQUIRECTANGULAR", "SPHERE"])
def test_panoramas_of_a_colmap_model(tmp_path: Path, model: str) -> None:
    points = write_colmap(tmp_path, PANORAMA, model)
    scene = load_scene(tmp_path, hold_out=3)
    assert [view.name for view in scene.views[:7]] == [f"1#{face}.png" for face in FACES] + ["2#front.png"]
    assert any("4 photos show more than 120°; trained on are 24 pinhole" in note for note in scene.notes)
    assert photo_numbers(scene.views) == [k // 6 for k in range(24)] and photo_count(scene.train_views) == 2
    assert {view.photo_name for view in scene.test_views} == {"1.png", "4.png"} and len(scene.test_views) == 12
    np.testing.assert_allclose(scene.positions[:6], scene.positions[:1].expand(6, 3), atol=1e-12)
    assert_shows_the_world(scene)
    for photo in range(4):  # each sees all points, one face each
        ids = torch.cat([view.keypoint_ids for view in scene.views[6 * photo : 6 * photo + 6]])
        assert ids.sort().values.tolist() == list(range(40))
    for view in scene.views:
        ids, xy = view.keypoints()
        projected, depth = view.camera.project(torch.from_numpy(points)[ids])
        assert (depth > 0).all() and (projected - xy).abs().lt(1e-3).all()


@pytest.mark.parametrize("model", ["EQUIRECTANGULAR", "SPHERICAL"])
def test_panoramas_of_a_transforms_json(tmp_path: Path, model: str) -> None:
    write_transforms(tmp_path, PANORAMA, model)
    scene = load_scene(tmp_path)
    assert len(scene.views) == 24
    assert_shows_the_world(scene)


def test_a_fisheye_with_a_black_rim_and_a_mask(tmp_path: Path) -> None:
    write_colmap(tmp_path, FISHEYE, "OPENCV_FISHEYE", limit=LIMIT)
    scene = load_scene(tmp_path)
    assert any("the black around the picture of 1 fisheye camera" in note for note in scene.notes)
    assert [view.name for view in scene.views[:5]] == [f"1#{face}.png" for face in FACES if face != "back"]
    assert_shows_the_world(scene, lost=0.25)
    (tmp_path / "masks").mkdir()
    mask = np.full((100, 100), 255, np.uint8)
    mask[40:60, 40:60] = 0
    PIL.Image.fromarray(mask).save(tmp_path / "masks/2.png")
    masked = load_scene(tmp_path)
    front = [view for view in masked.views if view.name.endswith("front.png")]
    kept = [view.load().mask for view in front]
    assert kept[0] is None and not kept[1][kept[1].shape[0] // 2, kept[1].shape[1] // 2] and kept[1][2, 2]


def test_smaller_photos(tmp_path: Path) -> None:
    write_colmap(tmp_path, PANORAMA, "EQUIRECTANGULAR")
    for scene in (load_scene(tmp_path, downscale=2), load_scene(tmp_path, max_side=round(160 / np.pi / 2))):
        width, height = scene.views[0].face.picture
        assert 79 <= width <= 80 and 39 <= height <= 40
        assert abs(scene.views[0].camera.fx - width / (2 * np.pi)) < 0.1
        assert_shows_the_world(scene)
        assert scene.views[0].source.whole.load().rgb.shape == (height, width, 3)


def test_few_photos_are_counted_whole(tmp_path: Path) -> None:
    write_colmap(tmp_path, PANORAMA, "EQUIRECTANGULAR", count=5)
    scene = keep_views(load_scene(tmp_path, hold_out=0), 2)
    assert photo_count(scene.train_views) == 2 and len(scene.train_views) == 12
    assert any("2 of 5 training photos" in note for note in scene.notes)


def test_the_circle_of_a_fisheye_is_found_in_the_light_of_any_photo() -> None:
    y, x = np.mgrid[:100, :100] + 0.5
    radius = np.hypot(x - 50, y - 50)
    dark, half, full = (np.zeros((100, 100, 3), np.uint8) for _ in range(3))
    half[(radius < 40) & (x < 50)] = 90
    full[:] = 90
    assert circle_angle(FISHEYE, [lambda: dark, lambda: half]) == pytest.approx(40 / 31, rel=0.04)
    assert circle_angle(FISHEYE, [lambda: half, lambda: full]) == np.pi
    assert circle_angle(FISHEYE, [lambda: dark]) == np.pi  # nothing to see: nothing is left out


@pytest.mark.parametrize(
    "params", [(1e-3, 1e-3, 50, 50, 0, 0, 0, 0), (1e8, 1.0, 50, 50, 0, 0, 0, 0), (31, 31, 1e6, 50, 0, 0, 0, 0)]
)
def test_lenses_that_cannot_be_are_refused(tmp_path: Path, params: tuple) -> None:
    write_colmap(tmp_path, FISHEYE, "OPENCV_FISHEYE")
    line = f"1 OPENCV_FISHEYE 100 100 {' '.join(map(str, params))}\n"
    (tmp_path / "sparse/0/cameras.txt").write_text(line)
    with pytest.raises(InputError, match="OPENCV_FISHEYE camera with the parameters .* cannot be right; calibrate"):
        load_scene(tmp_path)
