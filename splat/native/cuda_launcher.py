"""Launching the kernels of ``cuda/`` on an NVIDIA GPU, through the driver's own C interface and on PyTorch's stream.

No part of this needs a CUDA toolkit: the driver brings ``libcuda``, `splat.native.nvrtc` brings the compiler. Tests put
an emulation in place of the GPU with `use`.
"""

import ctypes
import functools
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import torch
from torch import Tensor

from splat.errors import BackendError, OutOfMemory
from splat.native import cuda_driver, kernel_cache, nvrtc
from splat.native.compile_ahead import CompileAhead, Unit

Argument = Tensor | ctypes.Structure | int | float | None


class Launcher(Protocol):
    """Something that runs kernels: the GPU, or its emulation."""

    def launch(self, file: str, kernel: str, blocks: int, threads: int, *arguments: Argument) -> None:
        """Run ``kernel`` of ``cuda/<file>.cu`` on ``blocks`` × ``threads``, in order after all earlier work.

        Arguments: tensors as pointers (None: null), int as 32-bit int, float as 32-bit float, structures by value.
        """


def pointer(tensor: Tensor | None, dtype: torch.dtype = torch.float32) -> int | None:
    """Address of a tensor's data; None stays null. Raises ValueError for one that a kernel would misread."""
    if tensor is None:
        return None
    if tensor.dtype != dtype or not tensor.is_contiguous():
        raise ValueError(f"a kernel got {tensor.dtype} with strides {tensor.stride()}, expected contiguous {dtype}")
    return tensor.data_ptr()


def pack(arguments: tuple[Argument, ...]) -> tuple[Any, list[Any]]:
    """Arguments as cuLaunchKernel takes them, an array of addresses of the values, and the values to keep alive.

    Raises ValueError for what a kernel would misread: a tensor that is not contiguous, an int of more than 32 bits.
    """
    values: list[Any] = []
    for argument in arguments:
        if argument is None or isinstance(argument, Tensor):
            values.append(ctypes.c_void_p(None if argument is None else pointer(argument, argument.dtype)))
        elif isinstance(argument, ctypes.Structure):
            values.append(argument)
        elif isinstance(argument, float):
            values.append(ctypes.c_float(argument))
        elif -(2**31) <= argument < 2**31:
            values.append(ctypes.c_int(argument))
        else:
            raise ValueError(f"a kernel got {argument}, which is no 32-bit int")
    addresses = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
    return addresses, values


def blocks_for(count: int, threads: int) -> int:
    """Blocks of ``threads`` that give each of ``count`` items a thread."""
    return (count + threads - 1) // threads


