"""Bare photo folders: structure from motion against known poses, what is kept, and failures in words."""

import os
from pathlib import Path

import numpy as np
import PIL.Image
import PIL.ImageOps
import pycolmap
import pytest
from support.scene_models import CAMERAS, SIZE, ring_poses

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.build import RawView
from splat.scene.readers.photo_folder import _fingerprint, _sorted_out, photo_folder, photo_names
from splat.scene.sfm import reconstruct
from splat.scene.sfm.exif_orientation import turn_upright
from splat.scene.sfm.pair_selection import choose_pairs
from splat.scene.sfm.photo_preparation import prepare
from splat.scene.undistort import Lens


def align(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``source`` (N, 3) moved onto ``target`` by the best similarity (Umeyama 1991)."""
    a, b = source - source.mean(0), target - target.mean(0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.diag([1, 1, np.sign(np.linalg.det(u @ vt))])
    scale = np.trace(np.diag(s) @ sign) / (a**2).sum()
    return scale * a @ (u @ sign @ vt).T + target.mean(0)


@pytest.mark.slow
def test_fountain_against_its_ground_truth(shared, tmp_path, monkeypatch) -> None:
    """Five of the photos, one stored turned: poses within 1 % of the baseline, all views upright, result kept."""
    truth = pycolmap.Reconstruction(str(shared / "data/fountain_p11/sparse/0"))
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    names = [f"{k:04d}.jpg" for k in (2, 3, 4, 5, 6)]
    for name in names:
        image = PIL.Image.open(shared / "data/fountain_p11/images" / name).resize(
            (600, 400), PIL.Image.Resampling.LANCZOS
        )
        if name == "0004.jpg":
            image.transpose(PIL.Image.Transpose.ROTATE_90).save(tmp_path / name, exif=exif, quality=95)
        else:
            image.save(tmp_path / name, quality=95)
    stages: dict[str, float] = {}
    monkeypatch.setattr(reconstruct, "_FEATURES_FEW", 3000)
    scene = load_scene(tmp_path, progress=stages.__setitem__)
    assert stages == {"finding features": 1.0, "matching pairs": 1.0, "placing photos": 1.0}
    assert scene.kind == "photos" and "placed 5 of 5 photos" in scene.notes[0]
    assert [view.name for view in scene.views] == names
    expected = np.stack([truth.find_image_with_name(name).projection_center() for name in names])
    found = align(scene.positions.numpy(), expected)
    baseline = np.linalg.norm(expected - expected.mean(0), axis=1).max()
    assert np.linalg.norm(found - expected, axis=1).max() < 0.01 * baseline
    for view in scene.views:
        assert view.camera.fx / max(view.camera.width, view.camera.height) == pytest.approx(862 / 960, rel=0.05)
        assert view.camera.width > view.camera.height  # upright again
        photo = view.load().rgb
        assert photo.shape[:2] == (view.camera.height, view.camera.width)
        assert float(view.camera.world_to_camera[1, :3] @ scene.up) < -0.8
        ids, xy = view.keypoints()
        assert (view.camera.project(scene.points.xyz[ids])[0] - xy).norm(dim=1).median() < 0.5
    monkeypatch.setattr(reconstruct, "reconstruct", None)  # the kept result is used from now on
    again = load_scene(tmp_path, progress=False)
    np.testing.assert_array_equal(again.positions, scene.positions)
    assert again.notes == scene.notes


def test_photos_without_overlap(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for k in range(4):
        noise = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        PIL.Image.fromarray(noise).resize((200, 150), PIL.Image.Resampling.BICUBIC).save(tmp_path / f"{k}.jpg")
    with pytest.raises(InputError, match=r"no two of the 4 photos|only \d of the 4 photos"):
        load_scene(tmp_path, progress=False)
    assert os.listdir(tmp_path / ".splat") == []  # nothing half-made is left


def test_too_few_photos(tmp_path) -> None:
    PIL.Image.new("RGB", (64, 48)).save(tmp_path / "one.jpg")
    with pytest.raises(InputError, match="holds one photo,"):
        load_scene(tmp_path, progress=False)


def test_which_photos_belong_to_a_folder(tmp_path) -> None:
    for name in ("a.jpg", "sub/b.PNG", "masks/a.png", ".hidden/c.jpg", "notes.txt", "d.webp"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x")
    assert photo_names(tmp_path) == ["a.jpg", "d.webp", "sub/b.PNG"]
    assert photo_folder(tmp_path) == tmp_path
    (tmp_path / "images").mkdir()
    (tmp_path / "images/e.jpg").write_bytes(b"x")
    assert photo_folder(tmp_path) == tmp_path / "images"


def test_photos_whose_headers_cannot_be_read_are_left_out_and_said(tmp_path) -> None:
    for k in range(4):
        PIL.Image.new("RGB", (32, 24)).save(tmp_path / f"{k}.jpg")
    for name in ("a.jpg", "b.jpg", "c.tif"):
        (tmp_path / name).write_bytes(b"nonsense" * 9)
    names, notes = _sorted_out(tmp_path)
    assert names == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    assert notes[0].startswith("2 .jpg photos cannot be read and are left out: ") and "a.jpg" in notes[0]
    assert notes[1].startswith("1 .tif photo cannot be read and is left out: ")
    for k in range(2):
        (tmp_path / f"{k}.jpg").unlink()
    with pytest.raises(InputError, match="2 .jpg photos cannot be read .*; 1 .tif photo"):
        load_scene(tmp_path, progress=False)


def test_fingerprint_follows_the_files(tmp_path) -> None:
    for k in range(3):
        (tmp_path / f"{k}.jpg").write_bytes(bytes([k]) * 100)
    names = photo_names(tmp_path)
    before = _fingerprint(tmp_path, names, {})
    assert before == _fingerprint(tmp_path, names, {})
    os.utime(tmp_path / "1.jpg", (1, 1))  # a copy with another date is the same photo
    assert before == _fingerprint(tmp_path, names, {})
    (tmp_path / "1.jpg").write_bytes(b"y" * 100)
    changed = _fingerprint(tmp_path, names, {})
    assert changed != before
    assert _fingerprint(tmp_path, names[:2], {}) != changed
    assert _fingerprint(tmp_path, names, {"1.jpg": tmp_path / "2.jpg"}) != changed


def test_cameras_are_shared_where_photos_tell_so(tmp_path) -> None:
    def photo(name: str, size=(64, 48), model: str | None = None, focal: float | None = None) -> None:
        exif = PIL.Image.Exif()
        if model:
            exif[0x0110] = model
        if focal:
            exif.get_ifd(0x8769)[0x920A] = exif.get_ifd(0x8769)[0xA405] = focal
        PIL.Image.new("RGB", size).save(tmp_path / name, exif=exif)

    photo("a.jpg", model="X100", focal=23.0)
    photo("b.jpg", model="X100", focal=23.0)
    photo("c.jpg", model="X100", focal=50.0)  # zoomed
    photo("d.jpg", model="Phone")
    photo("e.jpg", size=(48, 64), model="Phone")
    names = photo_names(tmp_path)
    photos = prepare(tmp_path, names, {}, tmp_path / "work")
    assert [photo.camera for photo in photos] == [0, 0, 1, 2, 3]
    assert [photo.focal is not None for photo in photos] == [True, True, True, False, False]
    web, frames = tmp_path / "web", tmp_path / "frames"
    for folder, sizes in ((web, [(64, 48), (64, 50), (64, 48), (60, 48)]), (frames, [(64, 48)] * 4)):
        folder.mkdir()
        for k, size in enumerate(sizes):
            PIL.Image.new("RGB", size).save(folder / f"{k}.png")
    assert [p.camera for p in prepare(web, photo_names(web), {}, tmp_path / "w1")] == [0, 1, 2, 3]
    assert [p.camera for p in prepare(frames, photo_names(frames), {}, tmp_path / "w2")] == [0, 0, 0, 0]


def test_formats_and_odd_names_are_made_plain(tmp_path) -> None:
    names = ["a b.webp", "ü/ö.tif", "x.PNG"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        PIL.Image.new("RGB", (32, 24), (10, 20, 30)).save(tmp_path / name)
    photos = prepare(tmp_path, names, {"x.PNG": tmp_path / "x.PNG"}, tmp_path / "work")
    assert [photo.alias for photo in photos] == ["000000.png", "000001.png", "000002.png"]
    for photo in photos:
        assert PIL.Image.open(tmp_path / "work/images" / photo.alias).size == (32, 24)
    assert (tmp_path / "work/masks/000002.png.png").is_file()


def test_pairs_beyond_the_neighbours() -> None:
    """80 images of 8 places visited in turn: images of one place are matched though they are far apart in order."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 255, (8, 40, 128))
    images = [np.clip(places[k % 8] + rng.normal(0, 8, (40, 128)), 0, 255).astype(np.uint8) for k in range(80)]
    pairs = choose_pairs(images, neighbours=2, alike=9)
    assert all(i < j for i, j in pairs) and len(set(pairs)) == len(pairs) < 80 * 13
    assert all((k, k + 1) in set(pairs) for k in range(79))
    same_place = [(i, j) for i in range(80) for j in range(i + 1, 80) if i % 8 == j % 8]
    assert np.mean([pair in set(pairs) for pair in same_place]) > 0.95


@pytest.mark.parametrize("model", ["SIMPLE_PINHOLE", "PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV"])
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_turning_upright(model: str, orientation: int) -> None:
    """Pixels of turned views are those Pillow's own transposition moves the stored pixels to."""
    rng = np.random.default_rng(0)
    pose, points = ring_poses(3)[1], rng.uniform(-0.5, 0.5, (20, 3))
    lens = Lens(model, tuple(float(p) for p in CAMERAS[model]), *SIZE)
    local = points @ pose[:3, :3].T + pose[:3, 3]
    xy = lens.distort(local[:, :2] / local[:, 2:])
    view = turn_upright(RawView("a", Path("a"), lens, 1, pose, xy=xy), orientation)
    width, height = SIZE
    expected = {
        3: np.stack([width - xy[:, 0], height - xy[:, 1]], 1),
        6: np.stack([height - xy[:, 1], xy[:, 0]], 1),
        8: np.stack([xy[:, 1], width - xy[:, 0]], 1),
    }[orientation]
    local = points @ view.world_to_camera[:3, :3].T + view.world_to_camera[:3, 3]
    np.testing.assert_allclose(view.lens.distort(local[:, :2] / local[:, 2:]), expected, atol=1e-6)
    np.testing.assert_allclose(view.xy, expected, atol=1e-9)
    assert (view.lens.width, view.lens.height) == (SIZE if orientation == 3 else SIZE[::-1])
    stored = np.zeros((height, width), np.uint8)
    stored[int(xy[0, 1]), int(xy[0, 0])] = 255
    image = PIL.Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    turned = np.asarray(PIL.ImageOps.exif_transpose(image))
    row, column = np.argwhere(turned)[0]
    assert (int(expected[0, 0]), int(expected[0, 1])) == (column, row)
