"""transforms.json as programs and people leave it: names, encodings, lists and camera models."""

import json
from functools import partial

import numpy as np
import PIL.Image
import pytest
from support.json_scenes import SIZE, described, write
from support.scene_models import CAMERAS, ring_poses

from splat.cli import main
from splat.errors import InputError
from splat.scene import load_scene, random_points


@pytest.fixture(autouse=True)
def few_random_points(monkeypatch) -> None:
    """Where a scene has no points, not fifty thousand random ones."""
    monkeypatch.setattr(random_points, "random_points", partial(random_points.random_points, count=2_000))


USUAL = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])  # of old nerfstudio


def check_poses(scene, poses) -> None:
    for view, pose in zip(scene.views, poses, strict=True):
        np.testing.assert_allclose(view.camera.world_to_camera, pose, atol=1e-9)


# ---- encodings, names and paths ----


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_encodings(tmp_path, encoding: str) -> None:
    values = described(tmp_path, files=[f"images/größe {k}.png" for k in range(6)])
    (tmp_path / "transforms.json").write_bytes(json.dumps(values, ensure_ascii=False).encode(encoding))
    assert [view.name for view in load_scene(tmp_path).views] == [f"größe {k}.png" for k in range(6)]


@pytest.mark.parametrize("prefix", ["", ".\\", "C:\\Users\\me\\scan\\", "/home/me/scan/", "\\\\server\\scan\\"])
def test_paths_of_other_machines(tmp_path, prefix: str) -> None:
    values = described(tmp_path)
    (tmp_path / "sparse_pc.ply").rename(tmp_path / "images/Cloud.ply")
    (tmp_path / "m").mkdir()
    for k, frame in enumerate(values["frames"]):
        PIL.Image.new("L", SIZE, 255).save(tmp_path / f"m/{k}.png")
        frame |= {"file_path": f"{prefix}images\\{k:04d}.PNG", "mask_path": f"{prefix}m\\{k}.png"}
    write(tmp_path, {**values, "ply_file_path": prefix + "images\\cloud.ply"})
    scene = load_scene(tmp_path)
    assert [view.name for view in scene.views] == [f"{k:04d}.PNG" for k in range(6)]
    assert all(view.source.mask_path.is_file() for view in scene.views) and len(scene.points) == 40


@pytest.mark.parametrize("name", ["dataset.json", "transform.json", "transform_train.json", "Cameras.JSON"])
def test_any_name(tmp_path, name: str, capsys) -> None:
    poses = ring_poses(6)
    path = write(tmp_path, described(tmp_path, poses), name)
    (tmp_path / "other.json").write_text('{"frames": 7, "camera_path": []}')
    (tmp_path / "broken.json").write_text('{"frames": [')
    for given in (tmp_path, path):
        scene = load_scene(given, progress=False)
        assert scene.kind == "nerfstudio" and len(scene.points) == 40
        check_poses(scene, poses)
        assert main(["info", str(given)]) == 0
    assert f"the cameras are those of {name}" in load_scene(tmp_path).notes
    assert capsys.readouterr().out.count("nerfstudio") == 2


def test_a_damaged_file_of_any_name_is_not_passed_over(tmp_path) -> None:
    """Else structure from motion would run, as if there were no file."""
    path = write(tmp_path, described(tmp_path), "dataset.json")
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="dataset.json: its text cannot be understood"):
        load_scene(tmp_path, progress=False)


def test_of_several_files_the_usual_name_goes_first(tmp_path) -> None:
    values = described(tmp_path)
    write(tmp_path, {**values, "frames": values["frames"][:4]}, "transforms.json")
    write(tmp_path, values, "dataset.json")
    scene = load_scene(tmp_path)
    assert len(scene.views) == 4
    assert scene.notes[0] == "the cameras are those of transforms.json; frames are in dataset.json too"
    assert "2 photos in images are in no frame (0004.png, 0005.png)" in scene.notes


def test_a_model_that_cannot_be_read_gives_way(tmp_path) -> None:
    write(tmp_path, described(tmp_path))
    (tmp_path / "sparse/0").mkdir(parents=True)
    (tmp_path / "sparse/0/cameras.bin").write_bytes(b"")
    scene = load_scene(tmp_path)
    assert scene.kind == "nerfstudio" and "passed over: the COLMAP model" in scene.notes[0]


def test_the_photo_folder_leads_to_the_file_above(tmp_path) -> None:
    poses = ring_poses(6)
    write(tmp_path, described(tmp_path, poses))
    scene = load_scene(tmp_path / "images", progress=False)
    check_poses(scene, poses)
    assert "the cameras are those of" in scene.notes[0] and scene.name == tmp_path.name


def test_a_scene_one_level_down(tmp_path) -> None:
    write(tmp_path / "export", described(tmp_path / "export"))
    scene = load_scene(tmp_path, progress=False)
    assert len(scene.views) == 6 and scene.kind == "nerfstudio"


# ---- photos ----


