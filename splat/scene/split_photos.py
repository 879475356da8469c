"""Views of photos that are too wide for one pinhole picture: one of each of their faces."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

import numpy as np
import torch

from splat.errors import InputError
from splat.scene.faces import side, split
from splat.scene.images import ImageSource
from splat.scene.scene import View
from splat.scene.undistort import Lens

_GROWTH = 3  # sides of a face are at most so many times the photo's


def face_name(photo: str, face: str) -> str:
    """``photo#face.jpg`` of ``photo.jpg``."""
    path = PurePosixPath(photo)
    return path.with_name(f"{path.stem}#{face}{path.suffix}").as_posix()


@dataclass(frozen=True, eq=False)
class WidePhoto:
    """A photo to split.

    Attributes:
        name: of the photo.
        source: of its pixels; lens and size are set for each face.
        lens, limit: as `splat.scene.faces.split` takes them.
        factor: by which the photo is shrunk.
        world_to_camera: (4, 4) pose.
    """

    name: str
    source: ImageSource
    lens: Lens
    limit: float
    factor: float
    world_to_camera: np.ndarray


def split_view(photo: WidePhoto, held_out: bool, ids: np.ndarray, xy: np.ndarray, group: int) -> list[View]:
    """The views of one photo: all of them at its centre, all held out or none.

    Args:
        ids, xy: points seen (K,) and where (K, 2), pixels of the stored photo.
        group: camera id.

    Raises InputError for a lens that no camera can have.
    """
    lens, factor = photo.lens, photo.factor
    width, height = lens.image_width or lens.width, lens.image_height or lens.height
    faces = split(lens, photo.limit, factor) if side(lens) <= _GROWTH * max(width, height) else ()
    if not faces:
        raise InputError(
            f"a {lens.model} camera with the parameters {list(lens.params)} shows no part of {width}×{height} pixels "
            "that makes a picture, so it cannot be right; calibrate it again"
        )
    views = []
    for face in faces:
        pinhole = face.pinhole
        own = replace(photo.source, lens=None, width=pinhole.width, height=pinhole.height, face=face)
        at = face.keypoints(xy) if len(xy) else np.zeros((0, 2))
        inside = (at >= 0).all(1) & (at <= (pinhole.width, pinhole.height)).all(1)
        views.append(
            View(
                face_name(photo.name, face.name),
                pinhole.camera(face.world_to_camera(photo.world_to_camera)),
                own,
                held_out,
                torch.from_numpy(ids[inside].astype(np.int64)),
                torch.from_numpy(at[inside].astype(np.float32)),
                group,
                photo=photo.name,
                face=face,
            )
        )
    return views


def sentences(views: Sequence[View], circles: int) -> list[str]:
    """What to say of ``views``, ``circles`` of whose cameras show a circle with black around it."""
    wide = {view.photo_name for view in views if view.face is not None}
    if not wide:
        return []
    faces = sum(view.face is not None for view in views)
    photos = "1 photo shows" if len(wide) == 1 else f"{len(wide)} photos show"
    said = [f"{photos} more than 120°; trained on are {faces} pinhole pictures cut out"]
    if circles:
        said.append(f"the black around the picture of {circles} fisheye camera{'s' * (circles > 1)} is left out")
    return said
