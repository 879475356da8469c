"""Which folder the photos are in, and which shrunk copy of it serves a given downscale factor."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from splat.errors import InputError
from splat.scene.images import IMAGE_SUFFIXES


@dataclass(frozen=True)
class ImageFolder:
    """A folder of images and the factor by which its name says they were shrunk."""

    path: Path
    factor: int = 1


def find_image_folder(root: Path, names: Sequence[str]) -> Path:
    """The folder that holds the images ``names`` of a reconstruction in ``root``. Raises InputError."""
    candidates = [root / "images", root / "image", root / "input", root / "rgb", root]
    for folder in candidates:
        if folder.is_dir() and any(os.path.isfile(folder / name) for name in names):
            return folder
    for folder in candidates[:-1]:
        if folder.is_dir():
            return folder  # the caller names the missing files
    raise InputError(
        f"{root} has a model of {len(names)} images but no folder with them (looked for {names[0]} in images, image, "
        "input and rgb); put the photos into a folder 'images' there"
    )


def shrunk_folder(folder: Path, names: Sequence[str], downscale: float) -> tuple[ImageFolder, str | None]:
    """The most shrunk copy ``<folder>_N``, N ≤ ``downscale``, that holds all images, and a note if one was skipped."""
    note = None
    copies: list[ImageFolder] = []
    for path in folder.parent.iterdir():
        match = re.fullmatch(re.escape(folder.name) + r"_(\d+)", path.name)
        if match and path.is_dir() and len(match[1]) < 4 and 1 < int(match[1]) <= downscale:
            copies.append(ImageFolder(path, int(match[1])))
    for candidate in sorted(copies, key=lambda each: -each.factor):
        missing = [name for name in names if resolve(candidate.path, name) is None]
        if not missing:
            return candidate, note
        note = f"{candidate.path.name} lacks {len(missing)} of {len(names)} images ({missing[0]}), so it was not used"
    return ImageFolder(folder), note


def resolve(folder: Path, name: str) -> Path | None:
    """The file ``name`` in ``folder``, also with another image suffix; None if there is none."""
    path = folder / name
    if os.path.isfile(path) or not path.name:
        return path
    for suffix in sorted(IMAGE_SUFFIXES):
        for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper())):
            if os.path.isfile(candidate):
                return candidate
    return None
