"""The computed roofline, against numbers worked out by hand."""

import json
import sys
from pathlib import Path

import pytest
import roofline  # noqa: E402

CASE = roofline.Case(gaussians=1000, pixels=2000, pairs=5000, visible=0.5)
BY_NAME = {stage.name: stage for stage in roofline.STAGES}


def test_adam_moves_three_floats_both_ways_for_59_parameters():
    # 59 · 3 · 4 · 2 = 1416 bytes, a radius, and for half of them 16 sums and a colour of 4.
    assert BY_NAME["chain rule, Adam"].traffic(CASE) == 1000 * (1416 + 4) + 500 * (64 + 16)


def test_the_slower_of_memory_and_issue_is_the_bound():
    gpu = roofline.Gpu("G", 10, 1e9, 1e11)  # 4·10¹⁰ instructions and 10¹¹ bytes a second
    assert roofline.bound(gpu, 1e11, 1e9) == (1.0, "memory")
    assert roofline.bound(gpu, 1e10, 8e10) == (2.0, "issue")


def test_counts_take_the_place_of_estimates(tmp_path: Path):
    views = [{"kernels": {"blend_rgb": 10.0, "blend_backward_rgb": 50.0, "compare_images": 1.0,
                          "compare_images_backward": 2.0, "gaussian_backward_adam_sh3": 7.0}}]  # fmt: skip
    views.append({"kernels": {name: 3 * count for name, count in views[0]["kernels"].items()}})
    path = tmp_path / "counts.json"
    path.write_text(json.dumps({"views": views}))
    counts = roofline.counted(path)

    def found(name: str) -> float:
        return roofline.instructions(BY_NAME[name], CASE, counts)

    assert [found(name) for name in ("blend", "blend backward", "loss", "chain rule, Adam")] == [20, 100, 6, 14]
    assert found("project") == BY_NAME["project"].instructions(CASE)


def test_the_table_has_a_row_per_stage_and_their_sum(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["roofline", "--gaussians", "1e6", "--pairs", "5e6"])
    assert roofline.main() == 0
    rows = capsys.readouterr().out.splitlines()[2:]
    assert len(rows) == len(roofline.STAGES) + 1
    h200 = [float(row.split("|")[4].strip(" *").split()[0]) for row in rows]
    assert sum(h200[:-1]) == pytest.approx(h200[-1], abs=0.01)
