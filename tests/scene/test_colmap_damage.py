"""COLMAP models that are damaged, incomplete or made to harm; and rigs, against pycolmap's own reading."""

import struct
import tracemalloc
from pathlib import Path

import numpy as np
import PIL.Image
import pycolmap
import pytest
from support.scene_models import make_model

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.readers.colmap_model import read_model
from splat.scene.readers.colmap_parts import NO_POINT


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_scene(path, progress=False)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


@pytest.mark.parametrize("text", [False, True])
def test_rigs_as_pycolmap_reads_them(tmp_path, text: bool) -> None:
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = 2, 3, 4, 50
    options.num_points2D_without_point3D = 5
    made = pycolmap.synthesize_dataset(options)
    (made.write_text if text else made.write_binary)(str(tmp_path))
    truth, model = pycolmap.Reconstruction(str(tmp_path)), read_model(tmp_path)
    assert len(model.images) == truth.num_images() == 24 and not model.notes
    for image in model.images:
        other = truth.images[image.id]
        assert (image.name, image.camera) == (other.name, other.camera_id)
        np.testing.assert_allclose(image.world_to_camera[:3], other.cam_from_world().matrix(), atol=1e-12)
        np.testing.assert_allclose(image.xy, [point.xy for point in other.points2D], rtol=1e-14)
        assert image.point_ids.tolist() == [point.point3D_id for point in other.points2D]
        assert NO_POINT in image.point_ids
    for row, identifier in enumerate(model.points.ids.tolist()):
        np.testing.assert_allclose(model.points.xyz[row], truth.points3D[identifier].xyz, rtol=1e-14)
        assert model.points.rgb[row].tolist() == truth.points3D[identifier].color.tolist()
    for identifier, lens in model.cameras.items():
        camera = truth.cameras[identifier]
        assert (lens.model, lens.width, lens.height) == (camera.model_name, camera.width, camera.height)
        np.testing.assert_allclose(lens.params, camera.params, rtol=1e-14)


@pytest.mark.parametrize("text", [False, True])
def test_keypoints_of_points_that_are_gone(tmp_path, text: bool) -> None:
    """They have no point; they must not count as keypoints of the first one."""
    reconstruction, xyz = make_model(tmp_path, text=text)
    whole = load_scene(tmp_path)
    path = tmp_path / f"sparse/0/points3D.{'txt' if text else 'bin'}"
    if text:
        lines = path.read_text().splitlines()
        path.write_text("\n".join(lines[:3] + [line for line in lines[3:] if int(line.split()[0]) > 30]))
    else:
        kept, data, at = [], path.read_bytes(), 8
        for _ in range(60):
            size = 51 + 8 * struct.unpack_from("<Q", data, at + 43)[0]
            if struct.unpack_from("<Q", data, at)[0] > 30:
                kept.append(data[at : at + size])
            at += size
        path.write_bytes(struct.pack("<Q", len(kept)) + b"".join(kept))
    scene = load_scene(tmp_path)
    np.testing.assert_allclose(scene.points.xyz, xyz[30:], atol=1e-9)
    for view, before in zip(scene.views, whole.views, strict=True):
        ids, xy = view.keypoints()
        assert len(ids) == int((before.keypoints()[0] >= 30).sum())
        assert (view.camera.project(scene.points.xyz[ids])[0] - xy).norm(dim=1).max() < 0.01
    lost = sum(int((view.keypoints()[0] < 30).sum()) for view in whole.views)
    assert f"{lost} keypoints name points that the model does not hold" in " ".join(scene.notes)


def patched(path: Path, at: int, layout: str, *values: object) -> None:
    data = bytearray(path.read_bytes())
    struct.pack_into(layout, data, at, *values)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "stem, at, layout, value, said",
    [
        (
            "images",
            8 + 64,
            "3s",
            b"\xff\xfe\xfd",
            r"images\.bin: image 1 cannot be understood \(the image name .* UTF-8",
        ),
        ("images", 8 + 64, "1s", b"\0", r"images\.bin is truncated or damaged"),
        ("images", 8 + 60, "<I", 7, r"images\.bin: view_000\.png was taken by camera 7, which cameras\.bin does not"),
        ("images", 8 + 64 + 13, "<Q", 2**63, r"images\.bin is truncated or damaged"),
        ("images", 0, "<Q", 2**62, r"images\.bin is truncated or damaged"),
        ("points3D", 0, "<Q", 2**62, r"points3D\.bin is truncated or damaged"),
        ("points3D", 8 + 43, "<Q", 2**63, r"points3D\.bin is truncated or damaged"),
        ("points3D", 8, "<Q", 2, r"points3D\.bin holds the point 2 twice"),
        ("cameras", 0, "<Q", 2**64 - 1, r"cameras\.bin is truncated or damaged"),
        ("cameras", 16, "<Q", 2**63, r"the camera of view_000\.png"),
        ("cameras", 40, "<d", 0.0, r"the camera of view_000\.png .*\[140\.0, 0\.0, "),
        ("cameras", 48, "<d", 1e300, r"the camera of view_000\.png"),
        ("rigs", 12, "<I", 2**32 - 1, r"rigs\.bin is truncated or damaged"),
        ("frames", 8 + 64, "<I", 2**32 - 1, r"frames\.bin is truncated or damaged"),
        ("frames", 8 + 40, "<d", 1e200, "the pose of view_000.png"),
    ],
)
def test_damaged_binary(tmp_path, stem, at, layout, value, said) -> None:
    make_model(tmp_path)
    patched(tmp_path / f"sparse/0/{stem}.bin", at, layout, value)
    with pytest.raises(InputError, match=said):
        load_scene(tmp_path)


