"""Sorting: both ways against NumPy, CCCL through a stand-in with its interface, the measured choice, the cache."""

import contextlib
import inspect
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from support.patience import bound, wait_for

from splat import doctor
from splat.native import cccl, cuda_sort, kernel_cache

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


class Child:
    """The process that compiles, as it is seen from here: `done` when the test says so."""

    def __init__(self, work, status: int = 0) -> None:
        self.work, self.status, self.done = work, status, False

    def poll(self) -> int | None:
        return self.status if self.done else None

    def wait(self) -> int:
        if not self.done and self.status == 0:
            self.work()
        self.done = True
        return self.status


@pytest.fixture
def compute(monkeypatch, tmp_path):
    """A stand-in for the module ``cuda.compute``; remembers what it was asked to make, and by which children."""

    def make_radix_sort(*, d_in_keys, d_out_keys, d_in_values, d_out_values, order, compute_capability):
        assert order == "up" and d_in_values == d_out_values == np.int32
        stand_in.made.append((d_in_keys.__name__, compute_capability))
        return Sorter(torch.zeros(0, dtype=getattr(torch, d_in_keys.__name__)))

    def start(kind, capability, path, versions):
        child = Child(lambda: cccl.build(kind, capability, str(path), versions), stand_in.status)
        stand_in.children.append(child)
        return child, io.BytesIO(b"Traceback\nRuntimeError: no such GPU\n")

    stand_in = SimpleNamespace(
        make_radix_sort=make_radix_sort,
        deserialize=lambda blob: Sorter(torch.zeros(0, dtype=getattr(torch, blob.decode().split(".")[1]))),
        SortOrder=SimpleNamespace(ASCENDING="up"),
        ProxyArray=lambda kind: kind,
        made=[],
        children=[],
        status=0,
    )
    monkeypatch.setattr(cccl, "library", lambda: stand_in)
    monkeypatch.setattr(cccl, "start", start)
    monkeypatch.setattr(cccl.os, "nice", lambda by: None)
    monkeypatch.setitem(sys.modules, "cuda.compute", stand_in)
    monkeypatch.setattr(cccl.nvrtc, "version", lambda: "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Card")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(torch.cuda, "device", lambda device: contextlib.nullcontext())
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    anew()
    yield stand_in
    anew()


def anew() -> None:
    """As in the next process."""
    for known in (cccl._loaded, cccl._children, cccl._failed, cuda_sort._choices):
        known.clear()
    cccl.versions.cache_clear()
    cuda_sort._say_once.cache_clear()
    kernel_cache._say_once.cache_clear()


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
    anew()
    cuda_sort.by_cccl(keys, values, 10, 9)
    assert compute.made == [("int16", None)]


@pytest.mark.parametrize("damage", [lambda whole: whole[:-3], lambda whole: b"", lambda whole: whole[:-1] + b"?"])
def test_a_damaged_sorter_is_said_once_and_made_anew(compute, damage):
    keys, values = pairs(torch.int16, 10, 10)
    cuda_sort.by_cccl(keys, values, 10, 9)
    (kept,) = kernel_cache.folder().iterdir()
    whole = kept.read_bytes()
    assert b"cuda-cccl" in whole and b"NVRTC 13.0" in whole and b"driver" in whole and b"no GPU" in whole
    kept.write_bytes(damage(whole))
    anew()
    with pytest.warns(UserWarning, match="damaged") as said:
        cuda_sort.by_cccl(keys, values, 10, 9)
    assert len(said) == 1 and kept.read_bytes() == whole and len(compute.made) == 2


def test_a_sorter_that_cccl_refuses_is_made_anew(compute, monkeypatch):
    keys, values = pairs(torch.int16, 10, 10)
    cuda_sort.by_cccl(keys, values, 10, 9)
    anew()
    honest, calls = compute.deserialize, []

    def deserialize(blob):
        calls.append(blob)
        if len(calls) == 1:
            raise ValueError("made by another version")
        return honest(blob)

    monkeypatch.setattr(compute, "deserialize", deserialize)
    with pytest.warns(UserWarning, match="made by another version"):
        cuda_sort.by_cccl(keys, values, 10, 9)
    assert len(compute.made) == 2


