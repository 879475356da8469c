"""`load_scene`: from a path to a `Scene`, whatever lies there.

A folder may hold several descriptions of its cameras. The first of these that can be read is used, and what was passed
over is said:

| | description | its cameras are |
|---|---|---|
| 1 | COLMAP's model in `sparse/` | optimised on the photos, with measured points |
| 2 | transforms.json | whatever wrote it: nerfstudio, instant-ngp, Blender |
| 3 | COLMAP's model elsewhere | as 1, but it may be left from an earlier step |
| 4 | other programs, in the order of `readers.sources.SOURCES` | optimised on the photos; recorders' last |
| 5 | one of these a level below, or above a folder of photos | as there |
| 6 | photos, then a video | found by structure from motion |
"""

import dataclasses
import math
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from splat.errors import InputError
from splat.reading import require_file
from splat.scene import hold_out as held_out
from splat.scene.build import LoadOptions, RawScene, build
from splat.scene.folder_notes import folder_notes, unread
from splat.scene.listing import listed
from splat.scene.measured_depth import with_measured_depth
from splat.scene.progress import Report
from splat.scene.readers import archive
from splat.scene.readers.colmap import read_scene
from splat.scene.readers.image_folder import PHOTO_FOLDER
from splat.scene.readers.model_places import FILES as MODEL_FILES
from splat.scene.readers.model_places import all_places, first_place, folders_in, is_model
from splat.scene.readers.photo_folder import own_photos, photo_folder, photo_names, read_photos
from splat.scene.readers.sources import Source, all_sources, source_of
from splat.scene.readers.transforms_json import find_transforms, read_transforms, usual_transforms
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
        path: folder with a COLMAP model, a transforms.json, the cameras that another program exported, or just photos;
            or a file of these, a zip archive or a video.
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
    """Pick the reader. Beside a transforms.json, only a model in ``sparse`` goes first."""
    if root.name in ("", ".."):
        root = Path(os.path.abspath(root))
    if not root.is_dir():
        require_file(root)
        if root.suffix.lower() in archive.SUFFIXES:
            return _read_archive(root, options, progress, register)
        source = source_of(root)
        if source is not None:
            return source.read(root, root.parent, options.downscale)
        if root.suffix.lower() == ".json":
            return read_transforms(root, options.downscale)
        if root.suffix.lower() in VIDEO_SUFFIXES:
            return read_video(root, options.downscale, progress, register)
        if not (root.name in MODEL_FILES or root.name == "points3D.ply") or not is_model(root.parent):
            raise InputError(
                f"{root} is a file, expected a folder with a scene, a transforms.json, an export of cameras, a zip "
                "archive or a video; give its folder"
            )
        root = root.parent
    notes: list[str] = []  # about descriptions that are there but not used
    for reader in (_described, _below, _beside):
        raw = reader(root, options.downscale, notes)
        if raw is not None:
            return _noted(raw, notes)
    photos = photo_folder(root)
    if photos is not None:
        mode = options.masks
        try:
            raw = read_photos(root, photos, options.downscale, progress, mask_mode=mode, register=register)
        except CamerasUnknown as error:
            raise error.noted(notes) from None
        return _noted(raw, notes)
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


def _read_archive(path: Path, options: LoadOptions, progress: Report | bool, register: bool) -> RawScene:
    folder, notes = archive.unpack(path, progress)
    try:
        raw = _read(folder, options, progress, register)
    except CamerasUnknown as error:
        raise CamerasUnknown(dataclasses.replace(error.facts, path=path)).noted(notes) from None
    return _noted(dataclasses.replace(raw, root=path), notes)


def _noted(raw: RawScene, notes: Sequence[str]) -> RawScene:
    return dataclasses.replace(raw, notes=(*notes, *raw.notes)) if notes else raw


