"""Poses of a network that are off: found again by bundle adjustment of the photos, as `splat train` asks for it."""

import dataclasses
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy.spatial.transform import Rotation
from support.textured_room import FOCAL, SIZE, photo, poses, walls

from splat.cli.train import Train, _with_pose_refinement
from splat.priors.points import feed_forward
from splat.priors.points.feed_forward import Reconstruction
from splat.scene.build import LoadOptions
from splat.training.config.config import TrainConfig

TURNED = 2  # this photo is stored a quarter turn off, and its EXIF data says so


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> tuple[Path, list[np.ndarray]]:
    folder, truth = tmp_path_factory.mktemp("room"), poses(5)
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    for k, pose in enumerate(truth):
        image = PIL.Image.fromarray(photo(walls(), pose))
        if k == TURNED:
            image.transpose(PIL.Image.Transpose.ROTATE_90).save(folder / f"{k}.jpg", quality=95, exif=exif)
        else:
            image.save(folder / f"{k}.jpg", quality=95)
    return folder, truth


def network(truth: list[np.ndarray], degrees: float, fraction: float):
    """A hook that returns the true cameras, turned by so much, moved and magnified by ``fraction``, at half size."""

    def reconstruct(paths) -> Reconstruction:
        rng, given = np.random.default_rng(3), []
        centres = np.stack([-pose[:3, :3].T @ pose[:3, 3] for pose in truth])
        extent = np.linalg.norm(centres - centres.mean(0), axis=1).max()
        for pose, centre in zip(truth, centres, strict=True):
            axis, aside = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
            wrong = np.eye(4)
            wrong[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix() @ pose[:3, :3]
            wrong[:3, 3] = -wrong[:3, :3] @ (centre + fraction * extent * aside)
            given.append(wrong)
        f = (1 + fraction) * FOCAL / 2
        k = np.array([[f, 0, SIZE[0] / 4], [0, f, SIZE[1] / 4], [0, 0, 1]])
        points = rng.uniform(-2, 2, (200, 3))
        return Reconstruction(
            np.stack(given), np.tile(k, (len(paths), 1, 1)), np.tile([SIZE[0] / 2, SIZE[1] / 2], (len(paths), 1)),
            points, np.zeros((200, 3), np.uint8), np.ones(200, np.float32),
        )  # fmt: skip

    return reconstruct


def relative(found: list[np.ndarray]) -> list[np.ndarray]:
    return [pose @ np.linalg.inv(found[0]) for pose in found[1:]]


def errors(found: list[np.ndarray], truth: list[np.ndarray]) -> np.ndarray:
    """Degrees between the rotations relative to the first photo."""
    pairs = zip(relative(found), relative(truth), strict=True)
    return np.degrees(Rotation.from_matrix([a[:3, :3] @ b[:3, :3].T for a, b in pairs]).magnitude())


def test_the_error_of_a_degree_falls_by_more_than_half(room) -> None:
    folder, truth = room
    hook = network(truth, 1.0, 0.02)
    scene = feed_forward.load(folder, hook, LoadOptions(), progress=False)
    note = scene.notes[1]
    assert note.startswith("bundle adjustment refined 5 of 5 poses by ")
    before, after = (float(word) for word in note.split("from ")[1].removesuffix(" pixels").split(" to "))
    assert after < 0.5 * before
    found = [view.camera.world_to_camera.double().numpy() for view in scene.views]
    given = list(hook(scene.views).world_to_camera)
    assert errors(found, truth).max() < 0.25 * errors(given, truth).max()
    assert {(view.camera.width, view.camera.height) for view in scene.views} == {SIZE}
    # The photo stored turned is alone with its lens, so that its focal length stays as given.
    focals = [view.camera.fx / FOCAL for view in scene.views]
    assert focals.pop(TURNED) == pytest.approx(1.02) and focals == pytest.approx([1.0] * 4, abs=0.01)
    assert not (folder / ".splat").exists()


def test_photos_that_share_nothing_keep_their_poses(tmp_path) -> None:
    rng, truth = np.random.default_rng(0), poses(3)
    for k in range(3):
        noise = PIL.Image.fromarray(rng.integers(0, 255, (24, 32, 3), dtype=np.uint8))
        noise.resize(SIZE, PIL.Image.Resampling.BICUBIC).save(tmp_path / f"{k}.png")
    PIL.Image.new("L", SIZE, 255).save(tmp_path / "1_mask.png")
    scene = feed_forward.load(tmp_path, network(truth, 0.0, 0.0), LoadOptions(), progress=False)
    assert scene.notes[1].startswith("bundle adjustment was not used: ")
    for view, pose in zip(scene.views, truth, strict=True):
        np.testing.assert_allclose(view.camera.world_to_camera, pose, atol=1e-6)
    assert [view.source.has_mask for view in scene.views] == [False, True, False]


def test_poses_of_a_network_are_refined_unless_switched_off() -> None:
    plain = TrainConfig()
    hooked = dataclasses.replace(plain, priors=dataclasses.replace(plain.priors, reconstruct="mine:run"))
    options, notes = _with_pose_refinement(Train(config=hooked), set())
    assert options.config.pose.refine and "--pose.no-refine keeps them" in notes[0]
    for command, given in (
        (Train(config=hooked), {"--pose.no-refine"}),
        (Train(config=plain), set()),
        (Train(config=hooked, resume=True), set()),
    ):
        assert _with_pose_refinement(command, given) == (command, [])
