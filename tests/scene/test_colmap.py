"""COLMAP scenes: layouts, resolutions, masks, split, and facts about the cameras."""

import shutil

import numpy as np
import PIL.Image
import pytest
import torch
from support.scene_models import SIZE, make_model, ring_poses

from splat.errors import InputError
from splat.scene import ImageCache, load_scene


@pytest.mark.parametrize("place", ["sparse/0", "sparse", "colmap/sparse/0", "."])
@pytest.mark.parametrize("text", [False, True])
def test_layouts(tmp_path, place: str, text: bool) -> None:
    reconstruction, xyz = make_model(tmp_path, "PINHOLE", text=text)
    if place != "sparse/0":
        shutil.move(tmp_path / "sparse/0", tmp_path / "model")
        shutil.rmtree(tmp_path / "sparse")
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        for file in (tmp_path / "model").iterdir():
            shutil.move(file, tmp_path / place / file.name)
    scene = load_scene(tmp_path)
    assert scene.kind == "colmap" and len(scene.views) == 9
    np.testing.assert_allclose(scene.points.xyz, xyz, atol=1e-9)
    for view in scene.views:
        truth = reconstruction.find_image_with_name(view.name).cam_from_world().matrix()
        np.testing.assert_allclose(view.camera.world_to_camera[:3], truth, atol=1e-9)
        assert (view.camera.fx, view.camera.fy, view.camera.cx, view.camera.cy) == (140, 150, 77, 63)


def test_split_is_every_eighth_by_name(tmp_path) -> None:
    make_model(tmp_path, names=[f"{name}.png" for name in "jihgfedcba"], poses=ring_poses(10))
    scene = load_scene(tmp_path)
    assert [view.name for view in scene.views] == [f"{name}.png" for name in "abcdefghij"]
    assert [view.name for view in scene.test_views] == ["a.png", "i.png"]
    assert len(scene.train_views) == 8
    assert not load_scene(tmp_path, hold_out="none").test_views


def test_tracks_agree_with_keypoints(tmp_path) -> None:
    reconstruction, _ = make_model(tmp_path)
    scene = load_scene(tmp_path)
    for row, identifier in enumerate(sorted(reconstruction.points3D)):
        point = reconstruction.points3D[identifier]
        names = {reconstruction.images[element.image_id].name for element in point.track.elements}
        assert {scene.views[i].name for i in scene.points.views_of(row).tolist()} == names
        assert scene.points.rgb[row].tolist() == point.color.tolist()
    assert scene.points.track_lengths.sum() == sum(len(view.keypoints()[0]) for view in scene.views)


def test_images_without_a_pose_are_counted(tmp_path) -> None:
    make_model(tmp_path, text=True)
    frames = tmp_path / "sparse/0/frames.txt"
    frames.write_text("\n".join(frames.read_text().splitlines()[:-2]))
    scene = load_scene(tmp_path)
    assert len(scene.views) == 7 and any(
        "2 photos of the model have no pose and are left out" in note for note in scene.notes
    )


def test_nested_folders(tmp_path) -> None:
    names = [f"left/{k}.jpg" for k in range(4)] + [f"right/deep/{k}.jpg" for k in range(4)]
    make_model(tmp_path, names=names, poses=ring_poses(8))
    scene = load_scene(tmp_path)
    assert [view.name for view in scene.views] == names
    assert scene.views[5].load().rgb.shape == (SIZE[1], SIZE[0], 3)


def test_pixels_are_those_of_the_file(tmp_path) -> None:
    make_model(tmp_path)
    view = load_scene(tmp_path).views[4]
    photo = view.load()
    assert photo.rgb.dtype == torch.uint8 and photo.mask is None and photo.alpha is None
    np.testing.assert_array_equal(photo.rgb, np.asarray(PIL.Image.open(tmp_path / "images" / view.name)))


