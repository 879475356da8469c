"""Which files of a folder may be descriptions of a scene, found by suffix and told by their first bytes; and tables."""

import csv
import os
from collections.abc import Iterator, Sequence
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


def cells(lines: Sequence[str], delimiter: str = ",") -> Iterator[list[str]]:
    """The cells of each of ``lines``, those in quotes too. Raises ValueError for what is no table."""
    try:
        yield from csv.reader(lines, delimiter=delimiter, skipinitialspace=True)
    except csv.Error as error:
        raise ValueError(f"it is no table: {error}") from error
