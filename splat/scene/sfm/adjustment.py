"""Bundle adjustment of given cameras: points are triangulated from matches of the photos, then all is refined together.

The result is in the frame and at the scale of the cameras that were given.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from splat.machine import usable_cores
from splat.scene.colmap_library import pycolmap
from splat.scene.sfm.reconstruct import quiet

# Thresholds of the rounds: angle within which points are triangulated, degrees; reprojection error beyond which
# observations are left out, fraction of the longer side. The first suits cameras that are off by degrees.
_ROUNDS = ((8.0, 0.08), (2.0, 0.01), (1.0, 0.004))
_LOSS_SCALES = (0.01, 0.002, 0.001)  # of the robust loss (Cauchy), fraction of the longer side
_SHARING = 3  # photos that must share a lens before its focal length is refined; fewer leave it open
_FEWEST_OBSERVATIONS = 20  # of a photo; with fewer it stays as it was given
_FARTHEST_TURN, _FARTHEST_MOVE, _FARTHEST_FOCAL = 10.0, 0.3, 0.3  # degrees; fractions of the extent and focal length
_LEAST_GAIN = 0.95  # the error must fall below this fraction of what it was


@dataclass(frozen=True, eq=False)
class GivenCamera:
    """Pose and lens of a photo.

    Attributes:
        world_to_camera: (4, 4) float64.
        params: fx, fy, cx, cy in pixels of the photo as stored.
    """

    world_to_camera: np.ndarray
    params: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Adjustment:
    """What bundle adjustment made of given cameras.

    Attributes:
        cameras: of the photos that were adjusted, by name; the others stay as they were given.
        before, after: median distance of matches from where the cameras want them (Sampson's approximation of the
            reprojection error), pixels, over the same verified matches.
        points: triangulated points.
        objection: why the result should not be used, in words; empty where it should.
    """

    cameras: dict[str, GivenCamera]
    before: float
    after: float
    points: int
    objection: str = ""


def adjust(work: Path, database: Path, given: Mapping[str, GivenCamera]) -> Adjustment:
    """Refine the cameras ``given`` of the images in ``database``, by their names there.

    The focal length that several images share, by their camera in the database, is refined as one; the matches stay as
    they are.
    """
    before = match_error(database, given)
    with quiet():
        model = _with_given_poses(database, given)
    if len(model.images) < 2 or not np.isfinite(before):
        return Adjustment({}, before, before, 0, "the photos share too few matches")
    longer = max(max(camera.width, camera.height) for camera in model.cameras.values())
    output = work / "adjusted"
    output.mkdir(exist_ok=True)
    for (angle, reach), scale in zip(_ROUNDS, _LOSS_SCALES, strict=True):
        options = _triangulation(angle, reach * longer)
        with quiet():
            model = pycolmap.triangulate_points(model, database, work / "images", output, True, options)
            if model.num_points3D() < _FEWEST_OBSERVATIONS:
                return Adjustment({}, before, before, model.num_points3D(), "too few points could be triangulated")
            _refine(model, scale * longer)
    found = _in_the_given_frame(_solved(model), given)
    after = match_error(database, {**given, **found})
    return Adjustment(found, before, after, model.num_points3D(), _objection(found, given, before, after))


def _with_given_poses(database: Path, given: Mapping[str, GivenCamera]) -> pycolmap.Reconstruction:
    """A model of the images of ``database`` that match others, at their given poses; the database's cameras become
    those given, too."""
    with pycolmap.Database.open(database) as opened:
        for image in opened.read_all_images():
            camera = opened.read_camera(image.camera_id)
            camera.model, camera.params = pycolmap.CameraModelId.PINHOLE, given[image.name].params
            camera.has_prior_focal_length = True
            opened.update_camera(camera)
        cache = pycolmap.DatabaseCache.create(opened, pycolmap.DatabaseCacheOptions())
    model = pycolmap.Reconstruction()
    model.load(cache)
    for image in model.images.values():
        pose = pycolmap.Rigid3d(given[image.name].world_to_camera[:3])
        model.frame(image.frame_id).set_cam_from_world(image.camera_id, pose)
        model.register_frame(image.frame_id)
    return model


def _triangulation(angle: float, reach: float) -> pycolmap.IncrementalPipelineOptions:
    options = pycolmap.IncrementalPipelineOptions()
    options.num_threads, options.random_seed, options.extract_colors = usable_cores(), 0, False
    options.triangulation.random_seed = options.mapper.random_seed = 0
    options.triangulation.create_max_angle_error = options.triangulation.continue_max_angle_error = angle
    options.triangulation.merge_max_reproj_error = options.triangulation.complete_max_reproj_error = reach
    options.triangulation.ignore_two_view_tracks = False
    options.mapper.filter_max_reproj_error = reach
    return options


def _refine(model: pycolmap.Reconstruction, scale: float) -> None:
    """Bundle adjustment in place. pycolmap.bundle_adjustment would do, but it always prints."""
    options = pycolmap.BundleAdjustmentOptions()
    options.refine_principal_point = options.refine_extra_params = False
    options.min_track_length = 2
    options.ceres.use_gpu = False
    options.ceres.loss_function_type, options.ceres.loss_function_scale = pycolmap.LossFunctionType.CAUCHY, scale
    options.ceres.solver_options.num_threads = usable_cores()
    config = pycolmap.BundleAdjustmentConfig()
    for image_id in model.images:
        config.add_image(image_id)
    for camera_id in model.cameras:
        if sum(image.camera_id == camera_id for image in model.images.values()) < _SHARING:
            config.set_constant_cam_intrinsics(camera_id)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    pycolmap.create_default_bundle_adjuster(options, config, model).solve()


def _solved(model: pycolmap.Reconstruction) -> dict[str, GivenCamera]:
    """The cameras of the images of ``model`` that see enough points."""
    found = {}
    for image in model.images.values():
        if not image.has_pose or image.num_points3D < _FEWEST_OBSERVATIONS:
            continue
        pose = np.eye(4)
        pose[:3] = image.cam_from_world().matrix()
        found[image.name] = GivenCamera(pose, tuple(map(float, model.cameras[image.camera_id].params)))
    return found


def _in_the_given_frame(found: dict[str, GivenCamera], given: Mapping[str, GivenCamera]) -> dict[str, GivenCamera]:
    """``found`` moved by the similarity that brings its cameras onto those given: the rotation from the rotations, so
    that two cameras or some in a row suffice, scale and translation from the places."""
    if len(found) < 2:
        return found
    before = np.stack([given[name].world_to_camera for name in found])
    after = np.stack([camera.world_to_camera for camera in found.values()])
    u, _, vt = np.linalg.svd(np.einsum("nji,njk->ik", before[:, :3, :3], after[:, :3, :3]))
    turn = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt  # given world from found world
    there, here = _centres(before), _centres(after) @ turn.T
    spread_there, spread_here = there - there.mean(0), here - here.mean(0)
    scale = float((spread_there * spread_here).sum() / max((spread_here**2).sum(), 1e-300))
    if scale <= 0:
        return found
    moved = {}
    for (name, camera), centre in zip(found.items(), scale * spread_here + there.mean(0), strict=True):
        pose = np.eye(4)
        pose[:3, :3] = camera.world_to_camera[:3, :3] @ turn.T
        pose[:3, 3] = -pose[:3, :3] @ centre
        moved[name] = GivenCamera(pose, camera.params)
    return moved


def _centres(poses: np.ndarray) -> np.ndarray:
    return -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])


def _objection(found: dict[str, GivenCamera], given: Mapping[str, GivenCamera], before: float, after: float) -> str:
    """Why the cameras ``found`` should not take the place of those ``given``; empty if they should."""
    if len(found) < 2:
        return "the photos share too few matches"
    if not after < _LEAST_GAIN * before:
        return f"the error of the matches would go from {before:.2f} to {after:.2f} pixels"
    old = np.stack([given[name].world_to_camera for name in found])
    new = np.stack([camera.world_to_camera for camera in found.values()])
    cosines = (np.einsum("nij,nij->n", old[:, :3, :3], new[:, :3, :3]) - 1) / 2
    turns = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    everywhere = _centres(np.stack([camera.world_to_camera for camera in given.values()]))
    extent = np.linalg.norm(everywhere - everywhere.mean(0), axis=1).max()
    moves = np.linalg.norm(_centres(new) - _centres(old), axis=1) / max(extent, 1e-300)
    focals = np.array([abs(camera.params[0] / given[name].params[0] - 1) for name, camera in found.items()])
    for values, limit, words in (
        (turns, _FARTHEST_TURN, "be turned by {:.0f}°"),
        (moves, _FARTHEST_MOVE, "move by {:.0%} of the cameras' extent"),
        (focals, _FARTHEST_FOCAL, "change its focal length by {:.0%}"),
    ):
        if not values.max() <= limit:
            return f"{list(found)[int(values.argmax())]} would {words.format(values.max())}"
    return ""


def match_error(database: Path, cameras: Mapping[str, GivenCamera]) -> float:
    """Median Sampson distance of all verified matches in ``database`` under ``cameras``, pixels; NaN without any."""
    with pycolmap.Database.open(database) as opened:
        images = {image.image_id: image.name for image in opened.read_all_images()}
        keypoints = {key: np.asarray(opened.read_keypoints(key), np.float64)[:, :2] for key in images}
        pair_ids, geometries = opened.read_two_view_geometries()
    errors = [np.zeros(0)]
    for pair_id, geometry in zip(pair_ids, geometries, strict=True):
        first, second = pair_id if isinstance(pair_id, tuple) else pycolmap.pair_id_to_image_pair(pair_id)
        rows = np.asarray(geometry.inlier_matches)
        if len(rows):
            a, b = keypoints[first][rows[:, 0]], keypoints[second][rows[:, 1]]
            errors.append(sampson(a, b, cameras[images[first]], cameras[images[second]]))
    together = np.concatenate(errors)
    return float(np.median(together)) if len(together) else float("nan")


def sampson(a: np.ndarray, b: np.ndarray, first: GivenCamera, second: GivenCamera) -> np.ndarray:
    """(M,) distances, pixels, of the matches ``a`` and ``b`` (M, 2) from the epipolar geometry of the two cameras
    (Hartley & Zisserman, "Multiple View Geometry", eq. 11.9)."""
    relative = second.world_to_camera @ np.linalg.inv(first.world_to_camera)
    x, y, z = relative[:3, 3]
    essential = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]]) @ relative[:3, :3]
    inverses = [np.linalg.inv(_matrix(camera.params)) for camera in (first, second)]
    fundamental = inverses[1].T @ essential @ inverses[0]
    p, q = (np.concatenate([xy, np.ones((len(xy), 1))], 1) for xy in (a, b))
    lines, other_lines = p @ fundamental.T, q @ fundamental
    slope = (lines[:, :2] ** 2).sum(1) + (other_lines[:, :2] ** 2).sum(1)
    return np.abs((q * lines).sum(1)) / np.sqrt(np.maximum(slope, 1e-300))


def _matrix(params: tuple[float, float, float, float]) -> np.ndarray:
    fx, fy, cx, cy = params
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
