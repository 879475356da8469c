"""Work on rows of a cloud in pieces that fit the caches, on all cores: NumPy runs outside Python's lock."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

# Rows of a piece: 15 MB of degree-3 Gaussians.
CHUNK = 1 << 16


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def pieces(count: int, size: int = CHUNK) -> list[slice]:
    """``count`` rows cut into slices of ``size``."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def each(work: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """``[work(item) for item in items]``, on several threads when there are several items."""
    if len(items) < 2 or cores() < 2:
        return [work(item) for item in items]
    with pool() as threads:
        return list(threads.map(work, items))


@contextmanager
def pool() -> Iterator["ThreadPoolExecutor"]:
    """A thread per core."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(cores()) as threads:
        yield threads


def write_at(file: BinaryIO, array: np.ndarray, offset: int) -> None:
    """Write ``array`` at byte ``offset`` of the open ``file``; threads may do so at once."""
    data = memoryview(np.ascontiguousarray(array)).cast("B") if array.size else b""
    while data:
        written = os.pwrite(file.fileno(), data, offset)
        data, offset = data[written:], offset + written
