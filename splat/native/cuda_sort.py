"""Sorting on a GPU: keys, each with a 32-bit value, stable and ascending.

Two ways: `torch.sort`, which is always there but carries 64-bit positions along, and the radix sort of NVIDIA's CCCL
(package ``cuda-cccl``), which moves our 32-bit values. Which is faster is measured once per GPU and kept beside the
compiled kernels; so is what CCCL compiles.
"""

import functools
import hashlib
import importlib
import importlib.metadata
import json
import threading
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from splat.errors import InputError
from splat.files import write_bytes, write_json
from splat.native import nvrtc
from splat.native.cuda_launcher import rounded

_TRIAL = 1 << 22  # pairs that the two ways are timed with
_LOCK = threading.Lock()  # CCCL's sorters keep their arguments in themselves
_KINDS = {torch.int16: "int16", torch.int32: "int32", torch.float32: "float32"}


@dataclass(frozen=True)
class Choice:
    """Which way to sort on a GPU.

    Attributes:
        way: "torch" or "cccl".
        torch_ms, cccl_ms: milliseconds for four million pairs of a 16-bit key and an id; None where not measured.
        reason: why CCCL was not measured; None where it was.
    """

    way: str
    torch_ms: float | None = None
    cccl_ms: float | None = None
    reason: str | None = None

    def __str__(self) -> str:
        if self.reason is not None:
            return f"torch.sort ({self.reason})"
        name, other = ("CCCL radix sort", "torch.sort") if self.way == "cccl" else ("torch.sort", "CCCL radix sort")
        own, others = (self.cccl_ms, self.torch_ms) if self.way == "cccl" else (self.torch_ms, self.cccl_ms)
        return f"{name}, {own:.2f} ms for 4 million pairs ({other}: {others:.2f} ms)"


def sort_pairs(keys: Tensor, values: Tensor | None, count: int, bits: int) -> tuple[Tensor, Tensor]:
    """Sort the first ``count`` pairs by key, equal keys in the order given.

    Args:
        keys: (≥ count,) int16, int32 or float32, none negative. What lies behind ``count`` may be overwritten.
        values: (≥ count,) int32; None stands for 0, 1, 2, …
        count: at least 1.
        bits: lowest bits of the keys that differ at all; the others are 0 (all, for float32).

    Returns:
        Sorted keys and their values (int32), at least ``count`` of each; the rest is undefined.
    """
    if keys.is_cuda and choice(keys.device.index).way == "cccl":
        return by_cccl(keys, values, count, bits)
    return by_torch(keys, values, count)


def by_torch(keys: Tensor, values: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """`sort_pairs` with PyTorch. Sorts the whole buffers, so that its temporary memory has their rounded sizes."""
    if len(keys) > count:
        keys[count:] = torch.finfo(keys.dtype).max if keys.dtype.is_floating_point else torch.iinfo(keys.dtype).max
    found, order = torch.sort(keys, stable=True)
    return found, order.to(torch.int32) if values is None else torch.index_select(values[: len(keys)], 0, order)


def by_cccl(keys: Tensor, values: Tensor | None, count: int, bits: int) -> tuple[Tensor, Tensor]:
    """`sort_pairs` with CCCL."""
    if values is None:
        values = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
    arrays = {
        "d_in_keys": keys,
        "d_out_keys": torch.empty_like(keys),
        "d_in_values": values,
        "d_out_values": torch.empty_like(values),
    }
    with _LOCK:
        sorter = _sorter(keys.dtype, keys.device)
        call = {"num_items": count, "begin_bit": 0, "end_bit": bits, "stream": _stream(keys.device)}
        size = sorter(temp_storage=None, **arrays, **call)
        room = torch.empty(rounded(max(size, 1)), dtype=torch.uint8, device=keys.device)
        sorter(temp_storage=room, **arrays, **call)
    return arrays["d_out_keys"], arrays["d_out_values"]


def _stream(device: torch.device) -> Any:
    """PyTorch's current stream, as CCCL takes it."""
    handle = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return SimpleNamespace(__cuda_stream__=lambda: (0, handle))


# ---- CCCL's package ----


@functools.cache
def library() -> ModuleType | str:
    """``cuda.compute``, or why it cannot be used, as part of a sentence."""
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


@functools.cache
def _sorter(kind: torch.dtype, device: torch.device) -> Any:
    """CCCL's sorter for keys of ``kind``: from the disk, or compiled and put there."""
    compute, path = library(), _cache_path(f"radix-{_KINDS[kind]}", device).with_suffix(".bin")
    if path.is_file():
        return compute.deserialize(path.read_bytes())
    keys, values = torch.empty(1, dtype=kind, device=device), torch.empty(1, dtype=torch.int32, device=device)
    sorter = compute.make_radix_sort(
        d_in_keys=keys,
        d_out_keys=torch.empty_like(keys),
        d_in_values=values,
        d_out_values=torch.empty_like(values),
        order=compute.SortOrder.ASCENDING,
    )
    _keep(lambda: write_bytes(path, sorter.serialize()))
    return sorter


def _cache_path(name: str, device: torch.device) -> Path:
    """A name in the kernels' cache that changes with the GPU, PyTorch and CCCL."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "none"
    text = f"{card} {torch.__version__} {_version()}"
    return nvrtc.cache_folder() / f"{name}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _version() -> str:
    try:
        return importlib.metadata.version("cuda-cccl")
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _keep(write: Any) -> None:
    try:
        write()
    except InputError as error:
        warnings.warn(f"sorting is set up anew in every run: {error}", stacklevel=2)


# ---- which one ----


@functools.cache
def choice(index: int) -> Choice:
    """Which way is faster on GPU ``index``: as measured before, or measured now."""
    device, found = torch.device("cuda", index), library()
    if isinstance(found, str):
        return Choice("torch", reason=found)
    path = _cache_path("sort", device).with_suffix(".json")
    if path.is_file():
        return Choice(**json.loads(path.read_text()))
    try:
        torch_ms, cccl_ms = measure(device, _TRIAL)
    except Exception as error:  # an optional library, compiling for a GPU it may not know: said, and done without
        reason = f"CCCL's radix sort fails here: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        warnings.warn(reason, stacklevel=2)
        return Choice("torch", reason=reason)
    made = Choice("cccl" if cccl_ms < torch_ms else "torch", torch_ms, cccl_ms)
    _keep(lambda: write_json(path, asdict(made)))
    return made


def measure(device: torch.device, count: int) -> tuple[float, float]:
    """Milliseconds of `by_torch` and `by_cccl` on ``count`` random tile numbers with ids; both must agree."""
    keys = torch.randint(0, 8160, (count,), device=device).to(torch.int16)
    ids = torch.arange(count, dtype=torch.int32, device=device)
    found = [by_torch(keys.clone(), ids, count), by_cccl(keys, ids, count, 13)]
    if not all(torch.equal(a[:count], b[:count]) for a, b in zip(*found, strict=True)):
        raise RuntimeError("its result is wrong")
    del found
    return (
        milliseconds(lambda: by_torch(keys, ids, count), device),
        milliseconds(lambda: by_cccl(keys, ids, count, 13), device),
    )


def milliseconds(work: Any, device: torch.device, repeats: int = 10) -> float:
    """Time of ``work`` on the GPU, mean over ``repeats`` after two for warming up."""
    with torch.cuda.device(device):
        for _ in range(2):
            work()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(repeats):
            work()
        end.record()
        end.synchronize()
        return begin.elapsed_time(end) / repeats
