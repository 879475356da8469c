"""Writing files so that they appear whole or not at all, and finding files shipped with the package."""

import fcntl
import functools
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from splat.errors import InputError

_BLOCK = 1 << 20  # bytes


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success fsync it and rename it over ``path``.

    A link stays and its target is replaced; a file that was there keeps its mode. A pipe or a character device is
    written into, never replaced. On any error the temporary file is removed and ``path`` keeps its old content; what a
    process that was killed has left beside ``path`` is removed too.
    Raises InputError when the folder cannot be written, the disk is full, or ``path`` is nothing to write into.
    """
    path = Path(path)
    temporary: Path | None = None
    file: int | None = None
    try:
        mode = _mode(path)
        if mode is not None and _is_stream(path, mode):
            with TemporaryDirectory() as folder:
                inside = Path(folder) / f"content{path.suffix}"
                inside.touch()
                yield inside
                with open(inside, "rb") as source, open(path, "wb", buffering=0) as sink:
                    while block := source.read(_BLOCK):
                        _write_all(sink.fileno(), block)
            return
        target = path.resolve() if path.is_symlink() else path
        target.parent.mkdir(parents=True, exist_ok=True)
        _remove_left(target)
        # A part of the name is enough: a long one leaves no room for more.
        candidate = target.with_name(f".{target.stem[:40]}-{os.urandom(6).hex()}{target.suffix[-20:]}")
        permissions = 0o666 if mode is None else stat.S_IMODE(mode) & 0o777  # of a new file the user's umask takes some
        file = os.open(candidate, os.O_CREAT | os.O_EXCL | os.O_WRONLY, permissions)
        temporary = candidate
        _lock(file)
        if mode is not None:
            os.fchmod(file, stat.S_IMODE(mode) | stat.S_IWUSR)
        yield temporary
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        if mode is not None:
            os.chmod(temporary, stat.S_IMODE(mode))
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {error.strerror or error}; choose another folder or free some space"
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
        if file is not None:
            os.close(file)


def _lock(file: int) -> bool:
    """Whether the file is locked for this process now: the kernel unlocks it however the process ends."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process has it, or the disk knows no locks
        return False
    return True


def _remove_left(target: Path) -> None:
    """Remove temporary files for ``target`` whose writer is gone."""
    name = re.compile(rf"\.{re.escape(target.stem[:40])}-[0-9a-f]{{12}}{re.escape(target.suffix[-20:])}")
    for left in _temporary_files(target.parent):
        if not name.fullmatch(left):
            continue
        try:
            file = os.open(target.with_name(left), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError:  # gone meanwhile, or another user's
            continue
        if stat.S_ISREG(os.fstat(file).st_mode) and _lock(file):
            target.with_name(left).unlink(missing_ok=True)
        os.close(file)


@functools.cache  # looked for once: what this process leaves, it removes itself
def _temporary_files(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if re.fullmatch(r"\..*-[0-9a-f]{12}(\.\w+)?", name)]


def _mode(path: Path) -> int | None:
    """Type and permissions of what ``path`` leads to; None if there is nothing."""
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        return None


def _is_stream(path: Path, mode: int) -> bool:
    """Whether ``path`` is to be written into as it is. Raises InputError where it can be no file of ours."""
    if stat.S_ISREG(mode):  # /dev/stdout may lead to a file: whoever opened it holds on to that one
        return path.is_relative_to("/dev/fd") or path in (Path("/dev/stdout"), Path("/dev/stderr"))
    if stat.S_ISFIFO(mode) or stat.S_ISCHR(mode):
        return True
    kind = "a folder" if stat.S_ISDIR(mode) else "a disk or a socket"
    raise InputError(f"cannot write {path}: it is {kind}; choose the name of a file")


def _write_all(file: int, block: bytes) -> None:
    rest = memoryview(block)
    while rest:
        rest = rest[os.write(file, rest) :]


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 ``text`` to ``path`` atomically."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON to ``path`` atomically."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def packaged_folder(name: str) -> Path:
    """The folder ``configs`` or ``cuda``: inside the installed package, or beside it in a source tree."""
    here = Path(__file__).parent
    for candidate in (here / f"_{name}", here.parent / name):
        if candidate.is_dir():
            return candidate
    raise InputError(
        f"the folder '{name}' that ships with splat is missing; "
        "reinstall with: pip install --force-reinstall . (in the source folder)"
    )


_UNITS = {"": 1, "b": 1, "k": 1e3, "kb": 1e3, "m": 1e6, "mb": 1e6, "g": 1e9, "gb": 1e9, "kib": 2**10, "mib": 2**20}


def bytes_of(text: str, name: str) -> int:
    """The number of bytes that '8MB', '500k' or '1.5 MiB' says. Raises InputError, calling it ``name``."""
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].lower() not in _UNITS or float(match[1]) * _UNITS[match[2].lower()] < 1:
        raise InputError(f"{name} is '{text}', expected a number of bytes such as 8MB or 500kB")
    return int(float(match[1]) * _UNITS[match[2].lower()])
