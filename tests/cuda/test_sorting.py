"""Sorting: both ways against NumPy, CCCL through a stand-in with its interface, the measured choice, the cache."""

import inspect
import json
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from splat import doctor
from splat.native import cuda_sort

KINDS = [torch.int16, torch.int32, torch.float32]
CPU = torch.device("cpu")


class Sorter:
    """What `cuda.compute.make_radix_sort` of cuda-cccl 1.2 returns, on arrays in main memory."""

    def __init__(self, keys) -> None:
        self.kind = keys.dtype

    def __call__(
        self, *, temp_storage, d_in_keys, d_out_keys, d_in_values, d_out_values, num_items, begin_bit=None,
        end_bit=None, stream=None,
    ):  # fmt: skip
        assert stream.__cuda_stream__() == (0, 0) and d_in_keys.dtype == self.kind and begin_bit == 0
        arrays = (d_in_keys, d_out_keys, d_in_values, d_out_values)
        assert len({array.data_ptr() for array in arrays}) == 4 and all(len(array) >= num_items for array in arrays)
        if temp_storage is None:
            return 5 * num_items
        assert temp_storage.nbytes >= 5 * num_items
        keys = d_in_keys[:num_items].numpy()
        masked = keys if keys.dtype.kind == "f" else keys & ((1 << end_bit) - 1)
        order = np.argsort(masked, kind="stable")
        d_out_keys[:num_items] = torch.from_numpy(keys[order])
        d_out_values[:num_items] = d_in_values[:num_items][torch.from_numpy(order)]
        return 5 * num_items

    def serialize(self) -> bytes:
        return str(self.kind).encode()


@pytest.fixture
def compute(monkeypatch, tmp_path):
    """A stand-in for the module ``cuda.compute``; remembers what it was asked to make."""
    made = []

    def make_radix_sort(*, d_in_keys, d_out_keys, d_in_values, d_out_values, order, compute_capability=None):
        assert order == "up" and d_in_values.dtype == d_out_values.dtype == torch.int32
        made.append(d_in_keys.dtype)
        return Sorter(d_in_keys)

    stand_in = SimpleNamespace(
        make_radix_sort=make_radix_sort,
        deserialize=lambda blob: Sorter(torch.zeros(0, dtype=getattr(torch, blob.decode().split(".")[1]))),
        SortOrder=SimpleNamespace(ASCENDING="up"),
        made=made,
    )
    monkeypatch.setattr(cuda_sort, "library", lambda: stand_in)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    cuda_sort._sorter.cache_clear()
    cuda_sort.choice.cache_clear()
    yield stand_in
    cuda_sort._sorter.cache_clear()
    cuda_sort.choice.cache_clear()


