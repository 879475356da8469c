"""Few-view subsets of a scene: which photos train, and which sparse points these photos alone could give.

The protocol of the sparse-view literature (Niemeyer et al., "RegNeRF", CVPR 2022, and its successors): the held-out
photos stay as they are, the training photos are picked evenly from the others in the order of their names.
"""

import dataclasses

import numpy as np
import torch

from splat.errors import InputError
from splat.scene.scene import Points, Scene, tracks_from_keypoints

FEWEST_POINTS = 20  # with fewer known points, starting from random ones in the common view is better


def evenly(count: int, wanted: int) -> list[int]:
    """``wanted`` of the numbers 0 … ``count`` − 1, evenly spread, both ends included; the middle one for one."""
    if wanted == 1:
        return [(count - 1) // 2]
    return [round(i * (count - 1) / (wanted - 1)) for i in range(wanted)]


def keep_views(scene: Scene, count: int) -> Scene:
    """``scene`` with ``count`` of its training photos; its held-out views are unchanged.

    Of the sparse points, those stay that two of the remaining training views see: the others could not be known from
    these photos. Where next to none remain (views far apart), random points take their place. Raises InputError when
    the scene has fewer training photos, or ``count`` < 2.
    """
    train = list(dict.fromkeys(view.photo_name for view in scene.views if not view.held_out))
    if count < 2:
        raise InputError(f"training on {count} photo was asked for, expected at least 2: one photo fixes no depth")
    if count > len(train):
        raise InputError(
            f"training on {count} photos was asked for, but {scene.root} has {len(train)} that are not held out; "
            "give a smaller number"
        )
    chosen = {train[index] for index in evenly(len(train), count)}
    views = [view for view in scene.views if view.held_out or view.photo_name in chosen]
    note = f"{count} of {len(train)} training photos are used"
    points, views, said = _known_points(scene, views)
    return dataclasses.replace(scene, views=tuple(views), points=points, notes=(*scene.notes, note, *said))


def _known_points(scene: Scene, views: list) -> tuple[Points, list, list[str]]:
    """The points that two training views of ``views`` see, the views with their keypoints renumbered, and notes."""
    seen = np.zeros(len(scene.points), np.int64)
    for view in views:
        if not view.held_out:
            seen[np.unique(view.keypoint_ids.numpy())] += 1
    tracked = any(len(view.keypoint_ids) for view in views)
    known = seen >= 2 if tracked else np.ones(len(scene.points), bool)
    number = np.cumsum(known) - 1
    renumbered = []
    for view in views:
        ids = view.keypoint_ids.numpy()
        use = torch.from_numpy(known[ids])
        ids = torch.from_numpy(number[ids])[use]
        renumbered.append(dataclasses.replace(view, keypoint_ids=ids, keypoint_xy=view.keypoint_xy[use]))
    if int(known.sum()) < FEWEST_POINTS:
        from splat.scene.random_points import random_points

        empty = torch.zeros(0, dtype=torch.int64)
        bare = [dataclasses.replace(view, keypoint_ids=empty, keypoint_xy=torch.zeros(0, 2)) for view in views]
        points, said = random_points([view for view in bare if not view.held_out])
        said = said.replace("the input has no sparse points", "these photos share next to no sparse points")
        return points, bare, [said]
    rows = torch.from_numpy(known)
    points = scene.points
    offsets, owners = tracks_from_keypoints(renumbered, int(known.sum()))
    kept = dataclasses.replace(
        points,
        xyz=points.xyz[rows],
        rgb=points.rgb[rows],
        error=points.error[rows],
        confidence=None if points.confidence is None else points.confidence[rows],
        track_offsets=offsets,
        track_views=owners,
    )
    return kept, renumbered, []
