"""Which files of a folder may be descriptions of a scene: found by suffix, told by their first bytes."""

import os
from pathlib import Path

from splat.errors import InputError
from splat.reading import require_file

_HEAD = 4096  # bytes


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Files in ``folder`` with ``suffix`` (lower case), by name; none where the folder is closed to us."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.lower().endswith(suffix) and name[0] != ".")
    except OSError:  # then nothing in it could be read
        return []
    return [folder / name for name in names if os.path.isfile(folder / name)]


def longest_first(paths: list[Path]) -> list[Path]:
    """``paths`` by size."""
    return sorted(paths, key=lambda path: -os.path.getsize(path))


def head_of(path: Path, count: int = _HEAD) -> bytes:
    """The first bytes of ``path``; none where it is closed to us, or no ordinary file."""
    try:
        with open(require_file(path), "rb") as file:
            return file.read(count)
    except (OSError, InputError):  # then it is no file that could be read
        return b""
