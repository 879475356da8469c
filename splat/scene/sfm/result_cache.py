"""On-disk cache of expensive results, such as SfM models: beside the input, or in the user's cache folder.

A result is a folder with a JSON record that carries the fingerprint of what it was made from; it appears whole or not.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splat.errors import InputError
from splat.reading import parse_json, read_bytes

HIDDEN = ".splat"
RECORD = "record.json"


def candidate_folders(folder: Path, name: str, fingerprint: str) -> tuple[Path, Path]:
    """Folders that may hold the result ``name`` for the input in ``folder``, preferred one first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / HIDDEN / name, cache / "splat" / f"{name}-{fingerprint}"


def find_result(candidates: tuple[Path, ...], fingerprint: str) -> Path | None:
    """The first of ``candidates`` that holds a result with this fingerprint."""
    for folder in candidates:
        try:
            record = read_record(folder)
        except InputError:  # none, or damaged: it is made again
            continue
        if record.get("fingerprint") == fingerprint:
            return folder
    return None


def read_record(folder: Path) -> dict[str, Any]:
    """The JSON record of the result in ``folder``. Raises InputError."""
    path = folder / RECORD
    return parse_json(read_bytes(path), path, "the record of an earlier result")


def first_writable(candidates: tuple[Path, ...]) -> Path:
    """The first of ``candidates`` that can be made. Raises InputError if none can."""
    for folder in candidates:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder.parent):
                return folder
        except OSError:
            continue
    raise InputError(
        f"neither {candidates[0].parent} nor {candidates[-1].parent} can be written, where results are cached; free "
        "some space, or set XDG_CACHE_HOME to a folder you may write"
    )


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``folder`` on success and vanishes on any error. InputError on a full disk."""
    work = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        yield work
        if folder.exists():
            shutil.rmtree(folder)
        os.chmod(work, 0o755)
        os.replace(work, folder)
    except OSError as error:
        raise InputError(
            f"cannot write {folder}: {error.strerror or error}; free some space, or set XDG_CACHE_HOME elsewhere"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
