"""Bad input: each kind gives one sentence that names the file."""

import json
import shutil
import struct
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from support.scene_models import SIZE, make_model, ring_poses

from splat.errors import InputError
from splat.scene import load_scene


def message_of(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        load_scene(path, progress=False, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


def test_missing_folder(tmp_path) -> None:
    assert "nowhere does not exist" in message_of(tmp_path / "nowhere")


def test_file_instead_of_folder(tmp_path) -> None:
    (tmp_path / "notes.txt").write_text("hello")
    assert "notes.txt is a file" in message_of(tmp_path / "notes.txt")


def test_empty_folder(tmp_path) -> None:
    text = message_of(tmp_path)
    assert str(tmp_path) in text and "photos" in text and "transforms.json" in text


@pytest.mark.parametrize("stem", ["cameras", "images", "points3D"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.97])
def test_truncated_binary(tmp_path, stem: str, part: float) -> None:
    make_model(tmp_path)
    path = tmp_path / f"sparse/0/{stem}.bin"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    text = message_of(tmp_path)
    assert f"{stem}.bin" in text and "truncated" in text


@pytest.mark.parametrize("stem", ["rigs", "frames"])
def test_truncated_rig_files(tmp_path, stem: str) -> None:
    make_model(tmp_path)
    path = tmp_path / f"sparse/0/{stem}.bin"
    path.write_bytes(path.read_bytes()[:-5])
    assert f"{stem}.bin" in message_of(tmp_path)


@pytest.mark.parametrize("stem", ["cameras", "images"])
def test_missing_model_file(tmp_path, stem: str) -> None:
    make_model(tmp_path)
    (tmp_path / f"sparse/0/{stem}.bin").unlink()
    assert f"{stem}.bin" in message_of(tmp_path)


def test_unknown_camera_model(tmp_path) -> None:
    make_model(tmp_path / "bin")
    path = tmp_path / "bin/sparse/0/cameras.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<i", data, 12, 77)
    path.write_bytes(data)
    text = message_of(tmp_path / "bin")
    assert "77" in text and "OPENCV_FISHEYE" in text and "cameras.bin" in text
    make_model(tmp_path / "txt", text=True)
    path = tmp_path / "txt/sparse/0/cameras.txt"
    path.write_text(path.read_text().replace("PINHOLE", "MAGIC"))
    assert "MAGIC" in message_of(tmp_path / "txt")


def test_damaged_text_model(tmp_path) -> None:
    for stem, line in (("cameras", "1 PINHOLE 160"), ("images", "1 0.5 x y z"), ("points3D", "1 a b")):
        root = tmp_path / stem
        make_model(root, text=True)
        (root / f"sparse/0/{stem}.txt").write_text(line + "\n")
        assert "sparse/0" in message_of(root)


def test_missing_images(tmp_path) -> None:
    make_model(tmp_path)
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    text = message_of(tmp_path)
    assert "view_000.png and 8 of the other 8" in text and "does not exist" in text and "sparse/0" in text
    shutil.rmtree(tmp_path / "images")
    assert "no folder with them" in message_of(tmp_path)


def test_unreadable_image(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "images/view_003.png").write_bytes(b"not a picture")
    assert "view_003.png" in message_of(tmp_path)


def test_truncated_image(tmp_path) -> None:
    """The header is intact: it shows when the photo is decoded."""
    make_model(tmp_path)
    path = tmp_path / "images/view_003.png"
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"view_003.png: the picture cannot be read"):
        load_scene(tmp_path).views[3].load()


@pytest.mark.parametrize("size", [(100, 100), (80, 60), (161, 122), (120, 160)])
def test_image_of_another_size(tmp_path, size: tuple[int, int]) -> None:
    """Also when one image alone is an exact fraction of its camera."""
    make_model(tmp_path)
    PIL.Image.new("RGB", size).save(tmp_path / "images/view_003.png")
    text = message_of(tmp_path)
    assert "view_003.png" in text and f"{size[0]}×{size[1]}" in text and "160×120" in text


def test_mask_of_another_size(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "masks").mkdir()
    PIL.Image.new("L", (10, 10)).save(tmp_path / "masks/view_002.png")
    text = message_of(tmp_path)
    assert "masks/view_002.png is 10×10" in text and f"{SIZE[0]}×{SIZE[1]}" in text


def _patch_image(root: Path, offset: int, value: float) -> None:
    path = root / "sparse/0/images.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<d", data, 8 + 4 + offset, value)
    path.write_bytes(data)