@pytest.mark.parametrize(("times", "way"), [((3.0, 1.0), "cccl"), ((1.0, 3.0), "torch")])
def test_the_faster_way_is_found_once_per_gpu_and_version(compute, monkeypatch, times, way: str):
    calls = []
    monkeypatch.setattr(cuda_sort, "measure", lambda device, count: calls.append(count) or times)
    made = cuda_sort.choice(0)
    assert made.way == way and str(made).startswith("CCCL" if way == "cccl" else "torch.sort, 1.00 ms")
    anew()
    assert cuda_sort.choice(0) == made and len(calls) == 1
    for changed in ((torch.cuda, "get_device_name", lambda device: "Another"), (cccl, "_package", lambda: "9.0")):
        monkeypatch.setattr(*changed)
        anew()
        cuda_sort.choice(0)
    monkeypatch.setattr(cccl.cuda_driver, "version", lambda: (14, 0))
    anew()
    cuda_sort.choice(0)
    assert len(calls) == 4 and compute.made == [("int16", [90])] * 4


def test_a_damaged_choice_is_measured_anew(compute, monkeypatch):
    monkeypatch.setattr(cuda_sort, "measure", lambda device, count: (3.0, 1.0))
    made = cuda_sort.choice(0)
    (kept,) = kernel_cache.folder().glob("sort-*")
    kept.write_bytes(kept.read_bytes()[:-9])
    anew()
    with pytest.warns(UserWarning, match="damaged"):
        assert cuda_sort.choice(0) == made


# ---- in the background ----


class OnGpu(torch.Tensor):
    """A tensor in main memory that says it lies on the second GPU."""

    is_cuda = True

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 1)


@pytest.fixture
def current(compute, monkeypatch):
    """PyTorch's current GPU, followed through ``torch.cuda.device``; CCCL may only be called with the second."""
    now = [0]

    @contextlib.contextmanager
    def device(wanted):
        now.append(wanted.index)
        yield
        now.pop()

    honest, deserialize = Sorter.__call__, compute.deserialize

    def call(self, **arguments):
        assert now[-1] == 1, "CCCL launches on another GPU than the one with the keys"
        return honest(self, **arguments)

    def load(blob):
        assert now[-1] == 1, "CCCL loads on another GPU than the one with the keys"
        return deserialize(blob)

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    monkeypatch.setattr(Sorter, "__call__", call)
    monkeypatch.setattr(compute, "deserialize", load)
    return now


def test_cccl_sorts_on_the_gpu_of_the_keys(current):
    keys, values = pairs(torch.int16, 100, 100)
    found = cuda_sort.by_cccl(keys.as_subclass(OnGpu), values, 100, 9)
    assert torch.equal(found[1], cuda_sort.by_torch(keys, values, 100)[1]) and current == [0]


def test_torch_sorts_until_cccl_is_compiled_and_the_result_is_the_same(current, compute, monkeypatch):
    used, honest = [], {name: getattr(cuda_sort, name) for name in ("by_torch", "by_cccl")}
    for name in honest:
        monkeypatch.setattr(cuda_sort, name, lambda *a, name=name: used.append(name) or honest[name](*a))
    monkeypatch.setattr(cuda_sort, "measure", lambda device, count: (3.0, 1.0))

    def sort() -> torch.Tensor:
        keys, values = pairs(torch.int16, 1000, 1000)
        return cuda_sort.sort_pairs(keys.as_subclass(OnGpu), values, 1000, 9)[1].as_subclass(torch.Tensor)

    first = [sort(), sort()]
    assert used == ["by_torch"] * 2 and len(compute.children) == 1 and compute.made == []
    assert str(cuda_sort.choice(1, wait=False)) == "torch.sort (CCCL's radix sort is being compiled)"
    compute.children[0].wait()
    assert torch.equal(sort(), first[0]) and torch.equal(first[0], first[1]) and used[2:] == ["by_cccl"]
    # Keys of another type have a sorter of their own, compiled when they come.
    depths = torch.rand(50).as_subclass(OnGpu)
    cuda_sort.sort_pairs(depths, torch.arange(50, dtype=torch.int32), 50, 32)
    assert used[3:] == ["by_torch"] and len(compute.children) == 2
    compute.children[1].wait()
    cuda_sort.sort_pairs(depths, torch.arange(50, dtype=torch.int32), 50, 32)
    assert used[4:] == ["by_cccl"]


