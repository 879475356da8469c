"""Reconstructions of OpenSfM, ODM and OpenMVG are read back: poses within 1e-6, intrinsics, points with colours."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support import exports
from support.exports import (
    FOCAL,
    HEIGHT,
    NAMES,
    RAYS,
    WIDTH,
    Truth,
    at,
    brown,
    first_lens,
    load,
    photos,
    points,
    same,
    same_lens,
    same_points,
)

from splat.errors import InputError
from splat.scene.readers import openmvg, opensfm


@pytest.fixture(scope="module")
def scene() -> Truth:
    return exports.truth()


@pytest.mark.parametrize("odm", [False, True])
def test_opensfm(tmp_path: Path, scene: Truth, odm: bool) -> None:
    path = tmp_path / "opensfm/reconstruction.json" if odm else tmp_path / "reconstruction.json"
    models = exports.opensfm(path, scene, reference_lla={"latitude": 48.1, "longitude": 11.5, "altitude": 500.0})
    part = {**models[0], "shots": {name: models[0]["shots"][name] for name in NAMES[:2]}}
    path.write_text(json.dumps([part, *models]))
    photos(tmp_path / "images")
    for place in (tmp_path, path):
        loaded = load(place)
        assert loaded.kind == "OpenSfM"
        same(loaded, scene)
        same_lens(loaded)
        same_points(loaded, scene)
        assert any("of 2 reconstructions the one with the most photos is used, 8; 2" in note for note in loaded.notes)
        assert any("latitude 48.1" in note for note in loaded.notes)


def on_map(scene: Truth, away: np.ndarray) -> Truth:
    """``scene`` with coordinates that are larger by ``away``."""
    poses = scene.poses.copy()
    poses[:, :3, 3] -= poses[:, :3, :3] @ away
    return Truth(poses, scene.xyz + away, scene.rgb)


def test_odm_on_a_map(tmp_path: Path, scene: Truth) -> None:
    exports.opensfm(tmp_path / "opensfm/reconstruction.json", scene)
    exports.opensfm(tmp_path / "opensfm/reconstruction.topocentric.json", scene)
    (tmp_path / "odm_georeferencing").mkdir()
    (tmp_path / "odm_georeferencing/coords.txt").write_text("WGS84 UTM 33S\n410000 5390000\n1 2 3\n")
    photos(tmp_path / "images")
    loaded = load(tmp_path)
    far = on_map(scene, np.array([410000.0, 5390000.0, 0.0]))
    same(loaded, far)
    same_points(loaded, far)
    assert loaded.georeference.epsg == 32733


def test_odm_as_downloaded(tmp_path: Path, scene: Truth) -> None:
    far = on_map(scene, np.array([410000.0, 5390000.0, 100.0]))
    camera = exports.opensfm(tmp_path / "away.json", scene)[0]["cameras"]
    (tmp_path / "away.json").unlink()
    (tmp_path / "cameras.json").write_text(json.dumps(camera))
    features = []
    for index, (name, pose) in enumerate(zip(NAMES, far.poses, strict=True)):
        turn = Rotation.from_matrix(pose[:3, :3]).as_rotvec().tolist()
        values = {"filename": name, "width": WIDTH, "height": HEIGHT, "rotation": turn}
        values["translation"] = far.camera_to_world(index)[:3, 3].tolist()
        features.append({"type": "Feature", "properties": values})
    for folder in ("odm_report", "odm_georeferencing"):
        (tmp_path / folder).mkdir()
    (tmp_path / "odm_report/shots.geojson").write_text(json.dumps({"features": features}))
    (tmp_path / "odm_georeferencing/proj.txt").write_text("+proj=utm +zone=33 +datum=WGS84 +units=m +no_defs")
    photos(tmp_path / "images")
    for path in (tmp_path, tmp_path / "odm_report/shots.geojson"):
        loaded = load(path)
        assert loaded.kind == "ODM"
        same(loaded, far)
        same_lens(loaded)
        assert loaded.georeference.epsg == 32633


def sfm_lens(tmp_path: Path, scene: Truth, **values):
    camera = {"width": WIDTH, "height": HEIGHT, "focal": FOCAL / WIDTH, **values}
    exports.opensfm(tmp_path / "reconstruction.json", scene, camera)
    photos(tmp_path)
    return first_lens(opensfm.read(tmp_path / "reconstruction.json", tmp_path, 1.0))


def test_opensfm_lenses(tmp_path: Path, scene: Truth) -> None:
    lens = sfm_lens(tmp_path, scene, projection_type="perspective", k1=-0.1, k2=0.02)
    assert (
        np.abs(lens.distort(RAYS) - (brown(RAYS, (-0.1, 0.02), (0, 0)) * FOCAL + (WIDTH / 2, HEIGHT / 2))).max() < 1e-9
    )
    lens = sfm_lens(tmp_path, scene, projection_type="brown", k1=-0.1, k2=0.02, k3=0.01, p1=0.003, p2=-0.002)
    wanted = brown(RAYS, (-0.1, 0.02, 0.01), (-0.002, 0.003)) * FOCAL + (WIDTH / 2, HEIGHT / 2)
    assert np.abs(lens.distort(RAYS) - wanted).max() < 1e-9
    lens = sfm_lens(tmp_path, scene, projection_type="fisheye", k1=-0.03, k2=0.01)
    radius = np.linalg.norm(RAYS, axis=1, keepdims=True)
    angle = np.arctan(radius)
    wanted = RAYS / radius * angle * (1 - 0.03 * angle**2 + 0.01 * angle**4) * FOCAL + (WIDTH / 2, HEIGHT / 2)
    assert np.abs(lens.distort(RAYS) - wanted).max() < 1e-9
    with pytest.raises(InputError, match="camera 'v2 unknown' in reconstruction.json has the projection dual"):
        sfm_lens(tmp_path, scene, projection_type="dual")


@pytest.mark.parametrize(
    "text", ["[]", "{}", "[1]", '[{"shots": {"a": 1}, "cameras": {}}]', '[{"shots": {}}]', "[" * 9999]
)
def test_opensfm_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "reconstruction.json").write_text(text)
    photos(tmp_path)
    with pytest.raises(InputError, match="reconstruction.json"):
        load(tmp_path)


@pytest.mark.parametrize("place", ["sfm_data.json", "reconstruction_sequential/sfm_data.json"])
def test_openmvg(tmp_path: Path, scene: Truth, place: str) -> None:
    exports.openmvg(tmp_path / place, scene)
    points((tmp_path / place).with_name("colorized.ply"), scene)
    photos(tmp_path / "images")
    loaded = load(tmp_path)
    assert loaded.kind == "OpenMVG"
    same(loaded, scene)
    same_lens(loaded)
    same_points(loaded, scene)
    ids, xy = loaded.views[3].keypoints()
    projected, _ = loaded.views[3].camera.project(loaded.points.xyz[ids])
    assert len(ids) > 40
    assert (projected - xy).abs().max() < 1e-3


def test_openmvg_lenses_and_views_without_poses(tmp_path: Path, scene: Truth) -> None:
    photos(tmp_path)
    path = tmp_path / "sfm_data.json"
    for model, given, wanted in (
        ("pinhole_radial_k1", {"disto_k1": [-0.1]}, brown(RAYS, (-0.1,), (0, 0))),
        ("pinhole_radial_k3", {"disto_k3": [-0.1, 0.02, 0.01]}, brown(RAYS, (-0.1, 0.02, 0.01), (0, 0))),
        (
            "pinhole_brown_t2",
            {"disto_t2": [-0.1, 0.02, 0.01, 3e-3, -2e-3]},
            brown(RAYS, (-0.1, 0.02, 0.01), (-2e-3, 3e-3)),
        ),
    ):
        exports.openmvg(path, scene, model, given)
        raw = openmvg.read(path, tmp_path, 1.0)
        assert {view.lens for view in raw.views} == {first_lens(raw)}
        assert np.abs(first_lens(raw).distort(RAYS) - at(wanted)).max() < 1e-9
    written = exports.openmvg(path, scene, "fisheye", {"fisheye": [0.01, 0, 0, 0]})
    assert first_lens(openmvg.read(path, tmp_path, 1.0)).model == "OPENCV_FISHEYE"
    path.write_text(json.dumps({**written, "extrinsics": written["extrinsics"][:-2]}))
    raw = openmvg.read(path, tmp_path, 1.0)
    assert len(raw.views) == 6
    assert any(
        "2 photos have no pose in sfm_data.json and are left out (view_06.png, view_07.png)" in n for n in raw.notes
    )
    exports.openmvg(path, scene, "pinhole_imaginary")
    with pytest.raises(InputError, match="intrinsic 0 in sfm_data.json has the camera model pinhole_imaginary"):
        load(tmp_path)
