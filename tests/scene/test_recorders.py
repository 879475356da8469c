"""Recordings of phones are read back: Polycam, Record3D and Stray Scanner."""

from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from support import exports
from support.exports import Truth, load, same, same_lens

from splat.scene.readers import record3d


@pytest.fixture(scope="module")
def scene() -> Truth:
    return exports.truth()


@pytest.mark.parametrize("corrected", [False, True])
def test_polycam(tmp_path: Path, scene: Truth, corrected: bool) -> None:
    exports.polycam(tmp_path, scene, corrected)
    same_poses = Truth(np.concatenate([np.zeros((100, 4, 4)), scene.poses]), scene.xyz, scene.rgb)
    for path in (tmp_path, tmp_path / "keyframes"):
        loaded = load(path)
        assert loaded.kind == "Polycam"
        same(loaded, same_poses, range(100, 108))
        same_lens(loaded)
        assert not loaded.points.measured
        assert any("ARKit" in note for note in loaded.notes) != corrected


def test_polycam_depth(tmp_path: Path, scene: Truth) -> None:
    """Its depth is found beside the photos, in millimetres."""
    exports.polycam(tmp_path, scene)
    (tmp_path / "keyframes/depth").mkdir()
    for index in range(8):
        PIL.Image.fromarray(np.full((12, 16), 4000, np.uint16)).save(tmp_path / f"keyframes/depth/10{index}.png")
    loaded = load(tmp_path)
    assert all(view.depth is not None and view.depth.unit == 1e-3 for view in loaded.views)


@pytest.mark.parametrize("each", [False, True])
def test_record3d(tmp_path: Path, scene: Truth, each: bool) -> None:
    exports.record3d(tmp_path, scene, each)
    loaded = load(tmp_path)
    assert loaded.kind == "Record3D"
    same(loaded, scene)
    same_lens(loaded)


@pytest.mark.parametrize("each", [False, True])
def test_stray_scanner(tmp_path: Path, scene: Truth, each: bool) -> None:
    exports.stray_scanner(tmp_path, scene, each)
    loaded = load(tmp_path)
    assert loaded.kind == "Stray Scanner"
    numbers = [int(view.name[6:12]) for view in loaded.views]
    round_and_round = Truth(np.concatenate([scene.poses] * 5), scene.xyz, scene.rgb)
    assert len(numbers) >= 24
    same(loaded, round_and_round, numbers)
    same_lens(loaded)
    rows = (tmp_path / "odometry.csv").read_text().splitlines()
    (tmp_path / "odometry.csv").write_text("\n".join(rows[:20]))
    with_less = load(tmp_path)
    assert any(
        f"{len(numbers) - len(with_less.views)} photos have no pose in odometry.csv" in n for n in with_less.notes
    )


def test_record3d_frames_counted_from_one(tmp_path: Path, scene: Truth) -> None:
    exports.record3d(tmp_path, scene)
    (tmp_path / "metadata").rename(tmp_path / "metadata.json")
    (tmp_path / "rgb").mkdir()
    for index in range(8):
        (tmp_path / f"rgbd/{index}.jpg").rename(tmp_path / f"rgb/frame_{index + 1:05}.jpg")
    (tmp_path / "rgbd").rmdir()
    loaded = load(tmp_path)
    order = sorted(view.name for view in loaded.views)
    assert order == [f"frame_{index + 1:05}.jpg" for index in range(8)]
    for view, pose in zip(loaded.views, scene.poses, strict=True):
        assert np.abs(view.camera.world_to_camera.double().numpy() - pose).max() < 1e-6


def test_record3d_takes_some_of_many_frames(tmp_path: Path, scene: Truth, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record3d, "_MOST", 20)
    exports.record3d(tmp_path, scene, count=50)
    (tmp_path / "rgbd/7.jpg").unlink()
    loaded = load(tmp_path)
    assert len(loaded.views) == 20
    assert any("20 of the 49 frames of the recording are used" in note for note in loaded.notes)
    assert any("1 of the 50 frames that metadata names are not there" in note for note in loaded.notes)


def test_polycam_corrected_cameras_of_plain_photos(tmp_path: Path, scene: Truth) -> None:
    exports.polycam(tmp_path, scene)
    (tmp_path / "keyframes/corrected_images").rename(tmp_path / "keyframes/images")
    assert len(load(tmp_path).views) == 8
