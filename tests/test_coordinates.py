"""Map coordinates: scenes and clouds are held about an origin, and no digit is lost on the way through files."""

import json

import numpy as np
import pycolmap
import pytest
import torch

from splat import formats
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coordinates import AT_ZERO, Georeference, origin_of, origin_of_points
from splat.errors import InputError
from splat.rendering import render
from splat.runs.evaluation import evaluate
from splat.runs.train import train
from splat.scene import load_scene
from splat.viewpoints import paths
from tests.support.scenes import short
from tests.support.tiny import splat, tiny_cameras, tiny_cloud, write_scene

UTM = (432100.0, 5412300.0, 310.0)
PLACE = Georeference(UTM, 25832)


def in_world(cloud: GaussianCloud) -> np.ndarray:
    """(N, 3) float64 world coordinates of the centres."""
    return cloud.means.double().numpy() + cloud.georeference.origin


def moved_scene(folder, by=UTM, scale=1.0):
    """The tiny scene somewhere else, moved by pycolmap."""
    model = str(write_scene(folder) / "sparse" / "0")
    reconstruction = pycolmap.Reconstruction(model)
    reconstruction.transform(pycolmap.Sim3d(scale, pycolmap.Rotation3d(), np.array(by)))
    for file in (folder / "sparse" / "0").iterdir():
        file.unlink()
    reconstruction.write_text(model)
    return folder


@pytest.mark.parametrize(
    "middle, reach, expected",
    [
        ((3.0, -20.0, 5.0), 1.0, (0, 0, 0)),
        ((432123.4, 5412311.5, 310.2), 8.0, UTM[:2] + (300.0,)),
        ((11.5823, 48.1374, 0.0), 1e-4, (11.582, 48.137, 0.0)),
        ((4177000.0, 855000.0, 4728000.0), 5000.0, (4200000.0, 900000.0, 4700000.0)),
        ((1e9, 0.0, 0.0), float("nan"), (0, 0, 0)),
    ],
)
def test_an_origin_is_round_and_near(middle, reach, expected) -> None:
    assert origin_of(middle, reach) == expected


def test_a_scene_on_the_map_is_about_an_origin(tmp_path) -> None:
    # The nine digits of the quaternions in the file have an arm of 5,000 km.
    here, there = load_scene(write_scene(tmp_path / "a")), load_scene(moved_scene(tmp_path / "b"))
    assert here.georeference == AT_ZERO and there.georeference.placed
    back = torch.tensor(UTM, dtype=torch.float64) - torch.tensor(there.georeference.origin, dtype=torch.float64)
    torch.testing.assert_close(there.positions - back, here.positions, atol=0.02, rtol=0)
    torch.testing.assert_close(there.points.xyz - back, here.points.xyz, atol=0.02, rtol=0)
    assert float(there.positions.abs().max()) < 128 * there.extent
    again = there.about(AT_ZERO)
    torch.testing.assert_close(again.positions - torch.tensor(UTM).double(), here.positions, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["a.ply", "a.points.ply", "a.compressed.ply", "a.sog", "a.splatz", "a.glb", "a.gltf"])
def test_files_hold_the_origin(tmp_path, name) -> None:
    cloud = tiny_cloud().replace(georeference=PLACE)
    formats.write(cloud, tmp_path / name)
    again = formats.read(tmp_path / name)
    assert again.means.dtype == torch.float32
    assert np.abs(np.sort(in_world(again), 0) - np.sort(in_world(cloud), 0)).max() < 0.05
    assert again.georeference.epsg == (None if name[2:] in ("glb", "gltf") else 25832)


def test_a_usd_holds_the_origin(tmp_path) -> None:
    pytest.importorskip("pxr")
    cloud = tiny_cloud().replace(georeference=PLACE)
    formats.write(cloud, tmp_path / "a.usdc")
    assert np.abs(in_world(formats.read(tmp_path / "a.usdc")) - in_world(cloud)).max() < 1e-5


def test_a_format_without_an_origin_says_what_is_lost(tmp_path) -> None:
    cloud = tiny_cloud().replace(georeference=PLACE)
    with pytest.warns(UserWarning, match=r"relative to \(432100, 5412300, 310\) in EPSG:25832, which spz files cannot"):
        formats.write(cloud, tmp_path / "a.spz")
    assert np.abs(formats.read(tmp_path / "a.spz").means.numpy().mean(0)).max() < 1
    with pytest.warns(UserWarning, match="wrong here by up to 0.25 m"):
        formats.write(cloud, tmp_path / "a.splat", georeference="keep")


