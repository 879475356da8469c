"""A lock on a run's folder that dies with the process that holds it, on network disks too."""

import contextlib
import errno
import fcntl
import os
import socket
import warnings
from collections.abc import Iterator
from pathlib import Path

from splat.errors import InputError

NAME = ".lock"
_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextlib.contextmanager
def held(folder: Path | None) -> Iterator[None]:
    """Hold the lock on ``folder``, which is made; None locks nothing.

    The kernel keeps it (flock, which Linux carries to the server of an NFS disk), so that it goes with its process
    however that ends. Raises InputError, saying who holds it, when another process does.
    """
    if folder is None:
        yield
        return
    path, made = folder / NAME, not folder.exists()
    file = _open(path)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is held: whoever waits for this file finds that it is gone
        os.close(file)
        if made and not any(folder.iterdir()):
            folder.rmdir()  # nothing came of it


def _open(path: Path) -> int:
    """A descriptor of the locked file ``path``. Raises InputError."""
    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        except FileExistsError as error:
            raise InputError(
                f"{path.parent} is a file, expected a folder for the results; choose another path"
            ) from error
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}; choose another place") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(file, 200, 0).decode(errors="replace")
            if error.errno not in _UNSUPPORTED:
                os.close(file)
                raise InputError(
                    f"{path.parent} is in use by {owner or 'another process'}; wait for it or stop it, or choose "
                    "another folder"
                ) from error
            warnings.warn(f"{path.parent} lies on a disk without locks: let no second run write into it", stacklevel=4)
        if _is_still(path, file):
            return file
        os.close(file)  # its owner removed it between the two calls


def _is_still(path: Path, file: int) -> bool:
    try:
        return os.path.samestat(os.stat(path), os.fstat(file))
    except FileNotFoundError:
        return False
