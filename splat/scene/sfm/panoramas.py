"""Structure from motion of bare panoramas: perspective views of each, registered as one rig, then put back together.

Features are found and matched in the views; the views of one panorama share its centre and differ by known rotations,
so that each panorama has one unknown pose (COLMAP's rigs). The model that comes out has panoramas as its images.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from splat.images import open_image
from splat.machine import usable_cores
from splat.scene.colmap_library import pycolmap
from splat.scene.faces import rotated_view
from splat.scene.images import ImageHeader, decode
from splat.scene.progress import Report
from splat.scene.sfm.pair_selection import choose_pairs, sample
from splat.scene.sfm.photo_preparation import SfmPhoto
from splat.scene.sfm.plausibility import Finding, supported_fraction
from splat.scene.sfm.reconstruct import CPU, MAX_SIDE, match_pairs, quiet
from splat.scene.undistort import SPHERICAL, Lens, Pinhole, spherical
from splat.scene.wide_lens import density, project

_VIEWS = 8  # of each panorama, around it; every other one looks up, the others down
_PITCH = 25.0  # degrees; with 90° of view they show all but what lies within 20° of the poles
_FEATURES = 2048  # a view
_ALL_PAIRS_UP_TO = 2000  # of views of different panoramas
_VOTES = 9  # pictures whose borders are looked at
_SEAM = 3.0  # how much more the first and last column may differ than two columns beside each other
_SUPPORTED = 0.7  # fraction of strongly matching pairs that must share points


@dataclass(frozen=True)
class Rig:
    """The views of a panorama: one pinhole for all, and rotations (3, 3) from the panorama's axes into each's."""

    pinhole: Pinhole
    rotations: tuple[np.ndarray, ...]


def panoramas_among(folder: Path, names: Sequence[str], headers: Sequence[ImageHeader]) -> list[str]:
    """Which of the photos are equirectangular panoramas: twice as wide as high, and said to be panoramas in their XMP
    data or alike at their left and right borders."""
    wide = [name for name, header in zip(names, headers, strict=True) if header.width == 2 * header.height]
    if not wide:
        return []
    asked = [wide[round(k * (len(wide) - 1) / max(1, _VOTES - 1))] for k in range(_VOTES)]
    votes = [_closes(folder / name) for name in dict.fromkeys(asked)]
    return wide if 2 * sum(votes) > len(votes) else []


def _closes(path: Path) -> bool:
    with open_image(path) as image:
        xmp = image.info.get("xmp", b"")
    if b"GPano" in (xmp.encode() if isinstance(xmp, str) else xmp):
        return True
    pixels = decode(path, turn=False, keep_alpha=False).astype(np.float32)
    beside = max(np.abs(pixels[:, k] - pixels[:, k + 1]).mean() for k in (0, -2))
    return float(np.abs(pixels[:, 0] - pixels[:, -1]).mean()) <= _SEAM * float(beside) + 2


def rig_of(lens: Lens) -> Rig:
    """The rig for panoramas of the size of ``lens``: as many pixels per degree as they have, within bounds."""
    side = 2 * min(round(density(lens)), MAX_SIDE // 2)
    rotations = []
    for k in range(_VIEWS):
        turn, tilt = 2 * np.pi * k / _VIEWS, np.radians(_PITCH if k % 2 else -_PITCH)
        yaw = np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
        pitch = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        rotations.append(pitch @ yaw)
    return Rig(Pinhole(side / 2, side / 2, side / 2, side / 2, side, side), tuple(rotations))


def reconstruct_panoramas(
    work: Path, photos: Sequence[SfmPhoto], report: Report
) -> tuple[pycolmap.Reconstruction, Finding] | None:
    """The best model of the panoramas ``work``/images and what is known about it; None if no two fit together.

    Images of the model carry the photos' aliases and have equirectangular cameras.
    """
    database, views = work / "database.db", work / "views"
    lenses = {photo.alias: spherical(SPHERICAL, photo.header.width, photo.header.height) for photo in photos}
    with quiet():
        rigs = _cut(work, photos, lenses, report)
        _extract(database, views, photos, lenses, rigs, report)
        _match(work, database, photos, report)
        options = pycolmap.IncrementalPipelineOptions()
        options.num_threads, options.random_seed, options.min_model_size = usable_cores(), 0, 3
        options.ba_refine_focal_length = options.ba_refine_extra_params = options.ba_refine_sensor_from_rig = False
        report("placing panoramas", 0.0)
        models = list(pycolmap.incremental_mapping(database, views, work, options).values())
        report("placing panoramas", 1.0)
        if not models:
            return None
        best = max(models, key=lambda model: (model.num_reg_frames(), model.compute_num_observations()))
        images = [image for image in best.images.values() if image.has_pose]
        supported = supported_fraction(images, database)
        model = _with_panoramas(best, lenses, rigs)
    doubts = [] if supported >= _SUPPORTED else [f"{1 - supported:.0%} of the views that match well share no point"]
    return model, Finding(
        len(model.images),
        model.num_points3D(),
        model.compute_num_observations(),
        best.compute_mean_reprojection_error(),
        supported,
        (360.0,),
        tuple(doubts),
    )


def _cut(work: Path, photos: Sequence[SfmPhoto], lenses: dict[str, Lens], report: Report) -> dict[Lens, Rig]:
    """Write the views, as ``views/<camera>/<photo>.jpg``; a mask of the panorama is cut alike."""
    rigs = {lens: rig_of(lens) for lens in lenses.values()}
    for number, photo in enumerate(photos):
        report("cutting panoramas", number / len(photos))
        lens, rig = lenses[photo.alias], rigs[lenses[photo.alias]]
        mask = work / "masks" / f"{photo.alias}.png"
        for top, path in (("views", work / "images" / photo.alias), ("view_masks", mask)):
            if not path.exists():
                continue
            pixels = decode(path, turn=False, keep_alpha=False)
            for camera, rotation in enumerate(rig.rotations):
                target = work / top / view_name(camera, photo.alias, lens)
                target = target if top == "views" else target.with_name(f"{target.name}.png")
                target.parent.mkdir(parents=True, exist_ok=True)
                picture = rotated_view(lens, rotation, rig.pinhole, pixels)
                Image.fromarray(picture).convert("RGB" if top == "views" else "L").save(target, quality=95)
    return rigs


def view_name(camera: int, alias: str, lens: Lens) -> str:
    """File name of a view: panoramas of one size share the folders, one for each virtual camera."""
    return f"{lens.width}_{camera}/{Path(alias).stem}.jpg"


def _extract(
    database: Path,
    views: Path,
    photos: Sequence[SfmPhoto],
    lenses: dict[str, Lens],
    rigs: dict[Lens, Rig],
    report: Report,
) -> None:
    """Features of all views, and the rigs they belong to, in a new database."""
    pycolmap.Database.open(database).close()  # makes the file
    reader = pycolmap.ImageReaderOptions()
    if (views.parent / "view_masks").is_dir():
        reader.mask_path = str(views.parent / "view_masks")
    reader.camera_model = "SIMPLE_PINHOLE"
    configs = []
    for lens, rig in rigs.items():
        reader.camera_params = f"{rig.pinhole.fx},{rig.pinhole.cx},{rig.pinhole.cy}"
        cameras = []
        for camera, rotation in enumerate(rig.rotations):
            names = [view_name(camera, photo.alias, lens) for photo in photos if lenses[photo.alias] == lens]
            pycolmap.import_images(database, views, pycolmap.CameraMode.SINGLE, names, reader)
            to_camera = rotation @ rig.rotations[0].T
            member = pycolmap.RigConfigCamera(ref_sensor=camera == 0, image_prefix=names[0].split("/")[0] + "/")
            if camera:
                member.cam_from_rig = pycolmap.Rigid3d(pycolmap.Rotation3d(to_camera), np.zeros(3))
            cameras.append(member)
        configs.append(pycolmap.RigConfig(cameras=cameras))
    options = pycolmap.FeatureExtractionOptions()
    options.use_gpu, options.num_threads, options.max_image_size = False, usable_cores(), MAX_SIDE
    options.sift.max_num_features = _FEATURES
    names = [view_name(k, photo.alias, lenses[photo.alias]) for photo in photos for k in range(_VIEWS)]
    step = 2 * usable_cores()
    for start in range(0, len(names), step):
        report("finding features", start / len(names))
        part = names[start : start + step]
        pycolmap.extract_features(database, views, part, pycolmap.CameraMode.AUTO, reader, options, CPU)
    with pycolmap.Database.open(database) as opened:
        pycolmap.apply_rig_config(configs, opened)
    report("finding features", 1.0)


def _match(work: Path, database: Path, photos: Sequence[SfmPhoto], report: Report) -> None:
    """Match views of different panoramas: all pairs if they are few, else those that look alike."""
    with pycolmap.Database.open(database) as opened:
        images = sorted(opened.read_all_images(), key=lambda image: image.name)
        names = [image.name for image in images]
        stems = [name.split("/")[1] for name in names]
        pairs = [(i, j) for i in range(len(names)) for j in range(i + 1, len(names)) if stems[i] != stems[j]]
        if len(pairs) > _ALL_PAIRS_UP_TO:
            chosen = choose_pairs([sample(opened.read_descriptors(image.image_id).data) for image in images])
            pairs = [(i, j) for i, j in chosen if stems[i] != stems[j]]
    match_pairs(work, database, names, pairs, report)


def _with_panoramas(
    found: pycolmap.Reconstruction, lenses: dict[str, Lens], rigs: dict[Lens, Rig]
) -> pycolmap.Reconstruction:
    """``found``, a model of views, with the panoramas as its images; each point is observed once in each."""
    aliases = {Path(alias).stem: alias for alias in lenses}
    seen: dict[str, dict[int, np.ndarray]] = {}
    poses: dict[str, pycolmap.Rigid3d] = {}
    for image in sorted(found.images.values(), key=lambda image: image.name):
        if not image.has_pose:
            continue
        folder, file = image.name.split("/")
        alias = aliases[Path(file).stem]
        rig, camera = rigs[lenses[alias]], int(folder.split("_")[1])
        rotation = rig.rotations[camera]
        pose = image.cam_from_world()
        back = rotation.T @ pose.matrix()
        poses.setdefault(alias, pycolmap.Rigid3d(pycolmap.Rotation3d(back[:, :3]), back[:, 3]))
        points = list(image.get_observation_points2D())
        if points:
            xy = (np.array([point.xy for point in points]) - (rig.pinhole.cx, rig.pinhole.cy)) / rig.pinhole.fx
            pixels = project(lenses[alias], np.concatenate([xy, np.ones((len(xy), 1))], 1) @ rotation)
            of_photo = seen.setdefault(alias, {})
            for point, pixel in zip(points, pixels, strict=True):
                of_photo.setdefault(point.point3D_id, pixel)
    return _model(found, lenses, poses, seen)


def _model(
    found: pycolmap.Reconstruction,
    lenses: dict[str, Lens],
    poses: dict[str, pycolmap.Rigid3d],
    seen: dict[str, dict[int, np.ndarray]],
) -> pycolmap.Reconstruction:
    model, cameras = pycolmap.Reconstruction(), {}
    tracks = {key: pycolmap.Track() for key in found.points3D}
    for number, (alias, pose) in enumerate(sorted(poses.items()), 1):
        lens, of_photo = lenses[alias], seen.get(alias, {})
        if lens not in cameras:
            cameras[lens] = len(cameras) + 1
            model.add_camera_with_trivial_rig(
                pycolmap.Camera(
                    model=SPHERICAL,
                    width=lens.width,
                    height=lens.height,
                    params=list(lens.params),
                    camera_id=cameras[lens],
                )
            )
        keypoints = np.array(list(of_photo.values())).reshape(-1, 2)
        image = pycolmap.Image(name=alias, keypoints=keypoints, camera_id=cameras[lens], image_id=number)
        model.add_image_with_trivial_frame(image, pose)
        for index, key in enumerate(of_photo):
            tracks[key].add_element(number, index)
    for key, track in tracks.items():
        if track.length() >= 2:
            point = found.points3D[key]
            model.add_point3D(point.xyz, track, point.color)
    model.update_point_3d_errors()
    return model
