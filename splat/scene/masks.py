"""Masks beside the photos: white keeps a pixel, black excludes it; of dynamic masks white is what moves."""

from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from splat.errors import InputError
from splat.scene.listing import list_images

if TYPE_CHECKING:
    from splat.scene.scene import View

DYNAMIC = ("dynamic_masks", "dynamic_mask")
FOLDERS = ("masks", "mask", "segmentation", "segmentations", *DYNAMIC)
_NO_PHOTOS = (*FOLDERS, "depths", "depth")
_DYNAMIC_PREFIX = "dynamic_mask_"  # of instant-ngp
_PATTERNS = ("{}", "{}_mask", "mask_{}", "{}-mask", "{}.mask", _DYNAMIC_PREFIX + "{}")


def among_photos(names: Sequence[str]) -> list[str]:
    """``names`` of pictures below a folder of photos without masks, depths, and masks that lie beside their photos."""
    names = [name for name in names if "/" not in name or name.split("/")[0] not in _NO_PHOTOS]
    stems = {_stem(name) for name in names} | set(names)
    return [name for name in names if not any(key in stems for key in _masked_by(name))]


def _masked_by(name: str) -> list[str]:
    """What a photo is called, with or without its suffix, of which ``name`` is a mask by a pattern."""
    path = PurePosixPath(_stem(name))
    found = []
    for pattern in _PATTERNS[1:]:
        before, after = pattern.split("{}")
        if path.name.startswith(before) and path.name.endswith(after) and len(path.name) > len(before) + len(after):
            found.append((path.parent / path.name[len(before) : len(path.name) - len(after)]).as_posix())
    return found


def find_masks(image_root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Masks of the images ``names`` (relative to ``image_root``), for those that have one.

    They lie in ``masks/``, ``mask/``, ``segmentation/`` or ``dynamic_masks/`` beside the image folder or in it, under
    the image's relative name with any image suffix (``a/b.jpg`` → ``a/b.png``) or with one added, as COLMAP has it
    (``a/b.jpg.png``); with ``_mask`` behind the name, as Metashape writes it, or ``mask_`` before it. The latter two,
    and instant-ngp's ``dynamic_mask_``, may also lie beside the images.
    """
    for folder in _folders(image_root):
        masks = match_names(folder, list_images(folder), names)
        if masks:
            return masks
    beside = [name for name in list_images(image_root) if _masked_by(name)] if image_root.is_dir() else []
    return {name: path for name, path in match_names(image_root, beside, names).items() if path != image_root / name}


def marks_what_moves(mask: Path) -> bool:
    """Whether the white pixels of ``mask`` are the ones to leave out, by its name or that of its folder."""
    return mask.name.startswith(_DYNAMIC_PREFIX) or any(part in DYNAMIC for part in mask.parts[:-1])


def unmatched_note(image_root: Path, masks: Collection[Path]) -> list[str]:
    """A note on the files in the mask folder that belong to no photo, if there are any.

    Args:
        masks: those in use.
    """
    used = set(masks)
    for folder in _folders(image_root):
        files = list_images(folder)
        left = [name for name in files if folder / name not in used]
        if left:
            verb = "file belongs" if len(left) == 1 else "files belong"
            return [f"{len(left)} of {len(files)} mask {verb} to no photo, such as {folder.name}/{left[0]}"]
        if files:
            return []
    return []


def _folders(image_root: Path) -> list[Path]:
    places = [place / name for name in FOLDERS for place in (image_root.parent, image_root)]
    return [folder for folder in places if folder != image_root and folder.is_dir()]


def _stem(name: str) -> str:
    path = PurePosixPath(name)
    return path.with_suffix("").as_posix() if path.name else name


def match_names(
    folder: Path, files: Sequence[str], names: Sequence[str], patterns: Sequence[str] = _PATTERNS
) -> dict[str, Path]:
    """Which of ``files`` in ``folder`` belongs to which of the photos ``names``, by one of ``patterns``."""
    exact = {name: folder / name for name in files}
    stems = {_stem(name): path for name, path in exact.items()}
    folded = {stem.casefold(): path for stem, path in stems.items()}
    masks: dict[str, Path] = {}
    for name in names:
        # 'b.jpg.png' has the stem 'b.jpg', so the COLMAP style is a look-up of the full name among the stems.
        path = stems.get(name) or exact.get(name)
        for key in (_stem(name), name):
            parts = PurePosixPath(key)
            for pattern in patterns:
                stem = (parts.parent / pattern.format(parts.name)).as_posix() if parts.name else key
                path = path or stems.get(stem) or folded.get(stem.casefold())
        if path is not None:
            masks[name] = path
    return masks


def check_something_kept(views: Sequence["View"]) -> None:
    """Raise InputError where the masks of all photos to train on leave no pixel. Decodes until a pixel is found."""
    views = [view for view in views if not view.held_out]
    if not views or not all(view.source.has_mask for view in views):
        return
    if not any(view.source.keeps_a_pixel() for view in views):
        hidden = views[0].source
        raise InputError(
            f"no pixel of any of the {len(views)} photos to train on is left by the mask {hidden.mask_path} nor by "
            "others; white marks what is kept: if it is the other way round give --masks ignore, else --masks none"
            if hidden.mask_path is not None
            else f"all {len(views)} photos to train on, such as {hidden.path}, are transparent everywhere; to use them "
            "as they are give --alpha none"
        )
