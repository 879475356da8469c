"""The benchmark of wide lenses: its lenses show each direction, with as many pinhole pixels beside them."""

import importlib
import types
from pathlib import Path

import numpy as np
import pytest

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_lenses")


def test_lenses_show_the_light_of_their_directions(bench, monkeypatch):
    axes = np.array(list(bench.CUBE.values()), float)
    side = 41
    line = (np.arange(side) + 0.5) / side * 2 - 1
    x, y = np.meshgrid(line, line)
    local = np.stack([x, y, np.ones_like(x)], -1)
    cube = np.stack([local @ each for each in axes]).astype(np.float32)  # light is the direction itself
    assert np.allclose(bench.sampled(cube, local[None, 20, 20] @ axes[3]), axes[3, 2], atol=1e-6)
    monkeypatch.setattr("splat.scene.demo.views.to_srgb", lambda light: light)
    for model in bench.LENSES.values():
        width, height = bench.size(model)
        photo = bench.through(model, cube)
        ahead = photo[height // 2, width // 2]
        right = photo[height // 2, width // 2 + round(np.pi / 4 * bench.focal(model))]
        assert np.allclose(ahead, (0, 0, 1), atol=0.06) and np.allclose(right / right[2], (1, 0, 1), atol=0.06)
        below = photo[height // 2 + round(np.pi / 4 * bench.focal(model)), width // 2]
        assert np.allclose(below / below[2], (0, 1, 1), atol=0.06)
    assert not photo[0, 0].any()  # beyond the half turn of the fisheye


def test_there_are_as_many_pinhole_pixels(bench):
    world = types.SimpleNamespace(light=lambda pose: np.zeros((pose.height, pose.width, 3), np.float32))
    for model in bench.LENSES.values():
        width, height = bench.size(model)
        pictures = bench.pinhole_pictures(world, model, np.eye(3), np.zeros(3))
        pixels = sum(picture.shape[0] * picture.shape[1] for *_, picture in pictures)
        shown = width * height * (1 if model == "EQUIRECTANGULAR" else np.pi / 4)
        assert abs(pixels / shown - 1) < 0.02
        for _, camera, _, picture in pictures:
            assert camera.split()[1:3] == [str(picture.shape[1]), str(picture.shape[0])]


def test_the_table_tells_what_a_lens_loses(bench):
    names = [name for lens in bench.LENSES for name in (f"{lens}_pinholes", lens)]
    results = {f"{name}/0": {"psnr": 20.0 + k, "ssim": 0.5} for k, name in enumerate(names)}
    lines = bench.table(results, 1).splitlines()
    assert lines[1] == "|---|---|---|---|---|" and len(lines) == 6
    assert lines[3] == "| equirectangular | 21.00 | 21.00 dB | 0.5000 | +1.00 dB |"
