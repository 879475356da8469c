"""`load_scene`: from a path to a `Scene`, whatever lies there."""

import dataclasses
import math
import os
from pathlib import Path

from splat.errors import InputError
from splat.reading import require_file
from splat.scene import hold_out as held_out
from splat.scene.build import LoadOptions, RawScene, build
from splat.scene.folder_notes import folder_notes, unread
from splat.scene.measured_depth import with_measured_depth
from splat.scene.progress import Report
from splat.scene.readers.colmap import PLACES, find_model, read_colmap
from splat.scene.readers.photo_folder import photo_folder, read_photos
from splat.scene.readers.transforms_json import find_transforms, read_transforms
from splat.scene.readers.video import VIDEO_SUFFIXES, find_video, read_video
from splat.scene.registration import CamerasUnknown
from splat.scene.scene import Scene
from splat.text import printable

ALPHA_MODES = ("auto", "mask", "composite", "none")
MASK_MODES = ("object", "ignore", "none")


def load_scene(
    path: str | Path,
    downscale: float | None = None,
    max_side: int | None = None,
    progress: Report | bool = True,
    hold_out: str | int | float | Path = held_out.AUTO,
    alpha: str = "auto",
    masks: str | bool = "object",
    depth_unit: float | None = None,
    register: bool = True,
) -> Scene:
    """Read the scene in ``path``, finding out itself what it is.

    Args:
        path: folder with a COLMAP model, a transforms.json or just photos; or a transforms.json, or a video file.
        downscale: divide image sizes by this (≥ 1); a folder ``images_N`` serves as the start where there is one.
        max_side: shrink images until no side is longer, pixels.
        progress: what to tell while structure from motion runs: True draws a bar on stderr, False nothing; a function
            is called with the stage and the fraction done.
        hold_out: views kept from training: ``auto`` is the test set that the input names itself, else every 8th view by
            name; ``none`` (or 0); n for every n-th; a fraction below 1; or a text file with a name on each line.
        alpha: what transparency means: ``mask`` excludes transparent pixels from training, ``composite`` delivers
            `Photo.alpha` to blend over a background, ``none`` ignores it; ``auto`` composites for Blender and
            instant-ngp scenes, as their field does, and masks elsewhere.
        masks: of the masks found beside the images, white is the ``object`` to keep, or what to ``ignore``; ``none``
            uses the images whole. True and False are ``object`` and ``none``.
        depth_unit: world units per value of the depth maps beside the images, see `splat.scene.measured_depth`.
        register: find the cameras of bare photos and videos by structure from motion; False raises `CamerasUnknown`
            where they are not known from an earlier run.

    Raises InputError, naming the file and what to do, for anything that cannot be trained on.
    """
    root = Path(path).expanduser()
    options = check_options(downscale, max_side, hold_out, alpha, masks)
    if not os.path.exists(root):
        raise InputError(f"{root} does not exist; give the folder of a scene, a transforms.json or a video")
    try:
        raw = _read(root, options, progress, register)
        left_out = folder_notes(raw, masks=options.masks != "none")
        scene = build(dataclasses.replace(raw, notes=(*raw.notes, *left_out)), options).near_zero()
        return with_measured_depth(scene, depth_unit)
    except CamerasUnknown:
        raise
    except InputError as error:  # names of photos may hold line ends and codes of terminals
        if printable(str(error)) == str(error):
            raise
        raise InputError(printable(str(error))) from error


def check_options(
    downscale: float | None = None,
    max_side: int | None = None,
    hold_out: str | int | float | Path = held_out.AUTO,
    alpha: str = "auto",
    masks: str | bool = "object",
) -> LoadOptions:
    """What `load_scene` was asked for, checked. Raises InputError."""
    factor = 1.0 if downscale is None else float(downscale)
    if not (math.isfinite(factor) and factor >= 1):
        raise InputError(f"the downscale factor is {downscale}, expected 1 (full size) or more; give for example 2")
    if max_side is not None and max_side < 16:
        raise InputError(
            f"the longest image side is limited to {max_side} pixels, expected at least 16; give for example 960"
        )
    if alpha not in ALPHA_MODES:
        raise InputError(f"the alpha mode is '{alpha}', expected one of {', '.join(ALPHA_MODES)}")
    masks = {True: "object", False: "none"}.get(masks, masks) if isinstance(masks, bool) else masks
    if masks not in MASK_MODES:
        raise InputError(f"the use of masks is '{masks}', expected one of {', '.join(MASK_MODES)}")
    return LoadOptions(factor, max_side, held_out.check(str(hold_out)), alpha, masks)


def _read(root: Path, options: LoadOptions, progress: Report | bool, register: bool) -> RawScene:
    """Pick the reader. Beside a transforms.json, only a model in the usual COLMAP places goes first."""
    if not root.is_dir():
        require_file(root)
        if root.suffix.lower() == ".json":
            return read_transforms(root, options.downscale)
        if root.suffix.lower() in VIDEO_SUFFIXES:
            return read_video(root, options.downscale, progress, register)
        raise InputError(
            f"{root} is a file, expected a folder with a scene, a transforms.json or a video; give its folder"
        )
    model = find_model(root, ("sparse/0", "sparse"))
    transforms = find_transforms(root)
    if model is None and transforms is not None:
        return read_transforms(transforms, options.downscale)
    model = model or find_model(root, PLACES)
    if model is not None:
        return read_colmap(root, model, options.downscale)
    photos = photo_folder(root)
    if photos is not None:
        return read_photos(root, photos, options.downscale, progress, mask_mode=options.masks, register=register)
    video = find_video(root)
    if video is not None:
        return read_video(video, options.downscale, progress, register)
    others = unread(root, [])
    if others:
        raise InputError(f"{root} holds no photos that can be read here: {'; '.join(others)}")
    raise InputError(
        f"{root} holds no scene: no COLMAP model (sparse/0, sparse, or cameras.bin), no transforms.json and no photos "
        "(.jpg, .png, .webp, .tif); give a folder with one of them, or a video"
    )