def test_photos_that_are_gone_or_have_another_suffix(tmp_path) -> None:
    write(tmp_path, described(tmp_path, w=None, h=None))
    (tmp_path / "images/0002.png").unlink()
    PIL.Image.open(tmp_path / "images/0003.png").save(tmp_path / "images/0003.JPG")
    (tmp_path / "images/0003.png").unlink()
    scene = load_scene(tmp_path)
    assert len(scene.views) == 5 and "1 photo of transforms.json is not there (0002.png)" in scene.notes
    for path in (tmp_path / "images").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="transforms.json does not exist"):
        load_scene(tmp_path)


def test_only_shrunk_photos(tmp_path) -> None:
    write(tmp_path, described(tmp_path))
    (tmp_path / "images").rename(tmp_path / "images_2")
    for path in (tmp_path / "images_2").iterdir():
        PIL.Image.new("RGB", (32, 24)).save(path)
    scene = load_scene(tmp_path)
    assert scene.views[0].camera.fx == 28 and "only shrunk, in images_2" in scene.notes[0]


# ---- which frames are trained on ----


def names(views) -> list[str]:
    return [view.name for view in views]


@pytest.mark.parametrize(
    "lists, train, test, left_out",
    [
        ({"train": [0, 1, 2], "val": [3, 4], "test": [5]}, [0, 1, 2], [5], 2),
        ({"train": [0, 1, 2], "val": [3, 4, 5]}, [0, 1, 2], [3, 4, 5], 0),
        ({"train": [0, 1, 2], "val": [3], "test": [4]}, [0, 1, 2], [4], 2),
        ({"train": [0, 1, 2], "val": [3]}, [0, 1, 2], [3], 2),
        ({"train": [0, 1, 2]}, [0, 1, 2], [3, 4, 5], 0),
        ({"test": [1, 2]}, [0, 3, 4, 5], [1, 2], 0),
        ({"val": [1, 2]}, [0, 3, 4, 5], [1, 2], 0),
        ({"val": [1, 2], "test": [3]}, [0, 4, 5], [3], 2),
        ({"train": [0, 1, 2, 3], "test": [3, 4, 5]}, [0, 1, 2], [3, 4, 5], 0),
        ({"train": [], "val": [], "test": []}, [1, 2, 3, 4, 5], [0], 0),
    ],
)
def test_lists(tmp_path, lists, train, test, left_out) -> None:
    values = described(tmp_path)
    for split, rows in lists.items():
        values[f"{split}_filenames"] = [f"images/{k:04d}.png" for k in rows]
    write(tmp_path, values)
    scene = load_scene(tmp_path)
    assert names(scene.train_views) == [f"{k:04d}.png" for k in train]
    assert names(scene.test_views) == [f"{k:04d}.png" for k in test]
    counts = [int(note.split()[0]) for note in scene.notes if "left out of training and test" in note]
    assert sum(counts) == left_out


def test_who_chooses_the_test_set_has_every_photo(tmp_path) -> None:
    lists = {"train_filenames": ["images/0000.png"], "val_filenames": ["0001"], "test_filenames": ["0002", "0003"]}
    write(tmp_path, described(tmp_path, **lists))
    for chosen, test in (("none", []), ("3", ["0000.png", "0003.png"])):
        scene = load_scene(tmp_path, hold_out=chosen)
        assert len(scene.views) == 6 and names(scene.test_views) == test and not scene.notes


def test_names_in_lists(tmp_path) -> None:
    """Without suffix or folder, with backslashes; names of nothing are said."""
    values = described(tmp_path, train_filenames=[".\\images\\0000.png", "0001.png", "images/0002"])
    write(tmp_path, {**values, "test_filenames": ["0003", "./images/0004.png", "gone.png"]})
    scene = load_scene(tmp_path)
    assert names(scene.train_views) == ["0000.png", "0001.png", "0002.png"]
    assert names(scene.test_views) == ["0003.png", "0004.png"]
    assert "test_filenames names 1 that are no frames (gone.png)" in scene.notes
    assert any(note.startswith("1 photo is in none of the lists") for note in scene.notes)


@pytest.mark.parametrize("stem", ["transforms_", "transform_", "cameras_"])
@pytest.mark.parametrize("given", ["train val test", "train val", "train test", "train"])
def test_files_of_splits(tmp_path, stem: str, given: str) -> None:
    for split in given.split():
        values = described(tmp_path, files=[f"{split}/{k}.png" for k in range(6)])
        write(tmp_path, values, f"{stem}{split}.json")
    scene = load_scene(tmp_path)
    folders = [{view.source.path.parent.name for view in views} for views in (scene.train_views, scene.test_views)]
    expected = {"train val test": {"test"}, "train val": {"val"}, "train test": {"test"}, "train": set()}
    if given != "train" or stem == "transforms_":
        assert folders == [{"train"}, expected[given]] and len(scene.train_views) == 6
    left_out = [note for note in scene.notes if note.startswith("6 photos are for validation")]
    assert len(left_out) == (given == "train val test")


