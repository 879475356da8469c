"""The tools behind docs/sparse.md: rows are real settings, differences are of means, every photo is held out once."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest
from support.scenes import row_scene

from splat.training.config.config import check

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_sparse"), importlib.import_module("bench_wild")


def test_every_row_is_a_valid_setting_that_differs_from_what_it_is_compared_with(tools):
    sparse, wild = tools
    for base, group in sparse.ABLATION.items():
        for make in group.values():
            config = make()
            check(config)
            assert config != sparse.MAIN[base]()
    for changes in wild.ROWS.values():
        check(wild.plain(100, **changes))


def test_the_ablation_tells_differences_of_means(tools):
    sparse, _ = tools
    scores = {
        "a/3/base": (10, 0.5),
        "b/3/base": (12, 0.6),
        "a/3/part": (11, 0.5),
        "b/3/part": (10, 0.5),
        "a/3/late": (9, 0),
    }
    results = {key: {"psnr": psnr, "ssim": ssim} for key, (psnr, ssim) in scores.items()}
    lines = sparse.ablation(results, ["part", "late"], "base", ["a", "b"], 3).splitlines()
    assert lines[2:] == [
        "| base | 10.00 | 12.00 | 11.00 |  | 0.550 |  |",
        "| part | 11.00 | 10.00 | 10.50 | −0.50 | 0.500 | −0.050 |",
    ]


def test_every_photo_is_held_out_once(tools):
    _, wild = tools
    scene = row_scene(7)
    scene = replace(scene, points=replace(scene.points, measured=True))
    held = [[view.name for view in wild.fold(scene, number, 3).test_views] for number in range(3)]
    assert sorted(name for names in held for name in names) == sorted(view.name for view in scene.views)
