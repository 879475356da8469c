"""transforms.json and its points, damaged or made to harm: the right scene, or one sentence that names the file."""

import json
import os
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from support.scene_models import ring_poses

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.readers.sparse_ply import read_ply_points

GL = np.diag([1.0, -1.0, -1.0, 1.0])
LEFT_OUT = object()


def good(root: Path) -> dict:
    frames = []
    (root / "images").mkdir()
    for k, pose in enumerate(ring_poses(3)):
        PIL.Image.new("RGB", (32, 24)).save(root / f"images/{k}.png")
        frames.append({"file_path": f"images/{k}.png", "transform_matrix": (np.linalg.inv(pose) @ GL).tolist()})
    whole = {"camera_model": "OPENCV", "w": 32, "h": 24, "fl_x": 30.0, "fl_y": 31.0, "frames": frames}
    lines = [f"{k} {k} {k} 1 2 3" for k in range(5)]
    (root / "points.ply").write_text(header("ascii", 5) + "\n".join(lines))
    return {**whole, "ply_file_path": "points.ply"}


def header(kind: str, count: object, form: str = "format {} 1.0\n") -> str:
    names = [f"property float {axis}\n" for axis in "xyz"] + [f"property uchar {c}\n" for c in ("red", "green", "blue")]
    return f"ply\n{form.format(kind)}element vertex {count}\n" + "".join(names) + "end_header\n"


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("w", float("inf"), "'w' cannot be understood"),
        ("w", float("nan"), "'w' cannot be understood"),
        ("w", -32, "'w' and 'h'"),
        ("w", 1e12, "'w' and 'h'"),
        ("h", "24", "'h' cannot be understood"),
        ("fl_x", 10**400, "'fl_x' cannot be understood"),
        ("fl_x", 1e300, "the camera of 0.png"),
        ("fl_y", -31.0, "'fl_y' in"),
        ("fl_y", True, "'fl_y' cannot be understood"),
        ("cx", [16], "'cx' cannot be understood"),
        ("cx", 1e200, "the camera of 0.png"),
        ("k1", "0.1", "'k1' cannot be understood"),
        ("camera_model", 7, "camera model 7"),
        ("camera_model", ["OPENCV"], "camera model ['OPENCV']"),
        ("ply_file_path", 5, "'ply_file_path' is 5, expected text"),
        ("ply_file_path", ["points.ply"], "'ply_file_path' is a list of 1"),
        ("ply_file_path", "x" * 300, "do not exist"),
        ("ply_file_path", "images", "is a folder"),
        ("frames", {"a": 1}, "no 'frames'"),
        ("frames", [7], "frame 0 cannot be understood"),
        ("frames", [None], "frame 0 cannot be understood"),
        ("test_filenames", 7, "'test_filenames' cannot be understood"),
        ("test_filenames", [[]], "'test_filenames' cannot be understood"),
        ("applied_transform", "x", None),  # matters only for a COLMAP model's points
    ],
)
def test_values_of_the_file(tmp_path, key, value, said) -> None:
    (tmp_path / "transforms.json").write_text(json.dumps({**good(tmp_path), key: value}))
    if said is None:
        load_scene(tmp_path)
        return
    with pytest.raises(InputError) as caught:
        load_scene(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "key, value, said",
    [
        ("file_path", 7, "frame 1 cannot be understood ('file_path' is 7"),
        ("file_path", "images/a\0b", "no file name"),
        ("file_path", "images/\udc80.png", "no file name"),
        ("file_path", "..", "no file name"),
        ("file_path", "", "no file name"),
        ("mask_path", 7, "'mask_path' is 7"),
        ("mask_path", "m" * 300, "cannot be read"),
        ("transform_matrix", 7, "'transform_matrix' is 7"),
        ("transform_matrix", [[1, 0], [0, 1]], "not a 4×4 matrix"),
        ("transform_matrix", [["1", None]], "not a 4×4 matrix"),
        ("transform_matrix", [[10**400] * 4] * 4, "not a 4×4 matrix"),
        ("transform_matrix", [[[1e308] * 4] * 4], "not a 4×4 matrix"),
        ("transform_matrix", [[1, 0, 0, 1e300], [0, 1, 0, 0], [0, 0, 1, 0]], "the pose of 1.png"),
    ],
)
def test_values_of_a_frame(tmp_path, key, value, said) -> None:
    whole = good(tmp_path)
    whole["frames"][1][key] = value
    (tmp_path / "transforms.json").write_text(json.dumps(whole))
    with pytest.raises(InputError) as caught:
        load_scene(tmp_path)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_null_is_absent(tmp_path) -> None:
    """As Python's exporters write it, for the whole file and for a frame."""
    whole = good(tmp_path)
    path = tmp_path / "transforms.json"
    path.write_text(json.dumps(whole))
    before = load_scene(tmp_path)
    for key in ("cx", "k1", "p2", "test_filenames", "camera_angle_x", "applied_transform"):
        whole[key] = None
    whole["frames"][0] |= {"fl_x": None, "mask_path": None, "k1": None, "cy": None}
    path.write_text(json.dumps(whole))
    for a, b in zip(before.views, load_scene(tmp_path).views, strict=True):
        assert (a.camera.fx, a.camera.cx, a.source.lens) == (b.camera.fx, b.camera.cx, b.source.lens)


