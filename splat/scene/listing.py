"""The picture files below a folder, found in bounded time."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path, PurePosixPath

from splat.errors import InputError
from splat.scene.pictures import kinds

MOST_ENTRIES = 500_000  # looked at; who gives / or a home folder is told so instead of waiting
_NAMED = 3  # names in a sentence about many


def list_images(folder: Path) -> list[str]:
    """Names of all images below ``folder`` that can be read here; as `list_files`."""
    return list_files(folder, kinds.readable())


def list_files(folder: Path, suffixes: Collection[str]) -> list[str]:
    """Names of all files below ``folder`` with one of ``suffixes`` (lower case), relative, forward slashes, sorted.

    Hidden files and folders are left out, links to folders not followed. Raises InputError where the folder holds more
    than `MOST_ENTRIES` files.
    """
    names, seen = [], 0
    for place, folders, files in os.walk(folder):
        seen += len(folders) + len(files)
        if seen > MOST_ENTRIES:
            raise InputError(
                f"{folder} holds more than {MOST_ENTRIES:,} files and folders, too many for one scene; give the folder "
                "of its photos"
            )
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = PurePosixPath(Path(place).relative_to(folder).as_posix())
        names += [
            (inside / name).as_posix()
            for name in files
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in suffixes
        ]
    return sorted(names)


def listed(names: Sequence[str]) -> str:
    """The first few of many names: 'a, b, c and 4 more'."""
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(name[:80] for name in names[:_NAMED]) + more
