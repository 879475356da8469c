"""Scenes that other programs describe are read back: poses within 1e-6, intrinsics, points with colours, notes."""

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
from splat.scene.readers import metashape, openmvg, opensfm, realityscan
from splat.scene.undistort import MODELS

UTM = 'PROJCS["WGS 84 / UTM zone 32N",GEOGCS["WGS 84",AUTHORITY["EPSG","4326"]],AUTHORITY["EPSG","32632"]]'


@pytest.fixture(scope="module")
def scene() -> Truth:
    return exports.truth()


# ---- RealityScan ----


@pytest.mark.parametrize(
    "header", [exports.RC_HEADER, "#name,x,y,alt,yaw,pitch,roll,f_35mm,px_norm,py_norm,k1,k2,k3,k4,t1,t2"]
)
def test_realityscan(tmp_path: Path, scene: Truth, header: str) -> None:
    exports.realityscan(tmp_path / "cams.csv", scene, header=header)
    photos(tmp_path / "images")
    points(tmp_path / "cloud.ply", scene)
    for path in (tmp_path, tmp_path / "cams.csv", tmp_path / "images"):
        loaded = load(path)
        assert loaded.kind == "RealityScan"
        same(loaded, scene)
        same_lens(loaded)
        same_points(loaded, scene)


def test_realityscan_angles_give_the_matrix_of_its_xmp(tmp_path: Path) -> None:
    """A camera that a user published both ways (forums.unrealengine.com, topic 710449)."""
    row = "{},0,0,0,163.736597399311,83.4154313461628,174.386496244756,20"
    (tmp_path / "a.csv").write_text("\n".join(["#name,x,y,alt,heading,pitch,roll,f", *map(row.format, NAMES)]))
    photos(tmp_path)
    raw = realityscan.read(tmp_path / "a.csv", tmp_path, 1.0)
    xmp = [
        [0.982594073038806, 0.185426733553445, -0.0112166890261935],
        [-0.032113633044729, 0.11008102707942, -0.993403685341366],
        [-0.18296885582437, 0.976472781986697, 0.114],
    ]
    assert np.abs(raw.views[0].world_to_camera[:3, :3] - xmp).max() < 2e-4  # its last number was cut


@pytest.mark.parametrize("k4", [0.0, 0.02])
def test_realityscan_distortion(tmp_path: Path, scene: Truth, k4: float) -> None:
    exports.realityscan(tmp_path / "cams.csv", scene, lens=f"-0.2,0.06,-0.01,{k4},0.003,-0.002")
    photos(tmp_path)
    lens = first_lens(realityscan.read(tmp_path / "cams.csv", tmp_path, 1.0))
    wanted = at(brown(RAYS, (-0.2, 0.06, -0.01, k4), (0.003, -0.002)))
    assert np.abs(lens.distort(RAYS) - wanted).max() < (1e-9 if k4 == 0 else 2e-4)


def test_realityscan_photos_missing_and_not_named(tmp_path: Path, scene: Truth) -> None:
    exports.realityscan(tmp_path / "cams.csv", scene)
    photos(tmp_path / "images", [*NAMES[2:], "other.png"])
    loaded = load(tmp_path)
    same(loaded, scene, range(2, 8))
    assert any("2 photos of cams.csv are not there (view_00.png, view_01.png)" in note for note in loaded.notes)
    assert any("1 photo in images is in no entry of cams.csv (other.png)" in note for note in loaded.notes)


# ---- Metashape ----


def turned() -> tuple[np.ndarray, np.ndarray, float]:
    return Rotation.from_euler("xyz", [0.4, -0.9, 2.0]).as_matrix(), np.array([3.0, -5.0, 2.0]), 2.5


