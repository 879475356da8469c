"""The points of transforms.json as programs leave them: colours of every type, and frames other than the cameras'."""

from functools import partial

import numpy as np
import pytest
import torch
from support.json_scenes import GL, SIZE, described, ply, points_of, write
from support.scene_models import make_model, ring_poses

from splat.scene import load_scene, random_points
from splat.scene.readers.sparse_ply import read_ply_points


@pytest.fixture(autouse=True)
def few_random_points(monkeypatch) -> None:
    """Where a scene has no points, not fifty thousand random ones."""
    monkeypatch.setattr(random_points, "random_points", partial(random_points.random_points, count=2_000))


USUAL = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])  # of old nerfstudio


def check_poses(scene, poses) -> None:
    for view, pose in zip(scene.views, poses, strict=True):
        np.testing.assert_allclose(view.camera.world_to_camera, pose, atol=1e-9)


# ---- colours of point clouds ----

RGB = np.array([[0, 10, 255], [107, 84, 100], [255, 1, 128], [3, 2, 250]])


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize(
    "kind, scale",
    [
        ("uchar", 1), ("ushort", 257), ("ushort", 1), ("int", 1), ("uint", 257), ("short", 1), ("float", 1 / 255),
        ("float", 1), ("double", 1 / 255), ("double", 257), ("float", 257),
    ],
)  # fmt: skip
def test_colours_of_every_type(tmp_path, kind: str, scale: float, text: bool) -> None:
    ply(tmp_path / "a.ply", np.zeros((4, 3)), RGB * scale, kind, ("red", "green", "blue"), text)
    _, rgb, notes = read_ply_points(tmp_path / "a.ply")
    assert np.abs(rgb.astype(int) - RGB).max() <= 1 and not notes


@pytest.mark.parametrize(
    "channels",
    ["red green blue", "r g b", "R G B", "Red Green Blue", "diffuse_red diffuse_green diffuse_blue",
     "scalar_red scalar_green scalar_blue", "scalar_R scalar_G scalar_B", "blue green red"],
)  # fmt: skip
def test_names_of_colours(tmp_path, channels: str) -> None:
    order = channels.split()
    colours = RGB[:, ::-1] if order[0] == "blue" else RGB
    kind = "float" if "scalar" in channels else "uchar"
    ply(tmp_path / "a.ply", np.zeros((4, 3)), colours, kind, tuple(order))
    np.testing.assert_array_equal(read_ply_points(tmp_path / "a.ply")[1], RGB)


def test_colours_of_gaussians(tmp_path) -> None:
    harmonics = (RGB / 255 - 0.5) / 0.28209479177387814
    ply(tmp_path / "a.ply", np.zeros((4, 3)), harmonics, "float", ("f_dc_0", "f_dc_1", "f_dc_2"))
    assert np.abs(read_ply_points(tmp_path / "a.ply")[1].astype(int) - RGB).max() <= 1


def test_dark_and_white_clouds(tmp_path) -> None:
    """Nothing but black, and nothing but white, in each type."""
    for kind, white in (("uchar", 255), ("float", 1.0), ("float", 255.0), ("ushort", 65535), ("double", 1)):
        for value, expected in ((0, 0), (white, 255)):
            ply(tmp_path / "a.ply", np.zeros((4, 3)), np.full((4, 3), value), kind, ("red", "green", "blue"))
            assert (read_ply_points(tmp_path / "a.ply")[1] == expected).all(), (kind, value)


@pytest.mark.parametrize("text", [False, True])
def test_rows_without_a_position(tmp_path, text: bool) -> None:
    write(tmp_path, described(tmp_path))
    xyz = np.random.default_rng(0).uniform(-0.5, 0.5, (9, 3))
    xyz[2, 1], xyz[5], xyz[6, 0] = np.nan, np.nan, np.inf
    colours = np.arange(27).reshape(9, 3)
    ply(tmp_path / "sparse_pc.ply", xyz, colours, "uchar", ("red", "green", "blue"), text)
    scene = load_scene(tmp_path)
    kept = [0, 1, 3, 4, 7, 8]
    np.testing.assert_allclose(scene.points.xyz, xyz[kept], atol=1e-6)
    np.testing.assert_array_equal(scene.points.rgb, colours[kept])
    assert scene.notes == ("3 of 9 points of sparse_pc.ply have no finite position and are left out",)


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("comment", ["éàü", "Облако точек", "点云", "end_header of the one before", "a\x85b"])
def test_comments_in_any_language(tmp_path, comment: str, line_end: str) -> None:
    names = [f"property float {axis}" for axis in "xyz"]
    head = [
        "ply",
        "format binary_little_endian 1.0",
        f"comment {comment}",
        "element vertex 3",
        *names,
        "end_header",
        "",
    ]
    for encoding in ("utf-8", "latin-1", "cp1251", "gbk"):
        data = line_end.join(head).encode(encoding, "replace")
        (tmp_path / "a.ply").write_bytes(data + np.arange(9, dtype="<f4").tobytes())
        np.testing.assert_array_equal(read_ply_points(tmp_path / "a.ply")[0], np.arange(9).reshape(3, 3))


def test_clouds_without_points(tmp_path) -> None:
    write(tmp_path, described(tmp_path))
    ply(tmp_path / "sparse_pc.ply", np.zeros((0, 3)), np.zeros((0, 3)), "uchar", ("red", "green", "blue"))
    scene = load_scene(tmp_path)
    assert not scene.points.measured and "sparse_pc.ply holds no points" in scene.notes
    ply(tmp_path / "sparse_pc.ply", np.full((3, 3), np.nan), np.zeros((3, 3)), "uchar", ("red", "green", "blue"))
    scene = load_scene(tmp_path)
    assert not scene.points.measured and "3 of 3 points" in scene.notes[0]