def pairs(kind: torch.dtype, count: int, room: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    keys = torch.randint(0, 500, (room,), generator=generator).to(kind)  # many equal ones
    return keys, torch.randperm(room, generator=generator).to(torch.int32)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("numbered", [False, True])
@pytest.mark.parametrize("way", ["torch", "cccl"])
def test_pairs_are_sorted_and_equal_keys_stay_in_order(compute, kind: torch.dtype, numbered: bool, way: str):
    count = 1000
    keys, values = pairs(kind, count, 1000 if numbered else 1024)
    before, given = keys.clone().numpy()[:count], None if numbered else values
    if way == "torch":
        found, ids = cuda_sort.by_torch(keys, given, count)
    else:
        found, ids = cuda_sort.by_cccl(keys, given, count, 9)
    order = np.argsort(before, kind="stable")
    assert ids.dtype == torch.int32 and np.array_equal(found[:count].numpy(), before[order])
    assert np.array_equal(ids[:count].numpy(), order if numbered else values.numpy()[order])


def test_cccl_is_compiled_once_and_kept_on_disk(compute):
    keys, values = pairs(torch.int16, 10, 10)
    for _ in range(2):
        cuda_sort.by_cccl(keys, values, 10, 9)
    assert compute.made == [torch.int16]
    cuda_sort._sorter.cache_clear()  # as in the next process
    cuda_sort.by_cccl(keys, values, 10, 9)
    assert compute.made == [torch.int16]


@pytest.mark.parametrize(("times", "way"), [((3.0, 1.0), "cccl"), ((1.0, 3.0), "torch")])
def test_the_faster_way_is_found_once_per_gpu(compute, monkeypatch, times, way: str):
    calls = []
    monkeypatch.setattr(cuda_sort, "measure", lambda device, count: calls.append(count) or times)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    made = cuda_sort.choice(0)
    assert made.way == way and str(made).startswith("CCCL" if way == "cccl" else "torch.sort, 1.00 ms")
    cuda_sort.choice.cache_clear()
    assert cuda_sort.choice(0) == made and len(calls) == 1
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Another card")
    cuda_sort.choice.cache_clear()
    cuda_sort.choice(0)
    assert len(calls) == 2


def test_both_are_timed_on_the_same_pairs_and_must_agree(compute, monkeypatch):
    timed = []
    monkeypatch.setattr(cuda_sort, "milliseconds", lambda work, device: timed.append(work()) or float(len(timed)))
    assert cuda_sort.measure(CPU, 5000) == (1.0, 2.0)
    assert torch.equal(timed[0][1], timed[1][1])
    monkeypatch.setattr(cuda_sort, "by_cccl", lambda keys, ids, count, bits: (keys, ids))
    with pytest.raises(RuntimeError, match="wrong"):
        cuda_sort.measure(CPU, 5000)


def test_a_library_that_fails_is_said_and_done_without(compute, monkeypatch):
    def fail(device, count):
        raise RuntimeError("no kernel image")

    monkeypatch.setattr(cuda_sort, "measure", fail)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    with pytest.warns(UserWarning, match="no kernel image"):
        made = cuda_sort.choice(0)
    assert made.way == "torch" and "no kernel image" in str(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cuda_sort.choice(0) == made  # said once


def test_without_the_package_torch_sorts_and_doctor_says_so(monkeypatch):
    monkeypatch.setattr(cuda_sort.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(doctor, "check_cuda", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    cuda_sort.library.cache_clear()
    cuda_sort.choice.cache_clear()
    try:
        (finding,) = doctor.sorting()
    finally:
        cuda_sort.library.cache_clear()
        cuda_sort.choice.cache_clear()
    assert finding.state == "ok" and finding.detail == (
        "torch.sort (cuda-cccl is not installed; pip install 'cuda-cccl[minimal-cu12]' may be faster)"
    )


def test_the_real_package_takes_our_calls():
    # Its libraries link against the driver's, so this runs where one is installed, be it without a GPU.
    real = cuda_sort.library()
    if isinstance(real, str):
        pytest.skip(real)
    arrays = dict.fromkeys(("d_in_keys", "d_out_keys", "d_in_values", "d_out_values"))
    inspect.signature(real.make_radix_sort).bind(**arrays, order=real.SortOrder.ASCENDING)
    kind, value = (real.ProxyArray(getattr(np, name)) for name in ("int16", "int32"))
    proxies = {"d_in_keys": kind, "d_out_keys": kind, "d_in_values": value, "d_out_values": value}
    sorter = real.make_radix_sort(**proxies, order=real.SortOrder.ASCENDING, compute_capability=[90])
    inspect.signature(sorter).bind(temp_storage=None, **arrays, num_items=1, begin_bit=0, end_bit=13, stream=None)
    blob = sorter.serialize()
    assert len(blob) > 10_000 and type(real.deserialize(blob)) is type(sorter)


def test_choices_survive_the_disk():
    made = cuda_sort.Choice("cccl", 2.0, 1.0)
    assert cuda_sort.Choice(**json.loads(json.dumps(vars(made)))) == made