def test_doubles_stay_doubles(tmp_path) -> None:
    random = np.random.default_rng(0)
    xyz = np.array(UTM) + random.normal(0, 5, (50, 3))
    table = GaussianArrays.of(tiny_cloud(50)).replace(means=xyz)
    formats.write_table(table, tmp_path / "a.ply")
    assert splat("convert", tmp_path / "a.ply", tmp_path / "b.ply", "--translate", 1000, 0.5, -20).returncode == 0
    again = formats.read_table(tmp_path / "b.ply")
    assert again.means.dtype == np.float64
    assert np.abs(again.means - (xyz + [1000, 0.5, -20])).max() < 2e-9
    local = formats.read(tmp_path / "a.ply")
    assert local.georeference.origin == origin_of_points(xyz) and np.abs(in_world(local) - xyz).max() < 5e-6
    assert splat("convert", tmp_path / "a.ply", tmp_path / "d.ply", "--georeference", "local").returncode == 0
    written = formats.read_table(tmp_path / "d.ply")
    assert written.means.dtype == np.float32 and written.georeference == local.georeference
    formats.write(local, tmp_path / "c.ply", georeference="keep")
    assert np.abs(formats.read_table(tmp_path / "c.ply").means - in_world(local)).max() < 2e-9


def test_moving_far_away_loses_nothing(tmp_path) -> None:
    formats.write(tiny_cloud(), tmp_path / "a.ply")
    done = splat("convert", tmp_path / "a.ply", tmp_path / "b.ply", "--translate", *UTM)
    assert done.returncode == 0, done.stderr
    there = formats.read(tmp_path / "b.ply")
    assert np.abs(in_world(there) - (tiny_cloud().means.double().numpy() + UTM)).max() < 1e-6
    crop = ["--crop", 432100, 5412299, 309, 432101, 5412301, 311]
    assert splat("convert", tmp_path / "b.ply", tmp_path / "c.ply", *crop).returncode == 0
    assert len(formats.read(tmp_path / "c.ply")) == int((tiny_cloud().means[:, 0] >= 0).sum())


def test_transform_and_concat_take_the_origin_along() -> None:
    cloud = tiny_cloud().replace(georeference=PLACE)
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    moved = cloud.transform(turn, torch.tensor([1.0, 2, 3]), 2.0)
    expected = 2 * in_world(cloud) @ turn.double().numpy().T + [1, 2, 3]
    assert np.abs(in_world(moved) - expected).max() < 1e-5
    both = GaussianCloud.concat([cloud, cloud.about(Georeference((432000.0, 5412300.0, 310.0)))])
    assert both.georeference == PLACE and np.abs(in_world(both)[:60] - in_world(both)[60:]).max() < 1e-4


def test_a_run_on_the_map_is_the_run_at_zero(tmp_path) -> None:
    """Pictures and scores are those of the same scene at zero; the files say where the cloud lies."""
    config = short(steps=60)
    here = train(load_scene(write_scene(tmp_path / "a")), config, tmp_path / "run_a")
    scene = load_scene(moved_scene(tmp_path / "b"))
    there = train(scene, config, tmp_path / "run_b")
    assert abs(here.metrics["psnr"] - there.metrics["psnr"]) < 0.3
    cloud = formats.read(tmp_path / "run_b" / "cloud.ply")
    assert cloud.georeference == scene.georeference and torch.equal(cloud.means, there.cloud.means)
    assert evaluate(cloud, scene.about(AT_ZERO)).psnr == pytest.approx(there.metrics["psnr"], abs=1e-3)
    no_origin = cloud.replace(georeference=AT_ZERO)
    assert evaluate(no_origin, scene).psnr == pytest.approx(there.metrics["psnr"], abs=1e-3)


def test_camera_paths_are_in_the_world(tmp_path) -> None:
    camera = tiny_cameras()[0]
    paths.write(tmp_path / "a.json", [camera, camera], place=PLACE)
    matrix = json.loads((tmp_path / "a.json").read_text())["camera_path"][0]["camera_to_world"]
    assert np.allclose(np.array(matrix).reshape(4, 4)[:3, 3], camera.position.double().numpy() + UTM, atol=1e-6)
    again = paths.read(tmp_path / "a.json", PLACE)[0][0]
    cloud = tiny_cloud()
    same = render(cloud, camera, "reference").rgb, render(cloud, again, "reference").rgb
    torch.testing.assert_close(*same, atol=1e-4, rtol=0)
    assert isinstance(camera.about(PLACE, AT_ZERO), Camera)


@pytest.mark.parametrize(
    "text", ['{"origin": [1, 2]}', '{"origin": [1, 2, 1e400]}', "[]", '{"origin": [1, 2, 3], "epsg": "x"}', "{"]
)
def test_damaged_georeferences(tmp_path, text) -> None:
    formats.write(tiny_cloud(3).replace(georeference=PLACE), tmp_path / "a.ply")
    data = (tmp_path / "a.ply").read_bytes()
    head, tail = data.split(b"splat georeference ", 1)
    (tmp_path / "a.ply").write_bytes(head + b"splat georeference " + text.encode() + b"\n" + tail.split(b"\n", 1)[1])
    with pytest.raises(InputError, match=r"a\.ply"):
        formats.read(tmp_path / "a.ply")