@pytest.mark.parametrize("offset", [0, 32])
def test_nan_pose(tmp_path, offset: int) -> None:
    """In the rotation and in the translation of the first image of an old-style model (without frames.bin)."""
    make_model(tmp_path)
    for stem in ("rigs", "frames"):
        (tmp_path / f"sparse/0/{stem}.bin").unlink()
    _patch_image(tmp_path, offset, float("nan"))
    text = message_of(tmp_path)
    assert "view_000.png" in text and "NaN" in text


def test_nan_pose_in_frames(tmp_path) -> None:
    make_model(tmp_path)
    path = tmp_path / "sparse/0/frames.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<d", data, 8 + 4 + 4 + 32, float("nan"))
    path.write_bytes(data)
    assert "NaN" in message_of(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -5.0, 0.0])
def test_bad_intrinsics(tmp_path, value: float) -> None:
    make_model(tmp_path)
    path = tmp_path / "sparse/0/cameras.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<d", data, 32, value)
    path.write_bytes(data)
    assert "the camera of view_000.png" in message_of(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_points_that_are_not_finite_are_left_out(tmp_path, value: float) -> None:
    """Keypoints keep their points; those of the one that is left out have none."""
    _, xyz = make_model(tmp_path)
    path = tmp_path / "sparse/0/points3D.bin"
    data = bytearray(path.read_bytes())
    struct.pack_into("<d", data, 16, value)
    path.write_bytes(data)
    scene = load_scene(tmp_path)
    assert "1 of 60 points of" in scene.notes[0]
    np.testing.assert_allclose(scene.points.xyz, xyz[1:])
    for view in scene.views:
        ids, measured = view.keypoints()
        assert (view.camera.project(scene.points.xyz[ids])[0] - measured).norm(dim=1).max() < 0.01


def test_all_views_in_one_place(tmp_path) -> None:
    poses = ring_poses(9)
    for pose in poses:  # same centre, other directions
        pose[:3, 3] = -pose[:3, :3] @ np.array([0.1, 0.2, -3.0])
    make_model(tmp_path, poses=poses)
    assert "one place" in message_of(tmp_path)


def test_single_image(tmp_path) -> None:
    make_model(tmp_path, views=1)
    assert "single image" in message_of(tmp_path)


def _transforms(root: Path, **changes) -> dict:
    root.mkdir(exist_ok=True)
    frames = []
    for k, pose in enumerate(ring_poses(3)):
        PIL.Image.new("RGB", (32, 24)).save(root / f"{k}.png")
        matrix = np.linalg.inv(pose) @ np.diag([1, -1, -1, 1])
        frames.append({"file_path": f"{k}.png", "transform_matrix": matrix.tolist()})
    return {"camera_angle_x": 0.7, "frames": frames, **changes}


def test_bad_transforms(tmp_path) -> None:
    good = _transforms(tmp_path)
    path = tmp_path / "transforms.json"

    def says(value, words: str) -> None:
        path.write_text(value if isinstance(value, str) else json.dumps(value))
        text = message_of(tmp_path)
        assert "transforms.json" in text and words in text, text

    says("{ not json", "its text cannot be understood")
    says([1, 2], "is JSON but no object")
    says({"camera_angle_x": 0.7}, "no 'frames'")
    says({**good, "frames": []}, "no 'frames'")
    says({**good, "frames": [{"file_path": "0.png"}]}, "transform_matrix")
    says({**good, "frames": [{"transform_matrix": [[1]]}]}, "file_path")
    says({"frames": good["frames"]}, "no focal length")
    says({**good, "camera_angle_x": "wide"}, "expected a number")
    says({**good, "camera_model": "LYTRO"}, "LYTRO")
    says({**good, "ply_file_path": "gone.ply"}, "gone.ply")
    broken = json.loads(json.dumps(good))
    broken["frames"][1]["transform_matrix"] = [[1, 0], [0, 1]]
    says(broken, "1.png")
    broken["frames"][1]["transform_matrix"] = np.full((4, 4), np.nan).tolist()
    says(broken, "NaN")
    broken["frames"][1]["transform_matrix"] = (3 * np.eye(4)).tolist()
    says(broken, "no rotation")
    broken["frames"][1]["file_path"] = ".."
    says(broken, "no file name")
    for frame in broken["frames"]:
        frame["file_path"] = "missing"
    says(broken, "missing")
