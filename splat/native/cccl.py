"""The radix sort of NVIDIA's CCCL (package ``cuda-cccl``), compiled in a process of its own and kept on disk.

Compiling takes many times longer than the first steps of a training run, so that these do without (see
`splat.native.cuda_sort`). The other process is ended with this one.
"""

import atexit
import functools
import importlib
import importlib.metadata
import os
import subprocess
import sys
import tempfile
import threading
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import IO, TYPE_CHECKING, Any

from splat.errors import BackendError
from splat.native import cuda_driver, kernel_cache, nvrtc

if TYPE_CHECKING:  # the process that compiles does without PyTorch
    import torch

_LOCK = threading.Lock()
_CHILD = "import sys; sys.path[:] = {path!r}; from splat.native.cccl import build; build(*{arguments!r})"


@functools.cache
def library() -> ModuleType | str:
    """``cuda.compute``, or why it cannot be used, as part of a sentence."""
    import torch

    remedy = f"pip install 'cuda-cccl[minimal-cu{(torch.version.cuda or '13').split('.')[0]}]'"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns of what the missing attribute tells, too
            found = importlib.import_module("cuda.compute")
        if all(hasattr(found, name) for name in ("make_radix_sort", "deserialize", "SortOrder")):
            return found
        return f"the installed cuda-cccl has no usable radix sort; {remedy}"
    except ImportError:
        return f"cuda-cccl is not installed; {remedy} may be faster"
    except (RuntimeError, OSError) as error:  # its libraries do not fit the CUDA version
        return f"cuda-cccl does not load: {str(error).splitlines()[0]}"


def on(device: "torch.device") -> AbstractContextManager:
    """Makes ``device`` the current one, as CCCL loads and launches on that."""
    import torch

    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


@functools.cache
def versions(device: "torch.device") -> str:
    """Everything that a sorter, and how fast it is, depends on."""
    import torch

    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "no GPU"
    limit = cuda_driver.version()
    return (
        f"cuda-cccl {_package()}, NVRTC {nvrtc.version()}, driver for CUDA {limit and '.'.join(map(str, limit))}, "
        f"PyTorch {torch.__version__}, {card}"
    )


def _package() -> str:
    try:
        return importlib.metadata.version("cuda-cccl")
    except importlib.metadata.PackageNotFoundError:
        return "none"


# ---- sorters ----

_loaded: dict[tuple[str, "torch.device"], Any] = {}
_children: dict[tuple[str, "torch.device"], tuple[subprocess.Popen, IO[bytes]]] = {}
_failed: dict[tuple[str, "torch.device"], str] = {}


def sorter(kind: "torch.dtype", device: "torch.device", wait: bool) -> Any | None:
    """CCCL's sorter of pairs with keys of ``kind`` and int32 values.

    Args:
        wait: for the compiler, where it is not on disk; else None is returned until it is compiled.

    Raises BackendError where it cannot be compiled.
    """
    key = (str(kind).removeprefix("torch."), device)
    with _LOCK:
        if key in _failed:
            raise BackendError(_failed[key])
        if key not in _loaded:
            found = _find(key, wait)
            if found is None:
                return None
            _loaded[key] = found
        return _loaded[key]


def _find(key: tuple[str, "torch.device"], wait: bool) -> Any | None:
    kind, device = key
    text = versions(device)
    path = kernel_cache.path_of(f"radix-{kind}", text)
    if key not in _children:
        found = _read(path, text, device)
        if found is not None:
            return found
        _children[key] = start(kind, _capability(device), path, text)
    child, said = _children[key]
    if child.poll() is None and not wait:
        return None
    if child.wait() == 0:
        found = _read(path, text, device)
        if found is not None:
            return found
    said.seek(0)
    lines = said.read().decode(errors="replace").strip().splitlines() or [f"{path} cannot be read"]
    _failed[key] = f"CCCL's radix sort does not compile here: {lines[-1]}"
    raise BackendError(_failed[key])


def _read(path: Path, text: str, device: "torch.device") -> Any | None:
    """The sorter at ``path``; None where it is absent or damaged."""
    blob = kernel_cache.read(path, text)
    if blob is None:
        return None
    try:
        with on(device):
            return library().deserialize(blob)
    except Exception as error:  # an optional library, on what another version may have written
        kernel_cache.discard(path, f"does not load ({type(error).__name__}: {error})")
        return None


def _capability(device: "torch.device") -> int | None:
    import torch

    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    return 10 * major + minor


# ---- compiling ----


def start(kind: str, capability: int | None, path: Path, text: str) -> tuple[subprocess.Popen, IO[bytes]]:
    """Begin to compile a sorter in another process, of low priority; returns it, and what it will have said."""
    said = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the process
    code = _CHILD.format(path=sys.path, arguments=(kind, capability, str(path), text))
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said
    )
    atexit.register(child.terminate)
    return child, said


def build(kind: str, capability: int | None, path: str, text: str) -> None:
    """Compile a sorter for a GPU and keep it at ``path``; what the process of `start` does."""
    if hasattr(os, "nice"):
        os.nice(10)  # training goes first
    import numpy as np

    compute = importlib.import_module("cuda.compute")
    keys, values = compute.ProxyArray(getattr(np, kind)), compute.ProxyArray(np.int32)
    made = compute.make_radix_sort(
        d_in_keys=keys,
        d_out_keys=keys,
        d_in_values=values,
        d_out_values=values,
        order=compute.SortOrder.ASCENDING,
        compute_capability=None if capability is None else [capability],
    )
    kernel_cache.write(Path(path), text, made.serialize())
