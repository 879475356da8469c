"""A COLMAP model, read from binary or text files, its parts joined and checked against each other.

pycolmap is not asked: it takes some truncated files for whole ones, and on other damage asks for absurd amounts of
memory.
"""

import os
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.reading import require_file
from splat.scene.readers import colmap_binary, colmap_text
from splat.scene.readers.colmap_parts import NO_POINTS, Frame, Model, ModelImage, ModelPoints
from splat.scene.readers.model_places import kind_of

_NEED = ("cameras", "images")


def read_model(folder: Path) -> Model:
    """The COLMAP model in ``folder``, which may lack points.

    Raises InputError naming the file, and the record or line, that is wrong.
    """
    kind = kind_of(folder)
    files = colmap_binary.FILES if kind == "bin" else colmap_text.FILES
    paths = {stem: folder / f"{stem}.{kind}" for stem in (*_NEED, "points3D", "rigs", "frames")}
    for stem in _NEED:
        if not paths[stem].exists():
            raise InputError(
                f"the COLMAP model {folder} lacks {paths[stem].name}, but needs cameras and images of one kind; copy "
                "the missing file"
            )
        require_file(paths[stem])
    cameras, images = files.cameras(paths["cameras"]), files.images(paths["images"])
    if paths["rigs"].is_file() and paths["frames"].is_file():  # models older than COLMAP 3.12 have none
        _take_poses_of_frames(images, files.rigs(paths["rigs"]), files.frames(paths["frames"]))
    for image in images:
        if image.camera not in cameras:
            raise InputError(
                f"{paths['images']}: {image.name} was taken by camera {image.camera}, which {paths['cameras'].name} "
                "does not hold; export the model again"
            )
    points = _sorted(files.points(paths["points3D"]), paths["points3D"]) if os.path.exists(paths["points3D"]) else None
    model = Model(cameras, sorted(images, key=lambda image: image.id), points or NO_POINTS)
    for stem, found in (("cameras", cameras), ("images", images), ("points3D", model.points.ids)):
        announced = files.announced(paths[stem]) if stem != "points3D" or points is not None else None
        if announced is not None and announced > len(found):
            model.notes.append(f"{paths[stem].name} announces {announced} entries but holds {len(found)}")
    return model


def _take_poses_of_frames(
    images: list[ModelImage], rigs: dict[tuple[int, int], np.ndarray | None], frames: list[Frame]
) -> None:
    """Where a model has rigs and frames, poses are theirs; an image that is in no frame has none."""
    poses: dict[int, np.ndarray] = {}
    for frame in frames:
        for camera, image in frame.images:
            camera_from_rig = rigs.get((frame.rig, camera))
            if camera_from_rig is not None:
                with np.errstate(all="ignore"):
                    poses[image] = camera_from_rig @ frame.rig_from_world
    for image in images:
        image.world_to_camera = poses.get(image.id)


def _sorted(points: ModelPoints, path: Path) -> ModelPoints:
    """``points`` by ascending id. Raises InputError where an id comes twice."""
    if (points.ids[1:] > points.ids[:-1]).all():
        return points
    order = np.argsort(points.ids, kind="stable")
    ids = points.ids[order]
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise InputError(f"{path} holds the point {twice[0]} twice; export the model again")
    return ModelPoints(ids, points.xyz[order], points.rgb[order], points.error[order])
