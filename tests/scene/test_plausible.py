"""Scenes that read well but cannot be right: each kind is said in a sentence, and sound scenes give none."""

import numpy as np
import pytest
from support.json_scenes import described, ply, write
from support.scene_models import make_model, ring_poses

from splat.scene import load_scene
from splat.scene.plausible import sight


def model_with(root, poses=None, points=None) -> None:
    """A text model whose poses, or points, were changed after the keypoints were measured."""
    make_model(root, text=True)
    for stem in ("rigs", "frames"):
        (root / f"sparse/0/{stem}.txt").unlink()
    if poses is not None:
        import pycolmap

        path = root / "sparse/0/images.txt"
        lines = path.read_text().splitlines()
        heads = [i for i, line in enumerate(lines) if line.endswith(".png")]
        for at, pose in zip(heads, poses, strict=True):
            words, rigid = lines[at].split(), pycolmap.Rigid3d(pose[:3])
            x, y, z, w = rigid.rotation.quat
            lines[at] = " ".join(map(str, [words[0], w, x, y, z, *rigid.translation, *words[8:]]))
        path.write_text("\n".join(lines) + "\n")
    if points is not None:
        path = root / "sparse/0/points3D.txt"
        lines = path.read_text().splitlines()
        for at, line in enumerate(lines):
            if not line.startswith("#"):
                words = line.split()
                lines[at] = " ".join([words[0], *map(str, points(np.array(words[1:4], float))), *words[4:]])
        path.write_text("\n".join(lines) + "\n")


def test_a_sound_scene_has_no_doubts(tmp_path) -> None:
    model_with(tmp_path, ring_poses(9), lambda p: p)
    assert load_scene(tmp_path).notes == ()


def test_keypoints_elsewhere(tmp_path) -> None:
    """The poses of one model with the points of another."""
    swap = np.array([[0, 1, 0], [1, 0, 0], [0, 0, -1.0]])
    model_with(tmp_path, points=lambda p: swap @ p)
    note = load_scene(tmp_path).notes[-1]
    assert "pixels away from where they were measured" in note
    away = float(note.split("median of ")[1].split()[0])
    assert 10 < away < 60


def test_keypoints_a_little_off_are_no_doubt(tmp_path) -> None:
    model_with(tmp_path, points=lambda p: p + 0.02)
    assert load_scene(tmp_path).notes == ()


def test_all_points_behind(tmp_path) -> None:
    """Poses with the axes of another program."""
    model_with(tmp_path, [np.diag([1, -1, -1, 1.0]) @ pose for pose in ring_poses(9)])
    notes = " ".join(load_scene(tmp_path).notes)
    assert "100% of the points are behind every camera" in notes and "not where they were measured" in notes


def test_points_out_of_sight(tmp_path) -> None:
    xyz = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 3))
    xyz[5:] += [0, 40, 30]
    write(tmp_path, described(tmp_path))
    ply(tmp_path / "sparse_pc.ply", xyz, np.zeros((50, 3)), "uchar", ("red", "green", "blue"))
    scene = load_scene(tmp_path)
    assert len(scene.points) == 50 and "only 10% of the points are in sight" in scene.notes[-1]


@pytest.mark.parametrize("scale, said", [(1e-4, "in different units"), (1.0, None)])
def test_points_in_other_units(tmp_path, scale: float, said: str | None) -> None:
    """Metres beside millimetres."""
    xyz = np.random.default_rng(0).uniform(-0.4, 0.4, (50, 3)) * scale
    write(tmp_path, described(tmp_path))
    ply(tmp_path / "sparse_pc.ply", xyz, np.zeros((50, 3)), "uchar", ("red", "green", "blue"))
    notes = load_scene(tmp_path).notes
    assert said in notes[-1] if said else not notes


def test_cameras_almost_in_one_place(tmp_path) -> None:
    poses = ring_poses(9)
    for k, pose in enumerate(poses):
        pose[:3, :3] = poses[0][:3, :3]
        pose[:3, 3] = -pose[:3, :3] @ np.array([4 + 1e-3 * k / 9, 0, 1])
    write(tmp_path, described(tmp_path, poses))
    assert "nothing fixes depth" in load_scene(tmp_path).notes[-1]


def test_sight() -> None:
    """One camera at the origin: what is before it, beside its picture, and behind it."""
    xyz = np.array([[0, 0, 1.0], [0, 0, 100], [0.4, 0, 1], [0.6, 0, 1], [0, 0.6, 1], [0, 0, -1], [0, 0, -9], [9, 0, 1]])
    seen, behind = sight(np.eye(4)[None], np.array([[100.0, 100, 50, 50, 100, 100]]), xyz)
    assert seen == 3 / 8 and behind == 2 / 8