def test_points_of_another_frame_are_not_used(tmp_path: Path, scene: Truth) -> None:
    exports.realityscan(tmp_path / "cams.csv", scene)
    photos(tmp_path)
    points(tmp_path / "points.ply", Truth(scene.poses, scene.xyz + (0, 0, 1e5), scene.rgb))
    loaded = load(tmp_path)
    assert not loaded.points.measured
    assert any("the points are in sight of no camera, so they are not used" in note for note in loaded.notes)


@pytest.mark.parametrize("component", [False, True])
@pytest.mark.parametrize("moved", [False, True])
def test_metashape(tmp_path: Path, scene: Truth, moved: bool, component: bool) -> None:
    exports.metashape(tmp_path / "cameras.xml", scene, transform=turned() if moved else None, component=component)
    photos(tmp_path / "images")
    points(tmp_path / "points.ply", scene)
    loaded = load(tmp_path)
    assert loaded.kind == "Metashape"
    same(loaded, scene)
    same_lens(loaded)
    same_points(loaded, scene)
    assert [view.name for view in loaded.views] == NAMES


def test_metashape_points_in_the_frame_of_the_chunk(tmp_path: Path, scene: Truth) -> None:
    rotation, translation, scale = turned()
    exports.metashape(tmp_path / "cameras.xml", scene, transform=(rotation, translation, scale))
    photos(tmp_path / "images")
    points(tmp_path / "points.ply", Truth(scene.poses, (scene.xyz - translation) @ rotation / scale, scene.rgb))
    loaded = load(tmp_path)
    same_points(loaded, scene, 1e-5)  # the ply has float32
    assert any("frame of the chunk" in note for note in loaded.notes)


@pytest.mark.parametrize(
    ("origin", "epsg"), [((691_000.0, 5_334_000.0, 500.0), 32632), ((4_177_000.0, 855_000.0, 4_728_000.0), 4978)]
)
def test_metashape_on_a_map(tmp_path: Path, scene: Truth, origin: tuple, epsg: int) -> None:
    """Metashape's own world is geocentric; who rewrote it into the map's coordinates is believed."""
    moved = np.array(origin)
    poses = scene.poses.copy()
    poses[:, :3, 3] -= poses[:, :3, :3] @ moved
    far = Truth(poses, scene.xyz + moved, scene.rgb)
    exports.metashape(tmp_path / "cameras.xml", far, transform=(np.eye(3), moved, 1.0), reference=UTM)
    photos(tmp_path)
    loaded = load(tmp_path)
    same(loaded, far)
    assert loaded.georeference.epsg == epsg
    assert loaded.georeference.placed


def test_metashape_left_out(tmp_path: Path, scene: Truth) -> None:
    changes = {
        2: '<camera id="2" sensor_id="0" label="view_02" enabled="false"><transform>1</transform></camera>',
        3: '<camera id="3" sensor_id="0" label="view_03"/>',
    }
    exports.metashape(tmp_path / "cameras.xml", scene, changes=changes)
    photos(tmp_path / "images")
    loaded = load(tmp_path)
    same(loaded, scene, [0, 1, 4, 5, 6, 7])
    assert any("1 camera is disabled in cameras.xml and left out (view_02)" in note for note in loaded.notes)
    assert any(
        "1 photo has no pose in cameras.xml and are" in n or "1 photo has no pose in cameras.xml" in n
        for n in loaded.notes
    )


