"""The C++ core: finds the shared library, picks the build variant for this processor, and calls into it.

The library comes as one file per instruction set, ``splat/_lib/libsplat_<variant>.so`` (``.dylib`` on macOS): ``sse2``,
``avx2`` and ``avx512`` on x86-64, ``neon`` on 64-bit ARM. The fastest one that the processor runs is loaded on first
use; the environment variable ``SPLAT_CPU_VARIANT`` forces another.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splat.errors import BackendError, InputError

if TYPE_CHECKING:
    import torch

SUFFIX = ".dylib" if sys.platform == "darwin" else ".so"
INSTALL = "install splat with its core: pip install . (in the source folder; it needs a C++17 compiler)"

_MOST_THREADS = 1024  # as in cpu/thread_pool.cpp
_INVALID = 3  # as in cpu/api.h

_lock = threading.RLock()
_loaded: dict[str, ctypes.CDLL] = {}
_functions: dict[tuple[str, str], Any] = {}
_current: str | None = None
_threads: int = 0


def _file(name: str) -> Path | None:
    """The library ``name`` in the ``_lib`` folder of any place the package lives in (source tree, editable install)."""
    import splat

    for folder in splat.__path__:
        path = Path(folder) / "_lib" / f"libsplat_{name}{SUFFIX}"
        if path.is_file():
            return path
    return None


def _open(path: Path) -> ctypes.CDLL:
    try:
        return ctypes.CDLL(str(path))
    except OSError as error:
        raise BackendError(f"{path} cannot be loaded ({error}); rebuild it for this machine: {INSTALL}") from error


def variants() -> list[str]:
    """The build variants that are installed and that this processor runs, slowest first."""
    probe = _file("probe")
    if probe is None:
        return []
    function = _open(probe).splat_probe_variants
    function.restype = ctypes.c_char_p
    return [name for name in function().decode().split() if _file(name) is not None]


def _choose() -> str:
    runnable = variants()
    forced = os.environ.get("SPLAT_CPU_VARIANT", "")
    if not runnable:
        raise BackendError(f"splat's CPU core (splat/_lib/libsplat_*{SUFFIX}) is not installed; {INSTALL}")
    if forced and forced not in runnable:
        raise InputError(
            f"SPLAT_CPU_VARIANT is '{forced}', but this machine runs {', '.join(runnable)}; unset it or name one"
        )
    return forced or runnable[-1]


def variant() -> str:
    """Name of the variant in use, ``avx512`` for example.

    Raises BackendError when no library is installed, InputError when SPLAT_CPU_VARIANT names one that cannot run.
    """
    global _current
    with _lock:
        if _current is None:
            _current = _choose()
        return _current


def library() -> ctypes.CDLL:
    """The loaded library of the variant in use. Raises like `variant`."""
    with _lock:
        name = variant()
        if name not in _loaded:
            path = _file(name)
            if path is None:
                raise BackendError(f"the CPU core's variant '{name}' has disappeared from splat/_lib; {INSTALL}")
            _loaded[name] = _open(path)
            _loaded[name].splat_set_thread_count(_threads)
        return _loaded[name]


@contextmanager
def use_variant(name: str) -> Iterator[None]:
    """Use the variant ``name`` within the block, for tests and benchmarks (the choice is the whole process's)."""
    global _current
    if name not in variants():
        raise InputError(f"the CPU core has no variant '{name}' that runs here; choose from: {', '.join(variants())}")
    before = variant()
    _current = name
    try:
        yield
    finally:
        _current = before


def function(name: str, argtypes: Sequence[Any], restype: Any = None) -> Any:
    """The exported C function ``name`` of the variant in use, with its C types declared.

    Raises BackendError when the library is older than this Python code.
    """
    lib = library()
    key = (variant(), name)
    if key not in _functions:
        try:
            found = lib[name]  # a new object per lookup, so that declarations of two callers never mix
        except AttributeError as error:
            raise BackendError(
                f"the installed CPU core lacks '{name}', it is older than this splat; {INSTALL}"
            ) from error
        found.argtypes = list(argtypes)
        found.restype = restype
        _functions[key] = found
    return _functions[key]


def threads() -> int:
    """How many threads the core's loops use."""
    return int(library().splat_thread_count())


def set_threads(count: int = 0) -> None:
    """Use ``count`` threads; 0 means the default: the cores that affinity mask and cgroup leave to this process."""
    global _threads
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise ValueError(f"the number of threads is {count}, expected 0 (automatic) or more")
    with _lock:
        library()
        count = min(count, _MOST_THREADS)
        _threads = count
        for lib in _loaded.values():
            lib.splat_set_thread_count(count)


def raise_for(status: int, what: str) -> None:
    """Raise what a C function's ``status`` means: 1 MemoryError, 2 and 3 ValueError; 0 is fine.

    Args:
        what: was being done, for the sentence.
    """
    if status == 1:
        raise MemoryError(f"the CPU core ran out of memory while {what}; use fewer Gaussians or a smaller image")
    if status == _INVALID:
        raise ValueError(f"the CPU core refused the arguments of {what}: a size, a range or a tensor is wrong")
    if status:
        raise ValueError(f"the CPU core cannot index so many elements while {what}; make the input smaller")


def pointer(
    tensor: "torch.Tensor | None", dtype: "torch.dtype | None" = None, shape: Sequence[int] | None = None
) -> int | None:
    """Address of a contiguous CPU tensor's data, for a C function; None stays NULL.

    Raises ValueError for a tensor the core could misread: on another device, not contiguous, not of ``dtype`` or
    ``shape``, or with less memory than its shape needs.
    """
    if tensor is None:
        return None
    check_memory(tensor)
    if shape is not None and tensor.shape != shape:
        raise ValueError(f"the CPU core got a tensor of shape {tuple(tensor.shape)}, expected {tuple(shape)}")
    if not tensor.is_contiguous():
        raise ValueError(
            f"the CPU core got strides {tensor.stride()} for shape {tuple(tensor.shape)}, expected contiguous"
        )
    if dtype is not None and tensor.dtype != dtype:
        raise ValueError(f"the CPU core got a tensor of {tensor.dtype}, expected {dtype}")
    return tensor.data_ptr()


def check_memory(tensor: "torch.Tensor") -> None:
    """Raise ValueError unless ``tensor`` is a plain one on the CPU whose memory holds what its shape claims."""
    try:
        available = tensor.untyped_storage().nbytes() if tensor.is_cpu else -1
    except (NotImplementedError, RuntimeError):  # sparse and other layouts have no such memory
        available = -1
    if available < 0:
        raise ValueError(
            f"the CPU core got a {tensor.layout} tensor on {tensor.device}, expected a plain one on the cpu"
        )
    needed = tensor.nbytes + tensor.storage_offset() * tensor.element_size()
    if needed > available and not tensor.is_contiguous():  # a view may repeat what it has
        extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
        needed = (tensor.storage_offset() + extent) * tensor.element_size()
    if needed > available and tensor.numel():
        raise ValueError(
            f"a tensor of shape {tuple(tensor.shape)} needs {needed} bytes, its memory has {available}: "
            "it was freed or resized"
        )