@pytest.mark.parametrize("downscale, size", [(2.0, (80, 60)), (3.0, (53, 40)), (1.7, (94, 71))])
def test_downscale(tmp_path, downscale: float, size: tuple[int, int]) -> None:
    _, xyz = make_model(tmp_path, "OPENCV")
    full, scene = load_scene(tmp_path), load_scene(tmp_path, downscale=downscale)
    for before, after in zip(full.views, scene.views, strict=True):
        a, b = before.camera, after.camera
        assert (b.width, b.height) == (round(a.width / downscale), round(a.height / downscale))
        assert b.fx / a.fx == pytest.approx(b.width / a.width) and b.cy / a.cy == pytest.approx(b.height / a.height)
        assert after.load().rgb.shape == (b.height, b.width, 3)
        ids, xy = after.keypoints()
        projected, _ = b.project(torch.from_numpy(xyz)[ids])
        assert (projected - xy).norm(dim=1).max() < 0.05


def test_resizing_averages_areas(tmp_path) -> None:
    make_model(tmp_path)
    photo = load_scene(tmp_path, downscale=4).views[0].load().rgb.float()
    full = load_scene(tmp_path).views[0].load().rgb.float()
    means = full.reshape(30, 4, 40, 4, 3).mean((1, 3))
    assert (photo - means).abs().max() <= 0.51


def test_max_side(tmp_path) -> None:
    make_model(tmp_path)
    camera = load_scene(tmp_path, max_side=100).views[0].camera
    assert (camera.width, camera.height) == (100, 75)
    assert load_scene(tmp_path, max_side=1000).views[0].camera.width == SIZE[0]


def test_shrunk_folder_is_used(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "images_4").mkdir()
    for path in (tmp_path / "images").iterdir():
        PIL.Image.new("RGB", (40, 30), (9, 8, 7)).save(tmp_path / "images_4" / (path.stem + ".jpg"))
    scene = load_scene(tmp_path, downscale=4)
    assert scene.views[0].source.path.parent.name == "images_4"
    camera = scene.views[0].camera
    assert (camera.width, camera.height, camera.fx, camera.cy) == (40, 30, 140 / 4, 63 / 4)
    again = load_scene(tmp_path, downscale=8).views[0]
    assert again.source.path.parent.name == "images_4" and (again.camera.width, again.camera.height) == (20, 15)
    assert load_scene(tmp_path, downscale=2).views[0].source.path.parent.name == "images"
    next((tmp_path / "images_4").iterdir()).unlink()
    scene = load_scene(tmp_path, downscale=4)
    assert scene.views[0].source.path.parent.name == "images" and "images_4 lacks 1 of 9" in scene.notes[0]


def test_folder_of_shrunk_images(tmp_path) -> None:
    """The model was made at full size, all images are half of it."""
    _, xyz = make_model(tmp_path, "OPENCV", image_size=(80, 60))
    view = load_scene(tmp_path).views[0]
    ids, xy = view.keypoints()
    projected, _ = view.camera.project(torch.from_numpy(xyz)[ids])
    assert (projected - xy).norm(dim=1).max() < 0.05
    assert view.camera.fx == pytest.approx(70) and view.load().rgb.shape[:2] == (view.camera.height, view.camera.width)


def test_exif_orientation(tmp_path) -> None:
    """COLMAP reads the stored pixels; a model of the upright size asks for turned ones."""
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for calibrated, first_row in (((160, 120), "stored"), ((120, 160), "turned")):
        root = tmp_path / first_row
        params = [140, 150, calibrated[0] / 2, calibrated[1] / 2]
        make_model(root, size=calibrated, params=params, names=[f"{k}.jpg" for k in range(9)])
        pixels = np.zeros((120, 160, 3), np.uint8)
        pixels[:60] = 255
        for path in (root / "images").iterdir():
            PIL.Image.fromarray(pixels).save(path, exif=exif, quality=95)
        rgb = load_scene(root).views[0].load().rgb.float()
        assert rgb.shape[:2] == (calibrated[1], calibrated[0])
        if first_row == "stored":
            assert rgb[:50].mean() > 250 and rgb[70:].mean() < 5
        else:  # orientation 6: the stored top becomes the right side
            assert rgb[:, 70:].mean() > 250 and rgb[:, :50].mean() < 5