def test_metashape_lenses(tmp_path: Path, scene: Truth) -> None:
    photos(tmp_path)
    path = tmp_path / "c.xml"
    numbers = "<b1>2</b1><k1>-0.2</k1><k2>0.05</k2><k3>-0.01</k3><p1>0.003</p1><p2>-0.002</p2>"
    exports.metashape(path, scene, coefficients=numbers)
    lens = first_lens(metashape.read(path, tmp_path, 1.0))
    wanted = at(brown(RAYS, (-0.2, 0.05, -0.01), (0.003, -0.002)), FOCAL + 2)
    assert np.abs(lens.distort(RAYS) - wanted).max() < 1e-9
    exports.metashape(
        path, scene, kind="fisheye", coefficients="<k1>-0.02</k1><k4>0.003</k4><p1>0.003</p1><p2>-0.002</p2>"
    )
    lens = first_lens(metashape.read(path, tmp_path, 1.0))
    radius = np.linalg.norm(RAYS, axis=1, keepdims=True)
    wanted = at(brown(RAYS * np.arctan(radius) / radius, (-0.02, 0, 0, 0.003), (0.003, -0.002)))
    assert np.abs(lens.distort(RAYS) - wanted).max() < 1e-9
    exports.metashape(path, scene, coefficients="<b2>3</b2>")
    assert any("b2 of sensor 0" in note and "shear" in note for note in metashape.read(path, tmp_path, 1.0).notes)
    exports.metashape(path, scene, kind="cylindrical")
    with pytest.raises(InputError, match="sensor 0 in c.xml is of the type 'cylindrical'"):
        load(tmp_path)


def test_panoramas(tmp_path: Path, scene: Truth) -> None:
    photos(tmp_path)
    exports.metashape(tmp_path / "c.xml", scene, kind="spherical")
    exports.opensfm(
        tmp_path / "reconstruction.json",
        scene,
        {"projection_type": "equirectangular", "width": WIDTH, "height": HEIGHT},
    )
    exports.openmvg(tmp_path / "sfm_data.json", scene, "spherical")
    for module, name in ((metashape, "c.xml"), (opensfm, "reconstruction.json"), (openmvg, "sfm_data.json")):
        if "EQUIRECTANGULAR" in MODELS:
            assert first_lens(module.read(tmp_path / name, tmp_path, 1.0)).params == (WIDTH, HEIGHT)
        else:
            with pytest.raises(InputError, match=f"in {name} has the camera model EQUIRECTANGULAR"):
                module.read(tmp_path / name, tmp_path, 1.0)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE d [<!ENTITY a "b">]><document><chunk><cameras/></chunk></document>',
        "<document><chunk><cameras>" + "<g>" * 100,
        "<document><chunk>",
        "<document><chunk></chunk></document>",
        '<document><chunk><cameras><camera label="a" sensor_id="7"><transform>'
        + "1 " * 16
        + "</transform></camera></cameras></chunk></document>",
    ],
)
def test_metashape_damaged(tmp_path: Path, text: str) -> None:
    (tmp_path / "cameras.xml").write_text(text)
    photos(tmp_path)
    with pytest.raises(InputError, match="cameras.xml"):
        load(tmp_path)


# ---- several ----


def test_order_of_trust(tmp_path: Path, scene: Truth) -> None:
    exports.realityscan(tmp_path / "cams.csv", scene)
    exports.metashape(tmp_path / "cameras.xml", scene)
    photos(tmp_path / "images")
    loaded = load(tmp_path)
    assert loaded.kind == "Metashape"
    assert any("cams.csv of RealityScan is there too" in note for note in loaded.notes)
    (tmp_path / "cameras.xml").write_text("<document><chunk>")
    loaded = load(tmp_path)
    assert loaded.kind == "RealityScan"
    assert any("passed over" in note and "cameras.xml" in note for note in loaded.notes)


def test_an_export_in_a_folder_of_its_own(tmp_path: Path, scene: Truth) -> None:
    exports.metashape(tmp_path / "export/cameras.xml", scene)
    photos(tmp_path / "images")
    same(load(tmp_path), scene)


@pytest.mark.parametrize("folder", ["DCIM/100MEDIA", "../images", "images/flight"])
def test_photos_in_other_folders(tmp_path: Path, scene: Truth, folder: str) -> None:
    """Labels have neither folder nor suffix."""
    exports.metashape(tmp_path / "export/cameras.xml", scene)
    photos(tmp_path / "export" / folder)
    same(load(tmp_path / "export/cameras.xml"), scene)