def rounded(count: int) -> int:
    """``count`` rounded up by at most an eighth, so that the caching allocator meets the same sizes again."""
    step = max(1024, 1 << max(count.bit_length() - 4, 0))
    return -(-count // step) * step


# ---- what runs kernels now ----

_instead: Launcher | None = None


def launcher(device: torch.device) -> Launcher:
    """The launcher for tensors on ``device``. Raises BackendError for one that is no GPU."""
    if _instead is not None:
        return _instead
    if device.type != "cuda":
        raise BackendError(f"the cloud lies on '{device}', the CUDA backend needs it on a GPU: cloud.to('cuda')")
    return _gpu(device.index if device.index is not None else torch.cuda.current_device())


def prepare(device: torch.device, kernels: Iterable[tuple[str, str]]) -> None:
    """Say which (file, kernel) are launched soon on ``device``: a GPU compiles them in the background."""
    found = launcher(device)
    if isinstance(found, Gpu):
        found.prepare(kernels)


@contextmanager
def use(instead: Launcher) -> Iterator[None]:
    """Run kernels with ``instead`` within the block, on tensors of any device."""
    global _instead
    before, _instead = _instead, instead
    try:
        yield
    finally:
        _instead = before


@contextmanager
def memory_errors() -> Iterator[None]:
    """Turn PyTorch's out-of-memory error into one sentence."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        free, total = torch.cuda.mem_get_info()
        raise OutOfMemory(
            f"the GPU's memory is full ({(total - free) / 2**30:.1f} of {total / 2**30:.1f} GB in use); "
            "lower --gaussians, raise --downscale, or use --backend cpu"
        ) from error


# ---- the GPU ----


@functools.cache
def _gpu(index: int) -> "Gpu":
    return Gpu(index)


def has_driver() -> bool:
    """Whether NVIDIA's driver is installed, whatever else may be missing."""
    return cuda_driver.library() is not None


class Gpu:
    """One NVIDIA GPU: compiles kernels at first use and keeps them loaded."""

    def __init__(self, index: int) -> None:
        torch.cuda.synchronize(index)  # PyTorch makes the context of a device when it first uses it
        major, minor = torch.cuda.get_device_capability(index)
        self.index = index
        self._context = ctypes.c_void_p()
        device = ctypes.c_int()
        cuda_driver.check(cuda_driver.library().cuDeviceGet(ctypes.byref(device), index), "GPU")
        cuda_driver.check(cuda_driver.library().cuDevicePrimaryCtxRetain(ctypes.byref(self._context), device), "GPU")
        self.capability = 10 * major + minor
        self._modules: dict[Unit, ctypes.c_void_p] = {}
        self._functions: dict[tuple[str, str], ctypes.c_void_p] = {}
        self._lock = threading.Lock()
        self._ahead = CompileAhead(self.capability)

    def prepare(self, kernels: Iterable[tuple[str, str]]) -> None:
        """Compile these (file, kernel) in the background, in this order."""
        self._ahead.add(kernels)

    def launch(self, file: str, kernel: str, blocks: int, threads: int, *arguments: Argument) -> None:
        if blocks == 0:
            return
        function = self._functions.get((file, kernel)) or self._load(file, kernel)
        addresses, _alive = pack(arguments)
        with torch.cuda.device(self.index):
            stream = ctypes.c_void_p(torch.cuda.current_stream(self.index).cuda_stream)
            cuda = cuda_driver.library()
            cuda.cuCtxSetCurrent(self._context)  # a thread that has not used the GPU yet has none
            cuda_driver.check(
                cuda.cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, 0, stream, addresses, None), kernel
            )

    def _load(self, file: str, kernel: str) -> ctypes.c_void_p:
        with self._lock, torch.cuda.device(self.index):
            unit = (file, nvrtc.unit(file, kernel))
            if unit not in self._modules:
                cuda_driver.library().cuCtxSetCurrent(self._context)
                self._modules[unit] = self._module(unit)
            function = ctypes.c_void_p()
            name = kernel.encode()
            found = cuda_driver.library().cuModuleGetFunction(ctypes.byref(function), self._modules[unit], name)
            cuda_driver.check(found, kernel)
            self._functions[file, kernel] = function
            return function

    def _module(self, unit: Unit) -> ctypes.c_void_p:
        """Load the first of `nvrtc.targets` that the driver takes; what it refuses from the cache is compiled anew."""
        file, kernel = unit
        module, status = ctypes.c_void_p(), 0
        aims = nvrtc.targets(self.capability)
        for aim in aims:
            built = self._ahead.take(unit, aim)
            status = cuda_driver.library().cuModuleLoadData(ctypes.byref(module), built.image)
            if status in cuda_driver.REFUSED_IMAGE and built.kept is not None and aim == aims[-1]:
                kernel_cache.discard(built.kept, f"does not load (code {status})")
                image = nvrtc.compiled(file, self.capability, kernel, aim).image
                status = cuda_driver.library().cuModuleLoadData(ctypes.byref(module), image)
            if status not in cuda_driver.REFUSED_IMAGE:
                break
        cuda_driver.check(status, kernel or file)
        return module


# ---- what is missing ----


def missing() -> str | None:
    """None when PyTorch sees a GPU and NVRTC is there; else what is missing and what to install, in one sentence."""
    if torch.version.cuda is None:
        return (
            "this PyTorch was built without CUDA; to use an NVIDIA GPU install one that was (pip install torch "
            "--index-url https://download.pytorch.org/whl/cu128), or use --backend cpu"
        )
    if cuda_driver.library() is None:
        return "no NVIDIA driver was found; install one from https://www.nvidia.com/drivers, or use --backend cpu"
    if not torch.cuda.is_available():
        return _why_unavailable()
    try:
        nvrtc.compiler(None)
    except BackendError as error:
        return str(error)
    return None


@functools.cache
def _usable() -> bool:
    return missing() is None


def runs_on(tensor: Tensor) -> bool:
    """Whether kernels can work on ``tensor``: float32 on a GPU, with NVRTC at hand."""
    return tensor.device.type == "cuda" and tensor.dtype == torch.float32 and _usable()


def _why_unavailable() -> str:
    have, need = cuda_driver.version(), torch.version.cuda
    if have is not None and have[0] < int(need.split(".")[0]):
        return (
            f"the NVIDIA driver supports CUDA {have[0]}.{have[1]} but this PyTorch needs {need}; update the driver, or "
            "use --backend cpu"
        )
    return "an NVIDIA driver is installed but shows no GPU (see nvidia-smi); use --backend cpu to go on without"