@pytest.mark.parametrize("style", ["{stem}.png", "{stem}.png.png"])
def test_masks(tmp_path, style: str) -> None:
    make_model(tmp_path, "OPENCV")
    (tmp_path / "masks").mkdir()
    mask = np.full((SIZE[1], SIZE[0]), 255, np.uint8)
    mask[:, :80] = 0
    for path in (tmp_path / "images").iterdir():
        PIL.Image.fromarray(mask).save(tmp_path / "masks" / style.format(stem=path.stem))
    view = load_scene(tmp_path).views[0]
    keep = view.load().mask
    lens = view.source.lens
    edge = lens.undistort_pixels(np.array([[80.0, 63.0]]))[0, 0]
    row = keep[int(view.camera.cy)]
    assert abs(int(row.float().argmax()) - edge) <= 1.5 and row[int(edge) + 3 :].all()
    assert not load_scene(tmp_path, masks=False).views[0].load().mask
    small = load_scene(tmp_path, downscale=4).views[0].load()
    assert small.mask.shape == small.rgb.shape[:2] and 0.4 < small.mask.float().mean() < 0.6


def test_alpha_masks_or_composites(tmp_path) -> None:
    make_model(tmp_path, alpha=True)
    pixels = np.zeros((SIZE[1], SIZE[0], 4), np.uint8)
    pixels[..., 0] = 200
    pixels[:, :81, 3] = 255
    for path in (tmp_path / "images").iterdir():
        PIL.Image.fromarray(pixels).save(path)
    photo = load_scene(tmp_path).views[0].load()
    assert photo.alpha is None and photo.mask[:, :81].all() and not photo.mask[:, 81:].any()
    photo = load_scene(tmp_path, alpha="composite", downscale=2).views[0].load()
    assert photo.mask is None and photo.alpha[0, 39] == 255 and photo.alpha[0, 41] == 0
    assert photo.alpha[0, 40] == 128 and photo.rgb[0, 40, 0] == 200  # half covered, colour not darkened
    photo = load_scene(tmp_path, alpha="none").views[0].load()
    assert photo.mask is None and photo.alpha is None


def test_layout_facts(tmp_path) -> None:
    make_model(tmp_path, poses=ring_poses(12))
    scene = load_scene(tmp_path)
    torch.testing.assert_close(scene.up, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)
    assert scene.focus.norm() < 1e-6
    assert scene.extent == pytest.approx(1.1 * 4.0)
    torch.testing.assert_close(scene.center, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64), atol=1e-9, rtol=0)


def test_real_scenes(shared) -> None:
    for name, views, held_out in (("fox", 50, 7), ("syn_table", 48, 6), ("dtu_scan65", 49, 7)):
        scene = load_scene(shared / "data" / name, downscale=2)
        assert (len(scene.views), len(scene.test_views)) == (views, held_out)
        errors = []
        for view in scene.views:
            ids, xy = view.keypoints()
            errors.append((view.camera.project(scene.points.xyz[ids])[0] - xy).norm(dim=1))
        assert torch.cat(errors).median() < 0.5
        photo = ImageCache(scene).get(0)
        assert photo.rgb.shape[:2] == (scene.views[0].camera.height, scene.views[0].camera.width)
        assert (photo.mask is not None) == (name != "fox")


def test_options_are_checked(tmp_path) -> None:
    make_model(tmp_path)
    for options in (
        {"downscale": 0.5},
        {"downscale": float("nan")},
        {"max_side": 2},
        {"hold_out": 1},
        {"alpha": "x"},
    ):
        with pytest.raises(InputError, match="expected"):
            load_scene(tmp_path, **options)
