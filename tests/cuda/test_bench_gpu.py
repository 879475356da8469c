"""The GPU benchmark from end to end without a GPU: emulated kernels, stand-ins for gsplat and PyTorch's CUDA calls."""

import json
import sys
from pathlib import Path

import bench_gpu  # noqa: E402
import pytest
import torch
from support import pretend

from splat.rendering import cuda


class Ticking(pretend.Event):
    """Its clock ticks a millisecond at a time."""

    now = 0.0

    def record(self) -> None:
        Ticking.now += 1e-3
        self.at = Ticking.now


@pytest.fixture
def machine(monkeypatch):
    with pretend.machine():
        monkeypatch.setattr(torch.cuda, "Event", Ticking)
        monkeypatch.setattr(bench_gpu, "DEVICE", "cpu")
        monkeypatch.setattr(bench_gpu, "get_backend", lambda name: cuda.BACKEND)
        monkeypatch.setattr(bench_gpu, "check_backend", lambda name: None)
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
            **dict.fromkeys(("forward_ms", "backward_ms", "step_ms"), pytest.approx(1.0)),
            "peak_memory_mb": 2.0,
            "pairs": 0,
        }
    assert row["speedup"] == pytest.approx(1.0) and row["memory_ratio"] == 1.0 and row["splat"]["pairs"] > 0
    assert row["sorting"]["torch_ms"] == pytest.approx(0.1)


def test_what_does_not_fit_is_recorded_and_the_rest_goes_on(machine, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [])

    def full(*arguments):
        raise torch.cuda.OutOfMemoryError

    monkeypatch.setattr(bench_gpu, "peer", full)
    (row,) = run(tmp_path / "bench.json")["rows"]
    assert row["gsplat"] == bench_gpu.FULL and row["splat"]["step_ms"] == pytest.approx(1.0) and "speedup" not in row
    monkeypatch.setattr(cuda, "_backward_adam", full)
    (row,) = run(tmp_path / "bench.json")["rows"]
    assert row["splat"] == row["gsplat"] == bench_gpu.FULL
