"""Bare panoramas: recognised, registered as rigs against known poses, and refused in one sentence."""

import numpy as np
import PIL.Image
import PIL.PngImagePlugin
import pytest
import torch
from support.textured_room import ray_cast, walls

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.images import ImageHeader
from splat.scene.sfm.panoramas import panoramas_among, rig_of
from splat.scene.undistort import spherical
from splat.scene.wide_lens import bearings, project

LENS = spherical("EQUIRECTANGULAR", 512, 256)


def panorama(room: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """(256, 512, 3) uint8 of the room all around."""
    return ray_cast(room, pose, (512, 256), lambda xy: bearings(LENS, xy))


def poses(count: int) -> list[np.ndarray]:
    """Upright cameras on a curve through the room, each turned another way."""
    found = []
    for k in range(count):
        turn = 0.9 * k
        pose = np.eye(4)
        pose[:3, :3] = [[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]]
        pose[:3, 3] = -pose[:3, :3] @ np.array([0.35 * k - 0.5, 0.1 * (k % 2), 0.25 * np.sin(k)])
        found.append(pose)
    return found


@pytest.mark.slow
def test_panoramas_get_their_poses(tmp_path) -> None:
    room, truth = walls(), poses(4)
    for k, pose in enumerate(truth):
        PIL.Image.fromarray(panorama(room, pose)).save(tmp_path / f"{k}.jpg", quality=95)
    PIL.Image.new("RGB", (64, 48)).save(tmp_path / "other.jpg")
    scene = load_scene(tmp_path, progress=False)
    assert scene.kind == "photos" and len(scene.views) == 24
    assert "4 photos are panoramas" in scene.notes[0] and scene.notes[1].startswith("1 other photos")
    assert "placed 4 of 4 photos" in scene.notes[2]
    found = [view.camera.world_to_camera.numpy() for view in scene.views if view.name.endswith("front.jpg")]
    # The frame is free: compare the poses relative to the first, at the scale of the truth.
    centre = lambda pose: -pose[:3, :3].T @ pose[:3, 3]  # noqa: E731
    scale = np.linalg.norm(centre(truth[3]) - centre(truth[0])) / np.linalg.norm(centre(found[3]) - centre(found[0]))
    for k in (1, 2, 3):
        a, b = found[k] @ np.linalg.inv(found[0]), truth[k] @ np.linalg.inv(truth[0])
        assert np.linalg.norm(a[:3, :3] - b[:3, :3]) < 0.01
        assert np.linalg.norm(scale * a[:3, 3] - b[:3, 3]) < 0.02
    errors = []
    for view in scene.views:
        ids, xy = view.keypoints()
        errors.append((view.camera.project(scene.points.xyz[ids])[0] - xy).norm(dim=1))
    assert torch.cat(errors).median() < 0.5 and len(torch.cat(errors)) > 500


def test_what_is_taken_for_a_panorama(tmp_path) -> None:
    closed = panorama(walls(), poses(1)[0])
    slope = np.repeat(np.linspace(0, 255, 512).astype(np.uint8)[None, :, None], 256, 0).repeat(3, 2)
    PIL.Image.fromarray(closed).save(tmp_path / "closed.png")
    PIL.Image.fromarray(slope).save(tmp_path / "slope.png")
    PIL.Image.fromarray(slope).save(tmp_path / "said.jpg", xmp=b'<GPano:ProjectionType="equirectangular">')
    wide, other = ImageHeader(512, 256, 1, False), ImageHeader(512, 384, 1, False)
    assert panoramas_among(tmp_path, ["closed.png"], [wide]) == ["closed.png"]
    assert panoramas_among(tmp_path, ["said.jpg"], [wide]) == ["said.jpg"]
    assert panoramas_among(tmp_path, ["slope.png"], [wide]) == []
    assert panoramas_among(tmp_path, ["closed.png"], [other]) == []


def test_the_views_of_a_panorama_cover_its_horizon() -> None:
    rig = rig_of(LENS)
    assert all(np.allclose(r @ r.T, np.eye(3)) and np.linalg.det(r) > 0 for r in rig.rotations)
    y, x = np.mgrid[0.28:0.72:20j, 0:1:60j]
    towards = bearings(LENS, np.stack([512 * x, 256 * y], -1).reshape(-1, 2))
    times = np.zeros(len(towards), int)
    for rotation in rig.rotations:
        local = towards @ rotation.T
        xy = rig.pinhole.fx * local[:, :2] / local[:, 2:] + rig.pinhole.cx
        times += (local[:, 2] > 0) & (xy > 0).all(1) & (xy < rig.pinhole.width).all(1)
    assert times.min() >= 1 and rig.pinhole.width == 162
    assert project(LENS, np.array([[0.0, 0.0, 1.0]])).tolist() == [[256, 128]]


def test_panoramas_that_do_not_fit_together(tmp_path) -> None:
    rng = np.random.default_rng(0)
    for k in range(3):
        small = rng.integers(0, 255, (16, 32, 3), dtype=np.uint8)
        small[:, -4:] = small[:, :4][:, ::-1]
        PIL.Image.fromarray(small).resize((256, 128), PIL.Image.Resampling.BICUBIC).save(tmp_path / f"{k}.png")
    with pytest.raises(InputError, match=r"3 photos in .* are panoramas.*could be placed; take more panoramas"):
        load_scene(tmp_path, progress=False)