def test_what_does_not_compile_in_the_background_is_said_once(current, compute):
    compute.status = 1
    keys, values = pairs(torch.int16, 10, 10)
    cuda_sort.sort_pairs(keys.as_subclass(OnGpu), values, 10, 9)
    compute.children[0].done = True
    with pytest.warns(UserWarning, match="does not compile here: RuntimeError: no such GPU"):
        cuda_sort.sort_pairs(keys.as_subclass(OnGpu), values, 10, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cuda_sort.sort_pairs(keys.as_subclass(OnGpu), values, 10, 9)
    assert len(compute.children) == 1


STAND_IN = """
import time
class SortOrder: ASCENDING = "up"
class ProxyArray:
    def __init__(self, kind): self.kind = kind
class Made:
    def __init__(self, kind): self.kind = kind
    def serialize(self): return self.kind.__name__.encode()
def make_radix_sort(*, d_in_keys, d_out_keys, d_in_values, d_out_values, order, compute_capability):
    time.sleep({seconds})
    return Made(d_in_keys.kind)
"""


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``cuda.compute`` on Python's path, that takes some seconds to compile."""

    def make(seconds: float) -> Path:
        folder = tmp_path / "packages" / "cuda"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "compute.py").write_text(STAND_IN.format(seconds=seconds))
        monkeypatch.syspath_prepend(str(folder.parent))
        return folder.parent

    return make


def test_the_process_that_compiles_leaves_a_sorter(package, tmp_path):
    package(0)
    path = tmp_path / "kept" / "sorter.bin"
    child, said = cccl.start("float32", 90, path, "some versions")
    assert child.wait() == 0, said.seek(0) or said.read()
    assert kernel_cache.read(path, "some versions") == b"float32"


def test_the_process_that_compiles_ends_with_this_one(package, tmp_path):
    code = f"import sys; sys.path[:] = {[str(package(600)), *sys.path]!r}\nfrom pathlib import Path\n"
    code += (
        f"from splat.native import cccl\nprint(cccl.start('int16', 90, Path({str(tmp_path / 'sorter')!r}), '')[0].pid)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=bound(60))
    pid = int(found.stdout)
    status = Path(f"/proc/{pid}/stat")
    wait_for(lambda: not status.exists() or status.read_text().rsplit(")", 1)[1].split()[0] == "Z")


# ---- measuring ----


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
    with pytest.warns(UserWarning, match="no kernel image"):
        made = cuda_sort.choice(0)
    assert made.way == "torch" and "no kernel image" in str(made)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cuda_sort.choice(0) == made  # said once


def test_without_the_package_torch_sorts_and_doctor_says_so(monkeypatch):
    monkeypatch.setattr(cccl.importlib, "import_module", lambda name: (_ for _ in ()).throw(ImportError(name)))
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr(doctor, "check_cuda", lambda: None)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    cccl.library.cache_clear()
    anew()
    try:
        (finding,) = doctor.sorting()
    finally:
        cccl.library.cache_clear()
        anew()
    assert finding.state == "ok" and finding.detail == (
        "torch.sort (cuda-cccl is not installed; pip install 'cuda-cccl[minimal-cu12]' may be faster)"
    )


def test_the_real_package_takes_our_calls():
    # Its libraries link against the driver's, so this runs where one is installed, be it without a GPU.
    real = cccl.library()
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