def _described(root: Path, downscale: float, notes: list[str], above: Path | None = None) -> RawScene | None:
    """The scene that a COLMAP model, a transforms.json or another file in ``root`` describes; None where there is none.

    Photos are looked for in ``above`` too.
    """
    others = all_sources(root)
    first = first_place(root)
    transforms, said = find_transforms(root) if first is None else (None, [])
    if transforms is not None:
        return _noted(read_transforms(transforms, downscale), [*said, *_unused(others)])
    refused: list[InputError] = []
    for place in all_places(root):
        if above is not None:
            place = dataclasses.replace(place, roots=(*place.roots, above))
        try:
            raw = read_scene(place, root, downscale)
        except InputError as error:  # another place may be whole; where none is, the first one's error is said
            refused.append(error)
        else:
            return _noted(raw, [*(f"passed over: {error}" for error in refused), *_unused(others)])
    other = usual_transforms(root) if refused else None
    if other is not None:
        return _noted(read_transforms(other, downscale), [f"passed over: {refused[0]}", *_unused(others)])
    for index, (source, path) in enumerate(others):
        try:
            raw = source.read(path, above or root, downscale)
        except InputError as error:
            refused.append(error)
        else:
            return _noted(raw, [*(f"passed over: {error}" for error in refused), *_unused(others[index + 1 :])])
    if refused:
        raise refused[0]
    return None


def _unused(others: Sequence[tuple[Source, Path]]) -> list[str]:
    return [f"{path.name} of {source.kind} is there too, and not used; give it by its path" for source, path in others]


def _below(root: Path, downscale: float, notes: list[str]) -> RawScene | None:
    """The one scene a level below ``root``, if it is of the photos of ``root`` where that has photos of its own."""
    scenes = [each for each in folders_in(root) if all_places(each) or usual_transforms(each) or all_sources(each)]
    own = own_photos(root)
    if len(scenes) > 1 and not own:
        raise InputError(
            f"{root} holds {len(scenes)} scenes ({listed([scene.name for scene in scenes])}); give the folder of one"
        )
    for scene in scenes:
        try:
            raw = _described(scene, downscale, notes, root)
        except InputError as error:
            notes.append(f"the scene in {scene.name} is passed over: {error}")
            continue
        if raw is not None and (own is None or _is_about(raw, own, root)):
            return _noted(dataclasses.replace(raw, root=root), [f"the cameras are those of the folder {scene.name}"])
        notes.append(f"the scene in {scene.name} is not used, for it is of other photos; give its folder to use it")
    return None


def _is_about(raw: RawScene, own: Path, root: Path) -> bool:
    """Whether most photos of ``raw`` have the names of photos in ``own``."""
    names = os.listdir(root) if own == root else photo_names(own)
    stems = {PurePosixPath(name).stem.lower() for name in names}
    return 2 * sum(view.path.stem.lower() in stems for view in raw.views) >= len(raw.views)


def _beside(root: Path, downscale: float, notes: list[str]) -> RawScene | None:
    """The scene around a folder of photos: what describes it lies in the folder above."""
    folder = Path(os.path.abspath(root))
    above = folder.parent
    if above == above.parent or own_photos(root) is None:
        return None
    is_named = PHOTO_FOLDER.fullmatch(folder.name) is not None  # else masks and depths would pass for photos
    try:
        transforms, _ = find_transforms(above) if first_place(above) is None else (None, [])
        if transforms is not None:
            raw, used = read_transforms(transforms, downscale), transforms
        else:
            place = next(iter(all_places(above)), None)
            if place is not None:
                raw = read_scene(place, folder if is_named else above, downscale, folder if is_named else None)
                used = place.model
            elif others := all_sources(above):
                source, used = others[0]
                raw = source.read(used, above, downscale)
            else:
                return None
    except InputError as error:
        notes.append(f"what lies beside the photos is passed over: {error}")
        return None
    if not any(Path(os.path.abspath(view.path)).is_relative_to(folder) for view in raw.views):
        return None
    return _noted(raw, [f"the cameras are those of {Path('..', used.relative_to(above)).as_posix()}"])
