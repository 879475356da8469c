"""COLMAP models as programs and people leave them: names, lines, places, sub-models, points and photos."""

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from support.scene_models import make_model, ring_poses

from splat.cli import main
from splat.errors import InputError
from splat.scene import load, load_scene, random_points


@pytest.fixture(autouse=True)
def few_random_points(monkeypatch) -> None:
    """Where a scene has no points, not fifty thousand random ones."""
    monkeypatch.setattr(random_points, "random_points", partial(random_points.random_points, count=2_000))


def notes_of(scene) -> str:
    return " | ".join(scene.notes)


def lands_where_measured(scene, within: float = 0.01) -> None:
    """Every keypoint is where its point is projected."""
    count = 0
    for view in scene.views:
        ids, xy = view.keypoints()
        assert len(ids) == 0 or (view.camera.project(scene.points.xyz[ids])[0] - xy).norm(dim=1).max() < within
        count += len(ids)
    assert count > 100


# ---- text files ----


def test_names_with_spaces(tmp_path) -> None:
    names = [f"A  DJI wp-2 ({k}).jpg" for k in range(6)]
    make_model(tmp_path, names=names, poses=ring_poses(6), text=True)
    scene = load_scene(tmp_path)
    assert [view.name for view in scene.views] == names and len(scene.points) == 60
    lands_where_measured(scene)


def rows_of(path: Path) -> tuple[list[str], list[list[str]]]:
    """Comments, and the two lines of each image."""
    lines = path.read_text().splitlines()
    head = [line for line in lines if line.startswith("#")]
    rest = [line for line in lines if not line.startswith("#")]
    return head, [rest[k : k + 2] for k in range(0, len(rest), 2)]


@pytest.mark.parametrize("case", ["one line", "last line", "some lines", "blank", "doubled line ends", "numbers"])
def test_lines_of_images(tmp_path, case: str) -> None:
    names = [f"{k:04d}" for k in range(6)] if case == "numbers" else None
    poses = ring_poses(6)
    if names:
        (tmp_path / "images").mkdir()
        make_model(tmp_path / "made", names=[f"{name}.png" for name in names], poses=poses, text=True)
        shutil.move(tmp_path / "made/sparse", tmp_path / "sparse")
        for name in names:
            shutil.move(tmp_path / f"made/images/{name}.png", tmp_path / f"images/{name}.png")
    else:
        make_model(tmp_path, poses=poses, text=True)
    path = tmp_path / "sparse/0/images.txt"
    head, images = rows_of(path)
    if case == "one line":
        lines = [first for first, _ in images]
    elif case == "last line":
        lines = [line for pair in images for line in pair][:-1]
    elif case == "some lines":
        lines = [line for k, pair in enumerate(images) for line in pair[: 1 + k % 2]]
    elif case == "blank":
        lines = [line for first, _ in images for line in (first, "")]
    elif case == "doubled line ends":
        lines = [line for pair in images for each in pair for line in (each, "")]
    else:
        lines = [first.removesuffix(".png") for first, _ in images]
    path.write_text("\n".join(head + lines))
    scene = load_scene(tmp_path)
    assert len(scene.views) == 6 and len(scene.points) == 60
    truth = {f"view_{k:03d}.png" if not names else names[k]: pose for k, pose in enumerate(poses)}
    for view in scene.views:
        np.testing.assert_allclose(view.camera.world_to_camera, truth[view.name], atol=1e-9)
    if case in ("last line", "doubled line ends"):
        lands_where_measured(scene)
    assert sum(len(view.keypoint_ids) > 0 for view in scene.views) == {
        "one line": 0, "last line": 5, "some lines": 3, "blank": 0, "doubled line ends": 6, "numbers": 0
    }[case]  # fmt: skip


@pytest.mark.parametrize(
    "line, said",
    [
        ("1 OPENCV 160 120 140 150 77 63 0.1 0.2", "OPENCV with 6 parameters, expected 8 (fx fy cx cy k1 k2 p1 p2)"),
        ("1 SIMPLE_PINHOLE 160 120 140 150 77 63", "SIMPLE_PINHOLE with 4 parameters, expected 3 (f cx cy)"),
        ("1 RADIAL 160 120 140", "RADIAL with 1 parameters, expected 5 (f cx cy k1 k2)"),
    ],
)
def test_number_of_parameters(tmp_path, line: str, said: str) -> None:
    make_model(tmp_path, text=True)
    (tmp_path / "sparse/0/cameras.txt").write_text(line + "\n")
    with pytest.raises(InputError) as caught:
        load_scene(tmp_path)
    assert f"camera 1 in cameras.txt is {said}" in str(caught.value) and "sparse/0" in str(caught.value)


