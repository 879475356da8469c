"""The C++ core's loader, thread pool and vector math, in every build variant this machine runs."""

import ctypes
import os
import subprocess
import sys
import threading

import pytest
import torch

from splat.errors import BackendError, InputError
from splat.native import cpu_library

VARIANTS = cpu_library.variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="the CPU core is not built")
P, I64, INT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


@pytest.fixture(params=VARIANTS)
def variant(request):
    with cpu_library.use_variant(request.param):
        yield request.param


@pytest.fixture
def restore_threads():
    yield
    cpu_library.set_threads(0)


def _math(which: int, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    out = torch.empty_like(a)
    cpu_library.function("splat_test_math", [INT, I64, P, P, P])(
        which, a.numel(), cpu_library.pointer(a), cpu_library.pointer(b), cpu_library.pointer(out)
    )
    return out


def _pool(count: int, chunk: int, fixed: bool) -> int:
    total = ctypes.c_int64(0)
    cpu_library.function("splat_test_pool", [I64, I64, INT, P])(count, chunk, int(fixed), ctypes.addressof(total))
    return total.value


def test_the_library_says_its_variant(variant):
    assert cpu_library.function("splat_variant", [], ctypes.c_char_p)().decode() == variant
    assert (
        cpu_library.function("splat_vector_width", [], INT)()
        == {"sse2": 4, "neon": 4, "avx2": 8, "avx512": 16}[variant]
    )


def test_exp_and_log_are_accurate(variant):
    x = torch.linspace(-87, 88, 100_003)
    exact = x.double().exp()
    assert ((_math(0, x, x).double() - exact).abs() / exact).max() < 2e-7
    positive = torch.cat([torch.logspace(-37, 38, 50_001), torch.linspace(0.5, 2, 50_002)])
    exact = positive.double().log()
    assert ((_math(1, positive, positive).double() - exact).abs() / exact.abs().clamp_min(1)).max() < 1.2e-7
    assert torch.equal(_math(0, torch.tensor([-200.0, 0.0]), x[:2]) > 0, torch.tensor([True, True]))


def test_vector_operations_match_pytorch(variant):
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(1003, generator=generator) * 50
    b = torch.randn(1003, generator=generator) * 50
    torch.testing.assert_close(_math(2, a, b), a.sigmoid(), rtol=1e-6, atol=1e-37)
    torch.testing.assert_close(_math(3, a, b), (a.double() * b.double() + a.double()).float(), rtol=1e-6, atol=1e-3)
    assert torch.equal(_math(4, a, b), torch.minimum(a, b))
    assert torch.equal(_math(5, a, b), torch.maximum(a, b))
    assert torch.equal(_math(6, a, b), a.floor())
    assert torch.equal(_math(7, a.abs(), b), a.abs().double().sqrt().float())
    assert torch.equal(_math(8, a, b), torch.copysign(a, b))
    assert torch.equal(_math(9, a, b), torch.minimum(a, b))
    assert torch.equal(_math(10, a, b), a.round())


def test_masks_and_sums(variant):
    width = cpu_library.function("splat_vector_width", [], INT)()
    generator = torch.Generator().manual_seed(2)
    a = torch.randint(-2, 3, (64 * width,), generator=generator).float()
    b = torch.randint(-1, 3, (64 * width,), generator=generator).float()
    a[:width], b[:width], b[width : 2 * width] = 1, 2, -9
    out = torch.zeros(64, dtype=torch.int32)
    cpu_library.function("splat_test_masks", [I64, P, P, P])(
        a.numel(), cpu_library.pointer(a), cpu_library.pointer(b), cpu_library.pointer(out)
    )
    lanes = ((a < b) & (a != 0)).reshape(64, width)
    expected = (~lanes.any(1)).int() + 2 * lanes.any(1).int() + 4 * lanes.all(1).int() + 8 * lanes.sum(1).int()
    assert torch.equal(out, expected.int())
    assert torch.equal(_math(11, a, b).reshape(64, width)[:, 0], a.reshape(64, width).sum(1))


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("fixed", [False, True])
def test_every_item_of_a_loop_runs_once(variant, count, fixed, restore_threads):
    cpu_library.set_threads(count)
    assert cpu_library.threads() == count
    for items, chunk in ((0, 1), (1, 1), (5, 10), (1000, 1), (1001, 7)):
        assert _pool(items, chunk, fixed) == 3 * items * (items + 1) // 2


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_what_a_body_throws_leaves_the_loop_when_all_threads_are_done(threads, restore_threads):
    running = I64(-1)
    failing = cpu_library.function("splat_test_pool_failure", [I64, P], INT)
    for _ in range(20):
        cpu_library.set_threads(threads)
        assert failing(100, ctypes.addressof(running)) == 1 and running.value == 0
        assert failing(2, ctypes.addressof(running)) == 0
        assert _pool(500, 3, False) == 3 * 125250


def test_several_python_threads_share_the_pool(restore_threads):
    cpu_library.set_threads(3)
    results: list[int] = []

    def many() -> None:
        results.extend(_pool(500, 3, False) for _ in range(50))

    workers = [threading.Thread(target=many) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert results == [3 * 500 * 501 // 2] * 200


def test_the_pool_works_in_a_forked_child(restore_threads):
    cpu_library.set_threads(3)
    _pool(100, 1, False)
    child = os.fork()
    if child == 0:
        os._exit(0 if _pool(100, 1, False) == 3 * 5050 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _pool(100, 1, False) == 3 * 5050


def test_the_default_number_of_threads_respects_affinity():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity masks on this system")
    code = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); "
    code += "from splat.native import cpu_library; print(cpu_library.threads())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"


def test_the_environment_forces_a_variant():
    def run(name: str) -> subprocess.CompletedProcess:
        environment = {**os.environ, "SPLAT_CPU_VARIANT": name}
        code = "from splat.native import cpu_library; cpu_library.library(); print(cpu_library.variant())"
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)

    for name in VARIANTS:
        assert run(name).stdout.strip() == name
    wrong = run("mmx")
    assert wrong.returncode != 0 and "SPLAT_CPU_VARIANT is 'mmx'" in wrong.stderr


def test_a_missing_library_is_explained(monkeypatch):
    monkeypatch.setattr(cpu_library, "_file", lambda name: None)
    monkeypatch.setattr(cpu_library, "_current", None)
    with pytest.raises(BackendError, match="pip install"):
        cpu_library.library()


def test_a_missing_function_is_explained():
    with pytest.raises(BackendError, match="older than this splat"):
        cpu_library.function("splat_function_of_the_future", [])


def test_wrong_variants_and_tensors_are_refused():
    with pytest.raises(InputError, match="no variant"), cpu_library.use_variant("mmx"):
        pass
    with pytest.raises(ValueError, match="contiguous"):
        cpu_library.pointer(torch.zeros(4, 4).T)
    with pytest.raises(ValueError, match="float32"):
        cpu_library.pointer(torch.zeros(4, dtype=torch.float64), torch.float32)
    assert cpu_library.pointer(None) is None
