"""Bundle adjustment of given cameras: against truth, in the frame that was given, and refused where it runs away."""

import dataclasses
from pathlib import Path

import numpy as np
import pycolmap
import pytest
from scipy.spatial.transform import Rotation

from splat.scene.sfm import adjustment
from splat.scene.sfm.adjustment import GivenCamera, adjust, match_error, sampson
from splat.scene.sfm.reconstruct import quiet

PARAMS = (1000.0, 1000.0, 512.0, 384.0)


def made(work: Path, photos: int = 6, match_ratio: float = 1.0) -> dict[str, GivenCamera]:
    """A database in ``work`` with matches of half a pixel of noise; returns the true cameras, at a scale of 10."""
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_frames_per_rig=photos, num_points3D=150, camera_model_id=pycolmap.CameraModelId.PINHOLE,
        camera_params=PARAMS, camera_has_prior_focal_length=True, inlier_match_ratio=match_ratio,
    )  # fmt: skip
    pycolmap.set_random_seed(0)
    (work / "images").mkdir()
    with quiet(), pycolmap.Database.open(work / "database.db") as database:
        truth = pycolmap.synthesize_dataset(options, database)
        pycolmap.synthesize_noise(pycolmap.SyntheticNoiseOptions(point2D_stddev=0.5), truth, database)
    cameras = {}
    for image in truth.images.values():
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().matrix()
        pose[:3, 3] *= 10
        cameras[image.name] = GivenCamera(pose, PARAMS)
    return cameras


def disturbed(cameras: dict[str, GivenCamera], degrees: float, fraction: float) -> dict[str, GivenCamera]:
    """Each camera turned by so much, moved by ``fraction`` of their extent, its focal length longer by as much."""
    rng, result = np.random.default_rng(1), {}
    centres = [-c.world_to_camera[:3, :3].T @ c.world_to_camera[:3, 3] for c in cameras.values()]
    extent = np.linalg.norm(centres - np.mean(centres, 0), axis=1).max()
    for (name, camera), centre in zip(cameras.items(), centres, strict=True):
        axis, aside = (v / np.linalg.norm(v) for v in rng.normal(size=(2, 3)))
        pose = np.eye(4)
        pose[:3, :3] = Rotation.from_rotvec(np.radians(degrees) * axis).as_matrix() @ camera.world_to_camera[:3, :3]
        pose[:3, 3] = -pose[:3, :3] @ (centre + fraction * extent * aside)
        result[name] = GivenCamera(pose, ((1 + fraction) * PARAMS[0], (1 + fraction) * PARAMS[1], *PARAMS[2:]))
    return result


def angles(cameras: dict[str, GivenCamera], others: dict[str, GivenCamera]) -> np.ndarray:
    """Degrees between the rotations of the same photo in both, absolute: no frame is aligned."""
    turns = [
        camera.world_to_camera[:3, :3] @ others[name].world_to_camera[:3, :3].T for name, camera in cameras.items()
    ]
    return np.degrees(Rotation.from_matrix(turns).magnitude())


def test_a_degree_and_two_per_cent_are_taken_out(tmp_path) -> None:
    truth = made(tmp_path)
    given = disturbed(truth, 1.0, 0.02)
    result = adjust(tmp_path, tmp_path / "database.db", given)
    floor = match_error(tmp_path / "database.db", truth)
    assert result.objection == "" and set(result.cameras) == set(given) and result.points > 100
    assert result.before == match_error(tmp_path / "database.db", given) > 5
    assert result.after < 1.1 * floor < 0.5 * result.before
    # One rotation of the whole frame is free: it is the mean of the errors given, a fraction of a degree.
    relative = [
        {name: GivenCamera(c.world_to_camera @ np.linalg.inv(first), PARAMS) for name, c in cameras.items()}
        for cameras in (result.cameras, given, truth)
        for first in [next(iter(cameras.values())).world_to_camera]
    ]
    assert angles(relative[0], relative[2]).max() < 0.1 * angles(relative[1], relative[2]).max()
    assert angles(result.cameras, truth).max() < 1.0
    scale = [np.linalg.norm(cameras["x"] - cameras["y"]) for cameras in map(two_centres, (result.cameras, truth))]
    assert scale[0] == pytest.approx(scale[1], rel=0.03)
    focals = {camera.params[0] for camera in result.cameras.values()}
    assert len(focals) == 1 and focals.pop() == pytest.approx(1000, rel=2e-3)