def test_a_photo_of_two_splits_is_tested_on(tmp_path) -> None:
    for split, rows in (("train", (0, 1, 2, 3)), ("test", (3, 4))):
        values = described(tmp_path, files=[f"images/{k}.png" for k in range(6)])
        write(tmp_path, {**values, "frames": [values["frames"][k] for k in rows]}, f"transforms_{split}.json")
    scene = load_scene(tmp_path)
    assert names(scene.train_views) == ["0.png", "1.png", "2.png"] and names(scene.test_views) == ["3.png", "4.png"]
    assert any(note.startswith("1 photo is named again in transforms_train.json") for note in scene.notes)
    assert any("to train on and to test on were named images/3.png" in note for note in scene.notes)


# ---- intrinsics ----


def test_values_of_frames_go_first(tmp_path) -> None:
    values = described(tmp_path, camera_angle_x=0.1)
    values["frames"][1] |= {"fl_x": 70.0, "fl_y": 71.0, "cx": 30.0, "k1": 0.0}
    values["frames"][2] |= {"camera_angle_x": 1.0}
    values["frames"][3] |= {"w": 128, "h": 96, "cx": 64.0, "cy": 48.0, "fl_x": 112.0, "fl_y": 112.0}
    PIL.Image.new("RGB", (128, 96)).save(tmp_path / "images/0003.png")
    write(tmp_path, values)
    cameras = [view.camera for view in load_scene(tmp_path).views]
    assert (cameras[0].fx, cameras[1].fx, cameras[1].fy, cameras[1].cx) == (56, 70, 71, 30)
    assert cameras[2].fx == cameras[2].fy == pytest.approx(32 / np.tan(0.5))
    assert (cameras[3].width, cameras[3].fx) == (128, 112)


@pytest.mark.parametrize("model", sorted(CAMERAS))
def test_camera_models_by_their_parameter_names(tmp_path, model: str) -> None:
    """The same pixels for the same rays as COLMAP's own model of these parameters."""
    import pycolmap

    camera = pycolmap.Camera(model=model, width=160, height=120, params=CAMERAS[model])
    keys = camera.params_info.replace(",", " ").split()
    values = {
        {"fx": "fl_x", "fy": "fl_y", "f": "fl_x"}.get(key, key): v for key, v in zip(keys, CAMERAS[model], strict=True)
    }
    if "k" in values:
        values["k1"] = values.pop("k")
    frames = described(tmp_path)["frames"]
    for frame in frames:
        PIL.Image.new("RGB", (160, 120)).save(tmp_path / frame["file_path"])
    for spelled in (model, model.lower()):
        write(tmp_path, {"w": 160, "h": 120, "camera_model": spelled, **values, "frames": frames})
        view = load_scene(tmp_path).views[0]
        lens = view.source.lens or (view.source.face and view.source.face.lens)
        rays = np.random.default_rng(0).uniform(-0.3, 0.3, (50, 2))
        pixels = np.asarray(camera.img_from_cam(np.concatenate([rays, np.ones((50, 1))], 1)))
        if lens is None:
            assert "PINHOLE" in model and (view.camera.fx, view.camera.fy) == (
                camera.focal_length_x,
                camera.focal_length_y,
            )
        else:
            np.testing.assert_allclose(lens.distort(rays), pixels, atol=1e-9)


def test_one_focal_models_with_two_focal_lengths(tmp_path) -> None:
    for model, two in (
        ("RADIAL_FISHEYE", "OPENCV_FISHEYE"),
        ("SIMPLE_RADIAL", "OPENCV"),
        ("SIMPLE_FISHEYE", "FISHEYE"),
    ):
        write(tmp_path, {**described(tmp_path), "camera_model": model, "fl_y": 57.0, "k1": 0.01})
        lens = load_scene(tmp_path).views[0].source.lens
        assert lens.model == two and lens.params[:2] == (56, 57) and (two == "FISHEYE" or 0.01 in lens.params)


def test_coefficients_that_a_model_does_not_take_are_named(tmp_path) -> None:
    write(tmp_path, described(tmp_path, camera_model="PINHOLE", k1=0.1, k2=0, p1=0.0))
    assert "'k1' is no parameter of the camera model PINHOLE and is not used" in load_scene(tmp_path).notes
    write(tmp_path, described(tmp_path, camera_model="FOV"))
    with pytest.raises(InputError, match="FOV without 'omega'"):
        load_scene(tmp_path)


@pytest.mark.parametrize("key, value", [("fl_x", -56.0), ("fl_y", -1)])
def test_negative_focal_lengths_are_named(tmp_path, key, value) -> None:
    write(tmp_path, described(tmp_path, **{key: value}))
    with pytest.raises(InputError, match=f"'{key}' in .* is {value:g}, but focal lengths are positive"):
        load_scene(tmp_path)


def test_scaled_axes(tmp_path) -> None:
    """Exporters that scale a scene scale the axes of its poses too."""
    poses = ring_poses(6)
    values = described(tmp_path, poses)
    for frame in values["frames"]:
        matrix = np.array(frame["transform_matrix"])
        matrix[:3, :3] *= 0.25
        frame["transform_matrix"] = matrix.reshape(-1).tolist()  # sixteen numbers in a row
    write(tmp_path, values)
    scene = load_scene(tmp_path)
    check_poses(scene, poses)
    assert "the axes of every pose have the length 0.25 instead of 1 and are taken without it" in scene.notes
