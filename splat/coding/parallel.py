"""Work on rows of a cloud in pieces that fit the caches, on all cores: NumPy runs outside Python's lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from splat.machine import usable_cores

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_writing = Lock()
CACHED = 1 << 26  # bytes of a file being written that may stay in memory: taking more anew is slower than reusing it

# Rows of a piece: 15 MB of degree-3 Gaussians.
CHUNK = 1 << 16
# Rows of a piece where single columns are worked on: a few of them fit the innermost caches.
BLOCK = 1 << 13


def pieces(count: int, size: int = CHUNK) -> list[slice]:
    """``count`` rows cut into slices of ``size``."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """``[work(item) for item in items]``, on several threads when there are several items."""
    if len(items) < 2 or usable_cores() < 2:
        return [work(item) for item in items]
    with pool() as threads:
        return list(threads.map(work, items))


@contextmanager
def pool() -> Iterator["ThreadPoolExecutor"]:
    """A thread per core."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(usable_cores()) as threads:
        yield threads


def preallocate(file: BinaryIO, size: int) -> None:
    """Make the open ``file`` as long as ``size`` bytes. Raises OSError when the disk is full."""
    file.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    file.seek(0, os.SEEK_END)
    for piece in pieces(size - file.tell(), 1 << 24):
        file.write(bytes(piece.stop - piece.start))
    file.flush()


def write_at(file: BinaryIO, array: np.ndarray, offset: int) -> None:
    """Write ``array`` at byte ``offset`` of ``file``, open for reading and writing and `preallocate`d; for threads.

    One at a time: threads that the kernel lets wait for each other on one file lose several times what they gain.
    """
    with _writing:
        file.seek(offset)
        file.write(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
        if hasattr(os, "posix_fadvise"):  # the disk begins now, and what it has is not kept in memory for long
            os.posix_fadvise(file.fileno(), offset, array.nbytes, os.POSIX_FADV_DONTNEED)
            if offset > CACHED:
                os.posix_fadvise(file.fileno(), 0, offset - CACHED, os.POSIX_FADV_DONTNEED)