def two_centres(cameras: dict[str, GivenCamera]) -> dict[str, np.ndarray]:
    names = sorted(cameras)
    return {
        key: -cameras[name].world_to_camera[:3, :3].T @ cameras[name].world_to_camera[:3, 3]
        for key, name in (("x", names[0]), ("y", names[3]))
    }


def test_two_photos_keep_their_focal_length(tmp_path) -> None:
    given = disturbed(made(tmp_path, photos=2), 1.0, 0.02)
    result = adjust(tmp_path, tmp_path / "database.db", given)
    assert result.objection == "" and result.after < 0.5 * result.before
    assert {camera.params for camera in result.cameras.values()} == {(1020.0, 1020.0, 512.0, 384.0)}


def test_true_cameras_are_left_alone(tmp_path) -> None:
    result = adjust(tmp_path, tmp_path / "database.db", made(tmp_path))
    assert result.objection == "" or "the error of the matches would go from" in result.objection
    if not result.objection:
        assert result.after < 0.95 * result.before


def test_photos_without_matches(tmp_path) -> None:
    cameras = made(tmp_path)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        database.clear_matches()
        database.clear_two_view_geometries()
    result = adjust(tmp_path, tmp_path / "database.db", cameras)
    assert "too few matches" in result.objection and result.cameras == {}


@pytest.mark.parametrize(
    ("degrees", "move", "focal", "words"),
    [
        (0.0, 0.0, 1.0, ""),
        (9.0, 0.0, 1.0, ""),
        (11.0, 0.0, 1.0, "b would be turned by 11°"),
        (0.0, 0.4, 1.0, "b would move by 40%"),
        (0.0, 0.0, 1.4, "b would change its focal length by 40%"),
    ],
)
def test_what_runs_away_is_refused(degrees: float, move: float, focal: float, words: str) -> None:
    given = {}
    for name, x in (("a", -1.0), ("b", 1.0), ("c", 0.0)):
        pose = np.eye(4)
        pose[0, 3] = -x
        given[name] = GivenCamera(pose, PARAMS)
    turn = Rotation.from_rotvec([0, np.radians(degrees), 0]).as_matrix()
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = turn, -turn @ [1.0, move, 0.0]
    moved = given | {"b": dataclasses.replace(given["b"], world_to_camera=pose, params=(focal * 1000, *PARAMS[1:]))}
    found = adjustment._objection(moved, given, 2.0, 1.0)
    assert found.startswith(words) and bool(found) == bool(words)
    assert "from 2.00 to 1.95" in adjustment._objection(given, given, 2.0, 1.95)
    assert adjustment._objection(given, given, 2.0, float("nan")) != ""


def test_sampson_distance_is_that_of_the_epipolar_line_for_parallel_cameras() -> None:
    """Side by side, epipolar lines are rows: a match two rows off is √2·2/2 from fitting, by moving both by one."""
    left, right = np.eye(4), np.eye(4)
    right[0, 3] = -1.0
    a, b = np.array([[500.0, 300.0], [100.0, 50.0]]), np.array([[420.0, 302.0], [90.0, 50.0]])
    found = sampson(a, b, GivenCamera(left, PARAMS), GivenCamera(right, PARAMS))
    np.testing.assert_allclose(found, [np.sqrt(2.0), 0.0], atol=1e-9)
