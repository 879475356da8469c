"""The GPU benchmark from end to end without a GPU: emulated kernels, stand-ins for gsplat and PyTorch's CUDA calls."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import bench_gpu
import pytest
import torch
from support.emulator import Emulator

from splat.native import cuda_launcher
from splat.rendering import cuda


class Event:
    """A CUDA event with a clock that ticks a millisecond at a time."""

    now = 0.0

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        Event.now += 1.0
        self.at = Event.now

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "Event") -> float:
        return end.at - self.at


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, far_plane=1e10, *,
    sh_degree, packed,
):  # fmt: skip
    """A picture that depends on everything."""
    assert colors.shape[1:] == (16, 3) and viewmats.shape == (1, 4, 4) and Ks.shape == (1, 3, 3) and not packed
    total = means.sum() + quats.sum() + scales.sum() + opacities.sum() + colors.sum()
    return total.expand(1, height, width, 3), None, {}


@pytest.fixture
def machine(monkeypatch):
    card = SimpleNamespace(name="Some GPU/X", major=9, minor=0, multi_processor_count=132, total_memory=8 << 30)
    replaced = {
        "Event": Event,
        "current_device": lambda: 0,
        "device": lambda index: torch.no_grad(),  # any context
        "empty_cache": lambda: None,
        "get_device_properties": lambda index: card,
        "max_memory_allocated": lambda: 3 << 20,
        "memory_allocated": lambda: 1 << 20,
        "mem_get_info": lambda: (0, 8 << 30),
        "reset_peak_memory_stats": lambda: None,
    }
    for name, value in replaced.items():
        monkeypatch.setattr(torch.cuda, name, value)
    monkeypatch.setattr(bench_gpu, "DEVICE", "cpu")
    monkeypatch.setattr(bench_gpu, "get_backend", lambda name: cuda)
    monkeypatch.setattr(bench_gpu, "check_backend", lambda name: None)
    monkeypatch.setattr(bench_gpu.cuda_sort, "choice", lambda index: "torch.sort")
    stand_in = SimpleNamespace(rasterization=rasterization, __version__="1.5.3")
    monkeypatch.setitem(sys.modules, "gsplat", stand_in)
    with cuda_launcher.use(Emulator()):
        yield monkeypatch


def run(out: Path, *more: str) -> dict:
    sys.argv = ["bench_gpu", "--gaussians", "40", "--sizes", "32x16", "--repeats", "2", "--out", str(out), *more]
    assert bench_gpu.main() == 0
    return json.loads(out.read_text())


def test_all_is_measured_and_written(machine, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])
    found = run(tmp_path / "bench.json")
    assert found["gpu"] == "Some GPU/X" and found["capability"] == "9.0" and found["gsplat"] == "1.5.3"
    (row,) = found["rows"]
    for rasterizer in ("splat", "gsplat"):
        assert row[rasterizer] | {"pairs": 0} == {
            **dict.fromkeys(("forward_ms", "backward_ms", "step_ms"), 1.0),
            "peak_memory_mb": 2.0,
            "pairs": 0,
        }
    assert row["speedup"] == row["memory_ratio"] == 1.0 and row["splat"]["pairs"] > 0
    assert row["sorting"]["torch_ms"] == pytest.approx(0.1)


def test_what_does_not_fit_is_recorded_and_the_rest_goes_on(machine, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])

    def full(*arguments):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(bench_gpu, "peer", full)
    (row,) = run(tmp_path / "bench.json")["rows"]
    assert row["gsplat"] == bench_gpu.FULL and row["splat"]["step_ms"] == 1.0 and "speedup" not in row
    monkeypatch.setattr(cuda, "_backward_adam", full)
    (row,) = run(tmp_path / "bench.json")["rows"]
    assert row["splat"] == row["gsplat"] == bench_gpu.FULL
