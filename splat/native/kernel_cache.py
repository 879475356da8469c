"""Compiled kernels on disk, in the user's cache folder, each with a checksum and what it was made by.

What is damaged, or was made by other versions, counts as absent: it is deleted, said once, and made anew.
"""

import functools
import hashlib
import os
import warnings
from pathlib import Path

from splat.errors import InputError
from splat.files import write_bytes


def folder() -> Path:
    """``splat/kernels`` in the user's cache folder (``XDG_CACHE_HOME``, ``LOCALAPPDATA`` or ``~/.cache``)."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(root) / "splat" / "kernels"


def path_of(name: str, versions: str) -> Path:
    """Where ``name`` lies, as made by ``versions``."""
    return folder() / f"{name}-{hashlib.sha256(versions.encode()).hexdigest()[:32]}.bin"


def read(path: Path, versions: str) -> bytes | None:
    """What `write` put at ``path``; None where it is absent, damaged, or made by other ``versions``."""
    try:
        header, _, data = path.read_bytes().partition(b"\n")
    except OSError:
        return None
    if header == _header(versions, data):
        return data
    discard(path, "is damaged")
    return None


def write(path: Path, versions: str, data: bytes) -> None:
    """Keep ``data`` at ``path``, whole or not at all; where that fails a warning says what it costs.

    Args:
        versions: of all that ``data`` depends on, one line.
    """
    try:
        write_bytes(path, _header(versions, data) + b"\n" + data)
    except InputError as error:
        _say_once(f"kernels are compiled anew in every run: {path.parent} cannot be written ({error})")


def discard(path: Path, why: str) -> None:
    """Delete ``path`` and say once that what it held is made anew."""
    _say_once(f"{path} {why}; it is deleted and made anew")
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        _say_once(f"{path} cannot be deleted ({error}); delete it, or kernels are compiled anew in every run")


def _header(versions: str, data: bytes) -> bytes:
    digest = hashlib.sha256(versions.encode() + b"\0" + data).hexdigest()
    return f"splat {digest} {versions}".encode()


@functools.cache
def _say_once(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=4)
