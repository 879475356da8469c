"""Bundle adjustment of the poses that a network gave, from matches of the photos, where it makes them better."""

import dataclasses
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from splat.scene.build import RawView
from splat.scene.progress import Report
from splat.scene.sfm.exif_orientation import turn_back, turn_upright
from splat.scene.sfm.photo_preparation import SfmPhoto, prepare
from splat.scene.undistort import Lens

_ONE_LENS = 1.05  # ratio of the focal lengths up to which photos that seem to be of one camera share one


def adjusted(
    folder: Path, views: Sequence[RawView], masks: dict[str, Path], ignore: bool, report: Report
) -> tuple[list[RawView], str]:
    """``views`` of the photos in ``folder`` with refined poses and focal lengths, or as they are; and a note on that.

    Args:
        views: upright, with PINHOLE lenses, in any order.
        masks: of the photos by name; hidden pixels have no part in it.
        ignore: they are white where pixels are left out.
    """
    from splat.scene.sfm.adjustment import adjust
    from splat.scene.sfm.reconstruct import match_photos, quiet

    with tempfile.TemporaryDirectory(prefix="splat-adjust-") as scratch:
        work = Path(scratch)
        photos = prepare(folder, [view.name for view in views], masks, work, ignore)
        stored = [turn_back(view, photo.header.orientation) for view, photo in zip(views, photos, strict=True)]
        photos, given = _shared(photos, stored)
        with quiet():
            database = match_photos(work, photos, False, report)
        report("adjusting cameras", 0.0)
        result = adjust(work, database, given)
        report("adjusting cameras", 1.0)
    if result.objection:
        names = {photo.alias: photo.name for photo in photos}
        words = " ".join(names.get(word, word) for word in result.objection.split(" "))
        return list(views), f"bundle adjustment was not used: {words}"
    moved = []
    for view, back, photo in zip(views, stored, photos, strict=True):
        camera = result.cameras.get(photo.alias)
        if camera is None:
            moved.append(view)
            continue
        lens = dataclasses.replace(back.lens, params=camera.params)
        there = dataclasses.replace(back, lens=lens, world_to_camera=camera.world_to_camera)
        moved.append(dataclasses.replace(turn_upright(there, photo.header.orientation), turn=view.turn))
    left = len(views) - len(result.cameras)
    return moved, (
        f"bundle adjustment refined {len(result.cameras)} of {len(views)} poses by {result.points:,} points: the "
        f"median error of the matches fell from {result.before:.2f} to {result.after:.2f} pixels"
        + (f"; {left} photos that see too few points stay as they were given" if left else "")
    )


def _shared(photos: Sequence[SfmPhoto], views: Sequence[RawView]) -> tuple[list[SfmPhoto], dict]:
    """The photos and their given cameras by alias; those of one camera with its median lens, if theirs agree."""
    from splat.scene.sfm.adjustment import GivenCamera

    users = Counter(photo.camera for photo in photos)
    groups: dict[object, list[int]] = defaultdict(list)
    for index, photo in enumerate(photos):
        size = (photo.header.width, photo.header.height)  # all that tells, of photos without EXIF data
        groups[photo.camera if users[photo.camera] > 1 else None, size].append(index)
    lenses: dict[int, tuple[int, Lens]] = {}
    for number, members in enumerate(groups.values()):
        params = np.array([views[index].lens.params for index in members])
        if params[:, :2].max() <= _ONE_LENS * params[:, :2].min():
            params[:] = np.median(params, axis=0)
            cameras = [number] * len(members)
        else:
            cameras = [len(groups) + index for index in members]
        for index, camera, row in zip(members, cameras, params, strict=True):
            lenses[index] = camera, dataclasses.replace(views[index].lens, params=tuple(map(float, row)))
    chosen, given = [], {}
    for index, photo in enumerate(photos):
        camera, lens = lenses[index]
        chosen.append(dataclasses.replace(photo, camera=camera, focal=0.5 * (lens.params[0] + lens.params[1])))
        given[photo.alias] = GivenCamera(views[index].world_to_camera, lens.params)
    return chosen, given