def test_written_on_windows(tmp_path) -> None:
    """A byte order mark, and backslashes in every path."""
    whole = good(tmp_path)
    (tmp_path / "m").mkdir()
    for k, frame in enumerate(whole["frames"]):
        PIL.Image.new("L", (32, 24), 255).save(tmp_path / f"m/{k}.png")
        frame |= {"file_path": f".\\images\\{k}.png", "mask_path": f".\\m\\{k}.png"}
    whole["ply_file_path"] = ".\\points.ply"
    (tmp_path / "transforms.json").write_bytes(b"\xef\xbb\xbf" + json.dumps(whole).encode())
    scene = load_scene(tmp_path)
    assert len(scene.points) == 5 and all(view.source.mask_path.is_file() for view in scene.views)


def test_deep_nesting_and_pipes(tmp_path) -> None:
    path = tmp_path / "transforms.json"
    path.write_text('{"frames": ' + "[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        load_scene(tmp_path)
    path.unlink()
    os.mkfifo(path)
    for given in (tmp_path, path):
        with pytest.raises(InputError):
            load_scene(given)


# ---- the sparse points ----


@pytest.mark.parametrize(
    "text, said",
    [
        (header("ascii", 5, ""), "its format is not said"),
        (header("utf8", 5), "its format is utf8"),
        (header("ascii", 10**12), "do not fit"),
        (header("binary_little_endian", 10**12), "do not fit"),
        (header("binary_little_endian", 2) + "x" * 16, "buffer is smaller"),
        (header("ascii", -1), "do not fit"),
        (header("ascii", "many"), "many"),
        (header("ascii", 2) + "1 2 3 4 5 6\n1 2 3\n", "point 1 of 2 has 3 of 6 numbers"),
        (header("ascii", 1) + "1 2 x 4 5 6\n", "could not convert"),
        (header("ascii", 1) + "1 2 3 4 5 999999\n", "out of bounds"),
        (header("ascii", 1).replace("float x", "list uchar int x"), "list uchar int x"),
        (header("ascii", 1).replace("float x", "float y"), "no x, y and z"),
        (header("ascii", 1).replace("vertex 1", "vertex"), "too short"),
        (header("ascii", 1).replace("element vertex 1", "element face 1"), "not 'vertex'"),
        ("ply\n\n\nend_header", "no header that ends"),
        ("ply\n" + "comment x\n" * 10**5, "no header that ends"),
        ("ply\n\nend_header\n", "its format is not said"),
        ("ply\nformat ascii 1.0\nelement vertex 1\nproperty float \xff\nend_header\n", "no x, y and z"),
    ],
)
def test_sparse_points(tmp_path, text, said) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes(text.encode("latin1"))
    with pytest.raises(InputError) as caught:
        read_ply_points(path)
    assert said in str(caught.value) and "a.ply" in str(caught.value) and "\n" not in str(caught.value)


def test_sparse_points_of_each_kind(tmp_path) -> None:
    path = tmp_path / "a.ply"
    rows = np.array([(1.5, -2, 3, 10, 20, 30), (4, 5, 6, 40, 50, 255)])
    fields = [(name, "<f4") for name in "xyz"] + [(name, "u1") for name in ("r", "g", "b")]
    packed = np.array([tuple(row) for row in rows], fields)
    swapped = np.array([tuple(row) for row in rows], [(name, kind.replace("<", ">")) for name, kind in fields])
    for kind, data in (
        ("ascii", b"1.5 -2 3 10 20 30\n4 5 6 40 50 255 7\n"),
        ("binary_little_endian", packed.tobytes()),
        ("binary_big_endian", swapped.tobytes()),
    ):
        path.write_bytes(header(kind, 2).encode() + data)
        xyz, rgb, _ = read_ply_points(path)
        np.testing.assert_array_equal(xyz, rows[:, :3])
        np.testing.assert_array_equal(rgb, rows[:, 3:])