# ---- places ----


def test_every_path_into_a_scene_leads_to_it(tmp_path) -> None:
    """The folder, a part of the model, a file of it, and the folder of the photos."""
    root = tmp_path / "scene"
    make_model(root)
    whole = load_scene(root)
    for part in (
        "sparse",
        "sparse/0",
        "sparse/0/images.bin",
        "sparse/0/cameras.bin",
        "images",
        "sparse/0/points3D.bin",
    ):
        scene = load_scene(root / part, progress=False)
        assert (scene.kind, scene.name, len(scene.points)) == ("colmap", "scene", 60), part
        assert [view.name for view in scene.views] == [view.name for view in whole.views]
        assert scene.views[0].source.path.resolve() == whole.views[0].source.path.resolve()
        assert main(["info", str(root / part)]) == 0
    assert load_scene(root / "images").notes == ("the cameras are those of ../sparse/0",)


@pytest.mark.parametrize("name", ["masks", "depth", "renders"])
def test_a_folder_beside_the_photos_is_not_taken_for_them(tmp_path, name: str) -> None:
    make_model(tmp_path)
    shutil.copytree(tmp_path / "images", tmp_path / name)
    notes: list[str] = []
    assert load._beside(tmp_path / name, 1.0, notes) is None and not notes
    assert load._beside(tmp_path / "images", 1.0, notes) is not None


def test_paths_from_within(tmp_path, monkeypatch) -> None:
    make_model(tmp_path / "scene")
    for place, given in (("scene/sparse/0", "."), ("scene/sparse", "."), ("scene/images", "."), ("scene/images", "..")):
        monkeypatch.chdir(tmp_path / place)
        assert load_scene(given, progress=False).name == "scene"


