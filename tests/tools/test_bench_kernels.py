"""The kernel benchmark: its count of contributing pairs against the reference renderer, and a small run."""

import importlib.util
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.patience import wait_for

from splat.native import cpu_library
from splat.rendering import RenderOptions, cpu, reference

pytestmark = pytest.mark.skipif(not cpu_library.variants(), reason="the CPU core is not built")


@pytest.fixture(scope="module")
def bench():
    path = Path(__file__).parents[2] / "tools" / "bench_kernels.py"
    spec = importlib.util.spec_from_file_location("bench_kernels", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def _contributing(cloud, camera) -> int:
    """Blended (Gaussian, pixel) pairs, by the float64 reference."""
    projection = reference.project(cloud.to(dtype=torch.float64), camera, RenderOptions(), camera.world_to_camera)
    total = 0
    for block in reference.blocks(projection, camera):
        means = projection.means2d[block.members].expand(len(block.xs), -1, -1)
        weights, _ = reference.blend_weights(reference.falloffs(projection, block, means))
        total += int((weights > 0).sum())
    return total


@pytest.mark.parametrize("variant", cpu_library.variants())
def test_contributing_pairs_are_those_of_the_reference(bench, variant):
    cloud, camera = bench.synthetic_cloud(700), bench.camera(61)
    with cpu_library.use_variant(variant):
        _, context = cpu.forward(cloud, camera, RenderOptions())
        contributing, evaluated = bench.count_work(context)
    expected = _contributing(cloud, camera)
    assert contributing == pytest.approx(expected, rel=1e-3)  # float32 decides a few thresholds otherwise
    assert contributing < evaluated < 20 * contributing


def test_a_small_run(bench, tmp_path):
    cloud = bench.synthetic_cloud(500)
    row = bench.run(cloud, bench.camera(48), cpu_library.variant(), 1, repeats=2)
    cpu_library.set_threads(0)
    assert row["gaussians"] == 500 and row["visible"] > 100
    assert row["seconds"]["step"] == pytest.approx(sum(row["seconds"].values()) - row["seconds"]["step"], rel=0.5)
    assert 0 < row["outside_blending"] < 1
    assert row["peak_lanes_per_second"] > 1e8
    console = bench.Console(width=200, record=True)
    bench.show([{**row, "sweep": "base"}], console)
    assert "lanes/pair" in console.export_text()
    rows = [{**row, "sweep": sweep} for sweep in ("count", "size")]
    bench.plot(rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000


def test_nothing_is_faster_than_the_peak(bench):
    """A peak below what a matrix product reaches was not one: its loop did something else than multiply-adds."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    cpu_library.set_threads(1)
    matrix = torch.rand(384, 384)
    seconds = []
    for _ in range(30):
        start = time.perf_counter()
        matrix @ matrix
        seconds.append(time.perf_counter() - start)
    try:
        wait_for(lambda: _best_peak(bench) > 384**3 / min(seconds), 20)  # others' work makes a peak look lower
    finally:
        torch.set_num_threads(threads)
        cpu_library.set_threads(0)


def _best_peak(bench) -> float:
    peaks = []
    for name in cpu_library.variants():
        with cpu_library.use_variant(name):
            peaks.append(bench.fma_peak(0.1))
    return max(peaks)


def test_a_cloud_needs_a_scene(bench):
    with pytest.raises(bench.InputError, match="--scene"):
        bench.cases(replace(bench.Options(), cloud=Path("cloud.ply")))
