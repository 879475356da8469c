"""`load_scene`: from a path to a `Scene`, whatever lies there."""

import math
import os
from pathlib import Path

from splat.errors import InputError
from splat.reading import require_file
from splat.scene.build import LoadOptions, RawScene, build
from splat.scene.progress import Report
from splat.scene.readers.colmap import PLACES, find_model, read_colmap
from splat.scene.readers.photo_folder import photo_folder, read_photos
from splat.scene.readers.transforms_json import find_transforms, read_transforms
from splat.scene.readers.video import VIDEO_SUFFIXES, find_video, read_video
from splat.scene.scene import Scene
from splat.text import printable

ALPHA_MODES = ("auto", "mask", "composite", "none")


def load_scene(
    path: str | Path,
    downscale: float | None = None,
    max_side: int | None = None,
    progress: Report | bool = True,
    test_every: int = 8,
    alpha: str = "auto",
    masks: bool = True,
) -> Scene:
    """Read the scene in ``path``, finding out itself what it is.

    Args:
        path: folder with a COLMAP model, a transforms.json or just photos; or a transforms.json, or a video file.
        downscale: divide image sizes by this (≥ 1); a folder ``images_N`` serves as the start where there is one.
        max_side: shrink images until no side is longer, pixels.
        progress: what to tell while structure from motion runs: True draws a bar on stderr, False nothing; a function
            is called with the stage and the fraction done.
        test_every: hold out every n-th view by name; 0 holds out none. A test set the input names itself goes first.
        alpha: what transparency means: ``mask`` excludes transparent pixels from training, ``composite`` delivers
            `Photo.alpha` to blend over a background, ``none`` ignores it; ``auto`` composites for Blender and
            instant-ngp scenes, as their field does, and masks elsewhere.
        masks: use the masks found beside the images.

    Raises InputError, naming the file and what to do, for anything that cannot be trained on.
    """
    root = Path(path).expanduser()
    options = _check_options(downscale, max_side, test_every, alpha, masks)
    if not os.path.exists(root):
        raise InputError(f"{root} does not exist; give the folder of a scene, a transforms.json or a video")
    try:
        return build(_read(root, options, progress), options).near_zero()
    except InputError as error:  # names of photos may hold line ends and codes of terminals
        if printable(str(error)) == str(error):
            raise
        raise InputError(printable(str(error))) from error


def _check_options(
    downscale: float | None, max_side: int | None, test_every: int, alpha: str, masks: bool
) -> LoadOptions:
    factor = 1.0 if downscale is None else float(downscale)
    if not (math.isfinite(factor) and factor >= 1):
        raise InputError(f"the downscale factor is {downscale}, expected 1 (full size) or more; give for example 2")
    if max_side is not None and max_side < 16:
        raise InputError(
            f"the longest image side is limited to {max_side} pixels, expected at least 16; give for example 960"
        )
    if test_every < 0 or test_every == 1:
        raise InputError(
            f"every {test_every}-th view is to be held out, expected 0 (none) or at least 2; give for example 8"
        )
    if alpha not in ALPHA_MODES:
        raise InputError(f"the alpha mode is '{alpha}', expected one of {', '.join(ALPHA_MODES)}")
    return LoadOptions(factor, max_side, test_every, alpha, masks)


def _read(root: Path, options: LoadOptions, progress: Report | bool) -> RawScene:
    """Pick the reader. Beside a transforms.json, only a model in the usual COLMAP places goes first."""
    if not root.is_dir():
        require_file(root)
        if root.suffix.lower() == ".json":
            return read_transforms(root, options.downscale)
        if root.suffix.lower() in VIDEO_SUFFIXES:
            return read_video(root, options.downscale, progress)
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
        return read_photos(root, photos, options.downscale, progress)
    video = find_video(root)
    if video is not None:
        return read_video(video, options.downscale, progress)
    raise InputError(
        f"{root} holds no scene: no COLMAP model (sparse/0, sparse, or cameras.bin), no transforms.json and no photos "
        "(.jpg, .png, .webp, .tif); give a folder with one of them, or a video"
    )