@pytest.mark.parametrize(
    "model, photos",
    [
        ("dense/0/sparse", "dense/0/images"),
        ("dense/sparse", "dense/images"),
        ("undistorted/sparse/0", "undistorted/images"),
        ("colmap/sparse/0", "images"),
        ("exported/sparse/0", "exported/images"),
        ("exported/sparse", "photos"),
        ("exported", "images"),
        ("sparse/0", "photos"),
        ("sparse/geo", "images"),
    ],
)
def test_places_of_model_and_photos(tmp_path, model: str, photos: str) -> None:
    make_model(tmp_path / "made")
    for source, target in (("sparse/0", model), ("images", photos)):
        (tmp_path / "scene" / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.move(tmp_path / "made" / source, tmp_path / "scene" / target)
    scene = load_scene(tmp_path / "scene", progress=False)
    assert scene.kind == "colmap" and len(scene.views) == 9 and len(scene.points) == 60 and scene.name == "scene"
    lands_where_measured(scene)


def test_undistorted_photos_of_the_same_names_go_with_their_model(tmp_path) -> None:
    """COLMAP's automatic reconstructor leaves both; the sizes of the pictures differ."""
    make_model(tmp_path / "made", size=(100, 80), params=[90, 90, 50, 40])
    make_model(tmp_path / "photos", size=(160, 120))
    shutil.move(tmp_path / "photos/images", tmp_path / "scene/images")
    (tmp_path / "scene/dense/0").mkdir(parents=True)
    shutil.move(tmp_path / "made/images", tmp_path / "scene/dense/0/images")
    shutil.move(tmp_path / "made/sparse/0", tmp_path / "scene/dense/0/sparse")
    scene = load_scene(tmp_path / "scene", progress=False)
    assert (scene.views[0].camera.width, scene.views[0].camera.fx) == (100, 90)


def test_several_scenes_below_are_named(tmp_path) -> None:
    make_model(tmp_path / "a")
    make_model(tmp_path / "b")
    with pytest.raises(InputError, match=r"holds 2 scenes \(a, b\); give the folder of one"):
        load_scene(tmp_path)


def test_a_model_below_of_the_same_photos_is_taken(tmp_path) -> None:
    make_model(tmp_path / "undistorted_by_me")
    for path in (tmp_path / "undistorted_by_me/images").iterdir():
        PIL.Image.new("RGB", (320, 240)).save(tmp_path / path.name)
    scene = load_scene(tmp_path, progress=False)
    assert scene.kind == "colmap" and scene.views[0].camera.width == 160
    assert "the cameras are those of the folder undistorted_by_me" in scene.notes[0]


def test_a_model_of_other_photos_is_not_taken(tmp_path) -> None:
    """Photos beside a folder with another scene: said, and not trained on by mistake."""
    make_model(tmp_path / "other")
    for k in range(2):
        PIL.Image.new("RGB", (32, 24)).save(tmp_path / f"{k}.png")
    notes: list[str] = []
    assert load._below(tmp_path, 1.0, notes) is None
    assert notes == ["the scene in other is not used, for it is of other photos; give its folder to use it"]


def test_the_largest_sub_model(tmp_path) -> None:
    reconstruction, _ = make_model(tmp_path)
    for name, views in (("0", 3), ("1", 9), ("2", 2)):
        part = tmp_path / "sparse" / name
        part.mkdir(exist_ok=True)
        for file in part.iterdir():
            file.unlink()
        reconstruction.write_text(str(part))
        head, images = rows_of(part / "images.txt")
        (part / "images.txt").write_text("\n".join(head + [line for pair in images[:views] for line in pair]) + "\n")
        for file in ("rigs.txt", "frames.txt"):
            (part / file).unlink()
    scene = load_scene(tmp_path)
    assert len(scene.views) == 9
    assert "sparse/1 is used, which has the most photos, 9; sparse/0 has 3, sparse/2 has 2" in scene.notes[0]
    asked = load_scene(tmp_path / "sparse/0")
    assert len(asked.views) == 3 and "there is 1 with 9" in asked.notes[0]
    assert "6 photos in images are in no model" in notes_of(asked)


def test_a_whole_model_goes_before_half_of_one(tmp_path) -> None:
    """Text files beside a single binary one."""
    make_model(tmp_path, text=True)
    (tmp_path / "sparse/0/cameras.bin").write_bytes(b"half")
    assert len(load_scene(tmp_path).views) == 9


# ---- points ----


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("empty", [False, True])
def test_no_points(tmp_path, text: bool, empty: bool) -> None:
    make_model(tmp_path, points=0 if empty else 20, text=text)
    if not empty:
        (tmp_path / f"sparse/0/points3D.{'txt' if text else 'bin'}").unlink()
    scene = load_scene(tmp_path)
    assert len(scene.views) == 9 and not scene.points.measured and len(scene.points) > 1000
    assert "random" in notes_of(scene)
    assert all(len(view.keypoint_ids) == 0 for view in scene.views)


@pytest.mark.parametrize("empty", [False, True])
def test_points_in_a_ply_alone(tmp_path, empty: bool) -> None:
    _, xyz = make_model(tmp_path, points=0 if empty else 30)
    if not empty:
        (tmp_path / "sparse/0/points3D.bin").unlink()
    xyz = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 3)).round(3)
    names = [f"property float {axis}" for axis in "xyz"] + [f"property uchar {c}" for c in ("red", "green", "blue")]
    rows = [" ".join(map(str, [*row, 10, 20, k])) for k, row in enumerate(xyz)]
    text = ["ply", "format ascii 1.0", "element vertex 8", *names, "end_header", *rows]
    (tmp_path / "sparse/0/points3D.ply").write_text("\n".join(text) + "\n")
    scene = load_scene(tmp_path)
    np.testing.assert_allclose(scene.points.xyz, xyz, atol=1e-6)
    assert scene.points.rgb[7].tolist() == [10, 20, 7] and scene.points.measured and not scene.notes


# ---- photos ----


def test_some_photos_are_gone(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "images/view_003.png").unlink()
    scene = load_scene(tmp_path)
    assert len(scene.views) == 8 and scene.notes == ("1 photo of the model is not there (view_003.png)",)
    for k in (4, 5, 6, 8):
        (tmp_path / f"images/view_{k:03d}.png").unlink()
    PIL.Image.new("RGB", (9, 9)).save(tmp_path / "images/extra.png")
    PIL.Image.new("RGB", (9, 9)).save(tmp_path / "images/more.jpg")
    scene = load_scene(tmp_path)
    assert len(scene.views) == 4
    assert "5 photos of the model are not there (view_003.png, view_004.png, view_005.png and 2 more)" in scene.notes
    assert "2 photos in images are in no model (extra.png, more.jpg)" in scene.notes
    lands_where_measured(scene)