@pytest.mark.parametrize(
    "stem, line, said",
    [
        ("cameras", "1 PINHOLE wide 120 140 150 77 63", r"cameras\.txt: line 1, .*wide"),
        (
            "cameras",
            "1 PINHOLE 160 120 140 150 77",
            r"camera 1 in cameras\.txt is PINHOLE with 3 .* expected 4 \(fx fy cx cy\)",
        ),
        ("cameras", "1 PINHOLE 160 120 140 0 77 63", r"the camera of view_000\.png"),
        ("cameras", "1 PINHOLE 160 120 140 150 nan 63", r"the camera of view_000\.png"),
        ("cameras", "1 " + "9 " * 40000, r"cameras\.txt: line 1, .*too many"),
        ("images", "1 1 0 0 0 0 0 4 one a.png", r"images\.txt: line 1, '1 1 0 0 0 0 0 4 one a\.png', cannot"),
        ("images", "1 1 0 0 0 0 0 4 1", r"images\.txt: line 1, "),
        ("images", "1 1 0 0 0 0 0 4 1 a.png\n3 4", r"images\.txt: line 2, .*no triples"),
        ("images", "1 1 0 0 0 0 0 4 1 a.png\n3 4 x", r"images\.txt: line 2, .*expected: x, y and point id"),
        ("images", "1 1 0 0 0 0 0 4 1 a.png\n3 4 1.5", r"images\.txt: line 2, .*no whole number"),
        ("images", "1 1 0 0 0 0 0 4 1 a.png\n3 4 1e30", r"images\.txt: line 2, .*no whole number"),
        ("points3D", "1 0 0 0 1 2 300 1 1 0", r"points3D\.txt: line 1, "),
        ("points3D", "1 0 0 0 1 2", r"points3D\.txt: line 1, .*6 words"),
        ("points3D", "-1 0 0 0 1 2 3 1", r"points3D\.txt: line 1, "),
        ("points3D", "99999999999999999999999 0 0 0 1 2 3 1", r"points3D\.txt: line 1, "),
        ("rigs", "1 2000000000 CAMERA 1", r"rigs\.txt: line 1, "),
        ("frames", "1 1 1 0 0 0 0 0 4 7 CAMERA 1 1", r"frames\.txt: line 1, .*7 images"),
    ],
)
def test_damaged_text(tmp_path, stem, line, said) -> None:
    make_model(tmp_path, text=True)
    (tmp_path / f"sparse/0/{stem}.txt").write_text(line + "\n")
    with pytest.raises(InputError, match=said):
        load_scene(tmp_path)


def test_text_without_lines_of_keypoints(tmp_path) -> None:
    """Some programs leave empty second lines out; and a byte order mark at the start does no harm."""
    make_model(tmp_path, text=True)
    path = tmp_path / "sparse/0/images.txt"
    lines = [line for line in path.read_text().splitlines() if line.startswith("#") or line.split()[-1].endswith("png")]
    path.write_text("\ufeff" + "\n".join(lines[4:]))
    assert len(load_scene(tmp_path).views) == 9


def test_entries_announced_but_missing_are_noted(tmp_path) -> None:
    make_model(tmp_path, text=True)
    path = tmp_path / "sparse/0/points3D.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-10]))
    assert "points3D.txt announces 60 entries but holds 50" in load_scene(tmp_path).notes


def test_a_long_line_takes_little_memory(tmp_path) -> None:
    make_model(tmp_path, text=True)
    path = tmp_path / "sparse/0/images.txt"
    path.write_text("1 1 0 0 0 0 0 4 1 a.png\n" + "1.25 7.5 -1 " * 300_000)
    tracemalloc.start()
    model = read_model(tmp_path / "sparse/0")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(model.images[0].xy) == 300_000 and peak < 8 * path.stat().st_size


def test_an_undistorted_image_out_of_all_proportion(tmp_path) -> None:
    """A lens that squeezes ±60° into the photo would make a picture of more than three times its sides."""
    make_model(tmp_path, "FOV", params=[150, 150, 80, 60, 3.1], points=3)
    assert "a FOV camera" in refusal(tmp_path)


def test_pipes_and_devices_as_model_files(tmp_path) -> None:
    import os

    make_model(tmp_path)
    path = tmp_path / "sparse/0/points3D.bin"
    path.unlink()
    os.mkfifo(path)
    assert "points3D.bin is a pipe" in refusal(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "points3D.bin is a device" in refusal(tmp_path)


def test_names_of_photos_are_printed_escaped(tmp_path, capsys) -> None:
    from splat.cli import main

    names = [f"[/{k}\x1b[31m].png" for k in range(9)]
    make_model(tmp_path, names=names)
    assert main(["info", str(tmp_path)]) == 0
    (tmp_path / "images" / names[3]).unlink()
    assert main(["info", str(tmp_path)]) == 0
    assert r"is not there ([/3\x1b[31m].png)" in load_scene(tmp_path).notes[0]
    said = capsys.readouterr()
    assert "\x1b[31m" not in said.out + said.err and r"[/3\x1b[31m].png" in said.out.replace("\n", "")
    PIL.Image.new("RGB", (7, 7)).save(tmp_path / "images" / names[3])
    assert main(["info", str(tmp_path)]) == 2 and "[/3\\x1b[31m].png" in capsys.readouterr().err