# ---- frames that differ ----


def similar(angle: float, scale: float) -> np.ndarray:
    """A similarity (4, 4): a turn about a slanted axis, a scale and a shift."""
    axis = np.array([1.0, 2, -1]) / 6**0.5
    cross = np.cross(np.eye(3), axis)
    rotation = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = scale * rotation, [3.0, -1, 0.5]
    return result


def moved(poses, move: np.ndarray) -> list[np.ndarray]:
    """``poses`` (world-to-camera) of a world moved by the similarity ``move``."""
    scale = np.cbrt(np.linalg.det(move[:3, :3]))
    result = []
    for pose in poses:
        place = np.linalg.inv(pose)
        place[:3, :3] = move[:3, :3] / scale @ place[:3, :3]
        place[:3, 3] = move[:3, :3] @ place[:3, 3] + move[:3, 3]
        result.append(np.linalg.inv(place))
    return result


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize(
    "move, said",
    [
        (USUAL, None),
        (USUAL, np.eye(4)),
        (USUAL, USUAL),
        (similar(0.7, 2.5), None),
        (similar(2.7, 0.1), USUAL),
        (np.eye(4), None),
    ],
)
def test_points_of_a_colmap_model_follow_the_poses(tmp_path, move, said, flip: bool) -> None:
    """Old nerfstudio says no transform, others say a wrong one: the poses tell. Measured keypoints are the truth."""
    reconstruction, _ = make_model(tmp_path / "colmap", "PINHOLE", params=[56, 56, 32, 24], size=SIZE)
    poses = moved(ring_poses(9), move)
    values = described(tmp_path, poses, [f"images/view_{k:03d}.png" for k in range(9)])
    if flip:
        for frame in values["frames"]:
            frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ GL).tolist()
    if said is not None:
        values["applied_transform"] = said[:3].tolist()
    write(tmp_path, values)
    (tmp_path / "sparse_pc.ply").unlink()
    scene = load_scene(tmp_path)
    check_poses(scene, poses)
    rows = {identifier: row for row, identifier in enumerate(sorted(reconstruction.points3D))}
    for view in scene.views:
        seen = reconstruction.find_image_with_name(view.name).get_observation_points2D()
        projected, _ = view.camera.project(scene.points.xyz[[rows[point.point3D_id] for point in seen]])
        np.testing.assert_allclose(projected, np.array([point.xy for point in seen]), atol=1e-4)
    told = said is not None and np.array_equal(move, said)
    assert any("moved into the frame of transforms.json" in note for note in scene.notes) == (not told)
    assert any("OpenCV's axes" in note for note in scene.notes) == flip


def test_a_model_of_other_photos_gives_no_points(tmp_path) -> None:
    make_model(tmp_path / "colmap", params=[56, 56, 32, 24], size=SIZE)
    far = np.eye(4)
    far[2, 3] = 500
    write(tmp_path, described(tmp_path, moved(ring_poses(6), far), camera_model="PINHOLE"))
    (tmp_path / "sparse_pc.ply").unlink()
    scene = load_scene(tmp_path)
    assert not scene.points.measured
    assert any("the points of colmap/sparse/0 are not used" in note for note in scene.notes)


def test_a_ply_in_the_frame_of_the_model(tmp_path) -> None:
    _, xyz = make_model(tmp_path / "colmap", params=[56, 56, 32, 24], size=SIZE)
    move = similar(0.9, 1.0)
    poses = moved(ring_poses(9), move)
    write(tmp_path, described(tmp_path, poses, [f"images/view_{k:03d}.png" for k in range(9)]))
    for given, note in ((xyz, True), (xyz @ move[:3, :3].T + move[:3, 3], False)):
        ply(tmp_path / "sparse_pc.ply", given, np.zeros((60, 3)), "uchar", ("red", "green", "blue"))
        scene = load_scene(tmp_path)
        np.testing.assert_allclose(scene.points.xyz, xyz @ move[:3, :3].T + move[:3, 3], atol=1e-5)
        assert any("sparse_pc.ply were in the frame of the COLMAP model" in each for each in scene.notes) == note


@pytest.mark.parametrize("said", [False, True])
def test_a_ply_that_nobody_sees(tmp_path, said: bool) -> None:
    """In COLMAP's frame while the poses were moved: back by the usual move; else it is dropped, with a note."""
    shift = np.eye(4)
    shift[:3, 3] = [0, 0, 20]
    move = USUAL @ shift
    poses = moved(ring_poses(6), move)
    values = described(tmp_path, poses)
    xyz = points_of(tmp_path)
    write(tmp_path, {**values, "applied_transform": move[:3].tolist()} if said else values)
    scene = load_scene(tmp_path)
    if said:
        np.testing.assert_allclose(scene.points.xyz, xyz @ move[:3, :3].T + move[:3, 3], atol=1e-9)
        assert any("were moved into the frame" in note for note in scene.notes)
    else:
        assert not scene.points.measured
        assert any("sparse_pc.ply are in sight of no camera" in note for note in scene.notes)


def test_poses_with_opencv_axes(tmp_path) -> None:
    poses = ring_poses(6)
    values = described(tmp_path, poses)
    for frame in values["frames"]:
        frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ GL).tolist()
    write(tmp_path, values)
    xyz = points_of(tmp_path)
    scene = load_scene(tmp_path)
    check_poses(scene, poses)
    assert "every point is behind every camera, so the poses are read with OpenCV's axes" in scene.notes[0]
    for view in scene.views:
        assert (view.camera.project(torch.from_numpy(xyz))[1] > 0).all()
