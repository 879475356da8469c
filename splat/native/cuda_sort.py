"""Sorting on a GPU: keys, each with a 32-bit value, stable and ascending.

Two ways: `torch.sort`, which is always there but carries 64-bit positions along, and the radix sort of NVIDIA's CCCL
(`splat.native.cccl`), which moves our 32-bit values. Which is faster is measured once per GPU and kept beside the
compiled kernels. Until CCCL is compiled `torch.sort` serves; both are stable, so that their results are the same.
"""

import functools
import json
import threading
import warnings
from dataclasses import asdict, dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from splat.errors import BackendError
from splat.native import cccl, kernel_cache
from splat.native.cuda_launcher import rounded

_TRIAL = 1 << 22  # pairs that the two ways are timed with
_LOCK = threading.Lock()  # CCCL's sorters keep their arguments in themselves


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
    if keys.is_cuda and choice(keys.device.index, wait=False).way == "cccl" and _compiled(keys):
        return by_cccl(keys, values, count, bits)
    return by_torch(keys, values, count)


def _compiled(keys: Tensor) -> bool:
    """Whether CCCL's sorter for such keys is there; begins to compile it where it is not."""
    try:
        return cccl.sorter(keys.dtype, keys.device, wait=False) is not None
    except BackendError as error:
        _say_once(str(error))
        return False


def by_torch(keys: Tensor, values: Tensor | None, count: int) -> tuple[Tensor, Tensor]:
    """`sort_pairs` with PyTorch. Sorts the whole buffers, so that its temporary memory has their rounded sizes."""
    if len(keys) > count:
        keys[count:] = torch.finfo(keys.dtype).max if keys.dtype.is_floating_point else torch.iinfo(keys.dtype).max
    found, order = torch.sort(keys, stable=True)
    return found, order.to(torch.int32) if values is None else torch.index_select(values[: len(keys)], 0, order)


def by_cccl(keys: Tensor, values: Tensor | None, count: int, bits: int) -> tuple[Tensor, Tensor]:
    """`sort_pairs` with CCCL. Waits for it to be compiled. Raises BackendError where it does not compile."""
    with cccl.on(keys.device):
        if values is None:
            values = torch.arange(len(keys), dtype=torch.int32, device=keys.device)
        arrays = {
            "d_in_keys": keys,
            "d_out_keys": torch.empty_like(keys),
            "d_in_values": values,
            "d_out_values": torch.empty_like(values),
        }
        sorter = cccl.sorter(keys.dtype, keys.device, wait=True)
        with _LOCK:
            call = {"num_items": count, "begin_bit": 0, "end_bit": bits, "stream": _stream(keys.device)}
            size = sorter(temp_storage=None, **arrays, **call)
            room = keys.new_empty(rounded(max(size, 1)), dtype=torch.uint8)
            sorter(temp_storage=room, **arrays, **call)
    return arrays["d_out_keys"], arrays["d_out_values"]


def _stream(device: torch.device) -> Any:
    """PyTorch's current stream, as CCCL takes it."""
    handle = torch.cuda.current_stream(device).cuda_stream if device.type == "cuda" else 0
    return SimpleNamespace(__cuda_stream__=lambda: (0, handle))


@functools.cache
def _say_once(sentence: str) -> None:
    warnings.warn(sentence, stacklevel=3)


# ---- which one ----

_choices: dict[int, Choice] = {}


def choice(index: int, wait: bool = True) -> Choice:
    """Which way is faster on GPU ``index``: as measured before, or measured now.

    Args:
        wait: for CCCL to be compiled; else it is `torch.sort` until then.
    """
    found = _choices.get(index) or _choose(torch.device("cuda", index), wait)
    if found is None:
        return Choice("torch", reason="CCCL's radix sort is being compiled")
    _choices[index] = found
    return found


def _choose(device: torch.device, wait: bool) -> Choice | None:
    library = cccl.library()
    if isinstance(library, str):
        return Choice("torch", reason=library)
    versions = cccl.versions(device)
    path = kernel_cache.path_of("sort", versions)
    kept = kernel_cache.read(path, versions)
    if kept is not None:
        return Choice(**json.loads(kept))
    try:
        if cccl.sorter(torch.int16, device, wait) is None:
            return None
        torch_ms, cccl_ms = measure(device, _TRIAL)
    except Exception as error:  # an optional library, compiling for a GPU it may not know: said, and done without
        reason = f"CCCL's radix sort fails here: {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        warnings.warn(reason, stacklevel=2)
        return Choice("torch", reason=reason)
    made = Choice("cccl" if cccl_ms < torch_ms else "torch", torch_ms, cccl_ms)
    kernel_cache.write(path, versions, json.dumps(asdict(made)).encode())
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