@pytest.mark.parametrize("rename", [str.upper, lambda n: n.replace(".png", ".jpg"), lambda n: n.replace("png", "TIF")])
def test_other_suffix_and_case(tmp_path, rename) -> None:
    make_model(tmp_path, names=[f"Left/photo_{k}.png" for k in range(9)])
    for path in list((tmp_path / "images/Left").iterdir()):
        PIL.Image.open(path).save(path.with_name("new_" + rename(path.name)))
        path.unlink()
    for path in list((tmp_path / "images/Left").iterdir()):
        path.rename(path.with_name(path.name.removeprefix("new_")))
    (tmp_path / "images/Left").rename(tmp_path / "images/left")
    scene = load_scene(tmp_path)
    assert [view.name for view in scene.views] == [f"Left/photo_{k}.png" for k in range(9)] and not scene.notes
    for k, view in enumerate(scene.views):
        assert view.source.path.stem.lower() == f"photo_{k}"
        view.load()


def test_no_photo_serves_two_names(tmp_path) -> None:
    names = [*(f"{k}.png" for k in range(8)), "0.jpg"]
    make_model(tmp_path, names=names)
    (tmp_path / "images/0.jpg").unlink()
    scene = load_scene(tmp_path)
    assert [view.name for view in scene.views] == names[:8] and "(0.jpg)" in scene.notes[0]


@pytest.mark.parametrize("prefix", ["C:\\Users\\me\\scan\\images\\", "/home/me/scan/images/", "/data/"])
def test_whole_paths_of_another_machine(tmp_path, prefix: str) -> None:
    make_model(tmp_path, text=True)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("view_", prefix + "view_"))
    scene = load_scene(tmp_path)
    assert len(scene.views) == 9 and all(view.source.path.is_file() for view in scene.views)
    assert scene.views[0].name.endswith("view_000.png") and ":" not in scene.views[0].name


def test_folders_that_were_flattened(tmp_path) -> None:
    make_model(tmp_path, names=[f"cam{k % 2}/{k}.png" for k in range(9)])
    for path in (tmp_path / "images").glob("*/*.png"):
        path.rename(tmp_path / "images" / path.name)
    scene = load_scene(tmp_path)
    assert len(scene.views) == 9 and "without folders" in scene.notes[0]
    assert all(view.source.path.name == view.name.split("/")[1] for view in scene.views)


def test_only_shrunk_photos(tmp_path) -> None:
    make_model(tmp_path)
    for factor in (2, 4):
        (tmp_path / f"images_{factor}").mkdir()
        for path in (tmp_path / "images").iterdir():
            image = PIL.Image.open(path)
            image.resize((160 // factor, 120 // factor)).save(tmp_path / f"images_{factor}" / path.name)
    shutil.rmtree(tmp_path / "images")
    scene = load_scene(tmp_path)
    assert (scene.views[0].camera.width, scene.views[0].camera.fx) == (80, 70)
    assert "only shrunk" in scene.notes[0] and "images_2 is used" in scene.notes[0]
    lands_where_measured(scene)
    half = load_scene(tmp_path, downscale=2)
    assert half.views[0].camera.width == 80 and not half.notes
    (tmp_path / "images_2").rename(tmp_path / "images")
    assert not load_scene(tmp_path, downscale=4).notes
    (tmp_path / "images").rename(tmp_path / "images_2")
    quarter = load_scene(tmp_path, downscale=4)
    assert quarter.views[0].source.path.parent.name == "images_4" and quarter.views[0].camera.width == 40
    given = load_scene(tmp_path / "images_4", progress=False)
    assert given.views[0].source.path.parent.name == "images_4" and given.views[0].camera.width == 40
    lands_where_measured(given)


def test_names_with_the_photo_folder_in_them(tmp_path) -> None:
    make_model(tmp_path, text=True)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("view_", "images/view_"))
    PIL.Image.new("RGB", (9, 9)).save(tmp_path / "images/extra.png")
    scene = load_scene(tmp_path)
    assert len(scene.views) == 9 and scene.notes == ("1 photo in images is in no model (extra.png)",)


def test_a_name_that_comes_twice(tmp_path) -> None:
    make_model(tmp_path, text=True)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text(path.read_text().replace("view_004.png", "view_003.png"))
    scene = load_scene(tmp_path)
    assert len(scene.views) == 8 and "1 photo is named again" in notes_of(scene)
    np.testing.assert_allclose(scene.views[3].camera.world_to_camera, ring_poses(9)[3], atol=1e-9)
    assert "1 photo in images is in no model (view_004.png)" in notes_of(scene)
