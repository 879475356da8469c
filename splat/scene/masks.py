"""Masks beside the photos: white keeps a pixel, black excludes it."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from splat.scene.listing import list_images

FOLDERS = ("masks", "mask")


def find_masks(image_root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Masks of the images ``names`` (relative to ``image_root``), for those that have one.

    They lie in ``masks/`` (or ``mask/``) beside the image folder, under the image's relative name with any image suffix
    (``a/b.jpg`` → ``a/b.png``) or with one added, as COLMAP has it (``a/b.jpg.png``).
    """
    for name in FOLDERS:
        folder = image_root.parent / name
        if folder != image_root and folder.is_dir():
            return _match(folder, names)
    return {}


def _match(folder: Path, names: Sequence[str]) -> dict[str, Path]:
    exact = {name: folder / name for name in list_images(folder)}
    stems = {PurePosixPath(name).with_suffix("").as_posix(): path for name, path in exact.items()}
    masks: dict[str, Path] = {}
    for name in names:
        stem = PurePosixPath(name).with_suffix("").as_posix() if PurePosixPath(name).name else name
        # 'b.jpg.png' has the stem 'b.jpg', so the COLMAP style is a look-up of the full name among the stems.
        path = stems.get(name) or exact.get(name) or stems.get(stem)
        if path is not None:
            masks[name] = path
    return masks
