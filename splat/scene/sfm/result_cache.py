"""Results that took long and are kept: beside the input, or in the user's cache folder where that cannot be written.

A kept result is a folder with a JSON record that carries the fingerprint of what it was made from; it appears whole.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from splat.errors import InputError

HIDDEN = ".splat"
RECORD = "record.json"


def places(folder: Path, name: str, fingerprint: str) -> tuple[Path, Path]:
    """Where the result ``name`` for the input in ``folder`` may be kept, best first."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return folder / HIDDEN / name, cache / "splat" / f"{name}-{fingerprint}"


def find(candidates: tuple[Path, ...], fingerprint: str) -> Path | None:
    """The first of ``candidates`` that holds a result with this fingerprint."""
    for place in candidates:
        try:
            record = read_record(place)
        except (OSError, ValueError):
            continue
        if isinstance(record, dict) and record.get("fingerprint") == fingerprint:
            return place
    return None


def read_record(place: Path) -> dict[str, Any]:
    return json.loads((place / RECORD).read_text())


def writable(candidates: tuple[Path, ...]) -> Path:
    """The first of ``candidates`` that can be made. Raises InputError if none can."""
    for place in candidates:
        try:
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=place.parent):
                return place
        except OSError:
            continue
    raise InputError(
        f"neither {candidates[0].parent} nor {candidates[-1].parent} can be written, where results are kept; free some "
        "space, or set XDG_CACHE_HOME to a folder you may write"
    )


@contextmanager
def filling(place: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``place`` on success and vanishes on any error. InputError on a full disk."""
    work = Path(tempfile.mkdtemp(prefix=f"{place.name}-", dir=place.parent))
    try:
        yield work
        if place.exists():
            shutil.rmtree(place)
        os.chmod(work, 0o755)
        os.replace(work, place)
    except OSError as error:
        raise InputError(
            f"cannot write {place}: {error.strerror or error}; free some space, or set XDG_CACHE_HOME to another folder"
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
