"""``splat render``: pictures and videos from views, orbits and camera paths."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from support.tiny import SIDE, everything_in, tiny_cameras, tiny_cloud, write_scene

from splat import formats
from splat.cli import main
from splat.cli.render import orbit_of_cloud, show
from splat.rendering import render
from splat.viewpoints import paths as camera_paths


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The tiny scene in ``scene`` and the cloud that its photos show in ``truth.ply``."""
    folder = tmp_path_factory.mktemp("rendered")
    write_scene(folder / "scene")
    formats.write(tiny_cloud(), folder / "truth.ply")
    return folder


def draw(folder, out, *options) -> int:
    return main(["render", str(folder / "truth.ply"), str(out), *map(str, options)])


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_all_views_look_like_the_photos(folder, tmp_path, capsys):
    assert draw(folder, tmp_path / "all", "--scene", folder / "scene", "--along", "all") == 0
    assert everything_in(tmp_path / "all") == {f"{index:02}.png" for index in range(8)}
    for file in (tmp_path / "all").iterdir():
        assert abs(pixels(file) - pixels(folder / "scene" / "images" / file.name)).max() <= 1
    assert f"8 pictures, {SIDE}×{SIDE}" in capsys.readouterr().out


def test_held_out_views_are_the_default_with_a_scene(folder, tmp_path):
    assert draw(folder, tmp_path / "test", "--scene", folder / "scene") == 0
    assert everything_in(tmp_path / "test") == {"00.png"}


def test_camera_path_file_and_width(folder, tmp_path):
    camera_paths.write(tmp_path / "path.json", tiny_cameras()[:3], fps=24)
    assert draw(folder, tmp_path / "out", "--along", tmp_path / "path.json", "--width", 24) == 0
    assert everything_in(tmp_path / "out") == {f"frame_{index:05}.png" for index in range(3)}
    assert Image.open(tmp_path / "out" / "frame_00002.png").size == (24, 24)


@pytest.mark.parametrize("along", ["orbit", "spiral"])
def test_video(folder, tmp_path, along):
    av = pytest.importorskip("av")
    options = ["--scene", folder / "scene", "--along", along, "--frames", 5, "--fps", 10]
    assert draw(folder, tmp_path / "around.mp4", *options) == 0
    with av.open(str(tmp_path / "around.mp4")) as file:
        frames = list(file.decode(video=0))
        assert float(file.streams.video[0].average_rate) == 10
    assert len(frames) == 5
    assert (frames[0].width, frames[0].height) == (SIDE, SIDE)
    assert everything_in(tmp_path) == {"around.mp4"}


def test_orbit_of_a_bare_cloud_keeps_it_in_sight():
    cloud = tiny_cloud()
    for up in ((0.0, -1.0, 0.0), (0.0, 0.0, 2.0)):
        cameras = orbit_of_cloud(cloud, 6, up)
        assert len(cameras) == 6
        unit = torch.tensor(up, dtype=torch.float64) / math.hypot(*up)
        heights = [float((camera.position - cloud.means.double().median(0).values) @ unit) for camera in cameras]
        assert heights == pytest.approx([heights[0]] * 6) and heights[0] > 0
        for camera in cameras:
            spots, depth = camera.project(cloud.means.double())
            assert (depth > 0).all()
            assert ((spots > 0) & (spots < torch.tensor([960, 720]))).all(1).double().mean() > 0.85


def test_what_is_shown():
    drawing = render(tiny_cloud(), tiny_cameras()[0], backend="reference", depth=True, normal=True)
    alpha = show(drawing, "alpha")
    assert alpha[..., 0] == pytest.approx(255 * drawing.alpha.numpy(), abs=0.51)
    depth = show(drawing, "depth")
    assert (depth[drawing.depth.numpy() == 0] == 0).all()
    seen_depth = drawing.depth.clone()
    seen_depth[seen_depth == 0] = torch.inf
    near, far = (depth.reshape(-1, 3)[int(place)] for place in (seen_depth.argmin(), drawing.depth.argmax()))
    assert near[0] > near[2] and far[2] > far[0]  # red is near, blue is far
    normal = show(drawing, "normal")
    alpha = drawing.alpha.numpy()
    assert (normal[alpha > 0.5][:, 2] >= 127).all()  # surfaces face the viewer
    assert (normal[alpha == 0] == 0).all()


@pytest.mark.parametrize("what", ["depth", "normal", "alpha"])
def test_what_goes_through_the_command(folder, tmp_path, what):
    assert draw(folder, tmp_path / what, "--scene", folder / "scene", "--what", what) == 0
    assert pixels(tmp_path / what / "00.png").max() > 100


@pytest.mark.parametrize(
    "out, options, said",
    [
        ("picture.jpg", [], "picture.jpg"),
        ("pictures", ["--along", "{tmp}/absent.json"], "absent.json"),
        ("pictures", ["--along", "spiral"], "--scene"),
        ("pictures", ["--frames", "0"], "--frames is 0"),
        ("pictures", ["--width", "-3"], "--width is -3"),
        ("pictures", ["--background", "2", "0", "0"], "--background"),
        ("pictures", ["--up", "0", "0", "0"], "--up"),
        ("pictures", ["--scene", "{tmp}/absent"], "absent"),
    ],
)
def test_wrong_input_is_one_sentence_and_leaves_nothing(folder, tmp_path, out, options, said, capsys):
    options = [option.replace("{tmp}", str(tmp_path)) for option in options]
    assert draw(folder, tmp_path / out, *options) == 2
    error = capsys.readouterr().err
    assert error.startswith("splat: ") and error.count("\n") == 1
    assert said in error
    assert everything_in(tmp_path) == set()


# ---- the appearance of a photo ----


@pytest.fixture(scope="module")
def uneven(tmp_path_factory):
    """A run with appearance features, on photos whose right halves have casts that differ."""
    folder = tmp_path_factory.mktemp("uneven")
    write_scene(folder / "scene")
    for index, file in enumerate(sorted((folder / "scene" / "images").iterdir())):
        photo = pixels(file)
        photo[:, SIDE // 2 :] += np.array([60, 0, -60]) * (1 if index % 2 else -1)
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(file)
    options = [
        "--steps",
        "150",
        "--gaussians",
        "80",
        "--appearance.features",
        "3",
    ]
    assert main(["train", str(folder / "scene"), "--out", str(folder / "run"), *options]) == 0
    return folder


def test_pictures_take_on_the_appearance_of_a_photo(uneven, tmp_path):
    photo = uneven / "scene" / "images" / "03.png"
    plain, like = tmp_path / "plain", tmp_path / "like"
    assert main(["render", str(uneven / "run"), str(plain), "--along", "all"]) == 0
    assert main(["render", str(uneven / "run"), str(like), "--along", "all", "--appearance", str(photo)]) == 0
    errors = [np.abs(pixels(each / "03.png") - pixels(photo)).mean() for each in (plain, like)]
    assert errors[1] < 0.8 * errors[0]
    assert everything_in(like) == {f"{index:02}.png" for index in range(8)}
    assert np.abs(pixels(like / "05.png") - pixels(plain / "05.png")).mean() > 1  # other views change with it


def test_appearance_needs_features_and_a_photo_of_the_scene(folder, uneven, tmp_path, capsys):
    photo = folder / "scene" / "images" / "03.png"
    assert draw(folder, tmp_path / "out", "--scene", folder / "scene", "--appearance", photo) == 2
    assert "train it with --appearance.features" in capsys.readouterr().err
    assert main(["render", str(uneven / "run"), str(tmp_path / "out"), "--appearance", "holiday.jpg"]) == 2
    assert "is no photo of" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
