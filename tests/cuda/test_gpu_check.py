"""The check for a machine's first hour with a GPU, rehearsed without one; and that it notices what is wrong."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import bench_gpu
import gpu_check
import pytest
import torch
from support import pretend

from splat.rendering import cuda

ROOT = Path(__file__).parents[2]


def run(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    given = os.environ | {"OUT": str(folder), "PYTHON": sys.executable} | environment
    return subprocess.run(["bash", ROOT / "tools" / "gpu_check.sh"], env=given, capture_output=True, text=True)


@pytest.mark.slow
def test_the_rehearsal_passes_and_leaves_one_file_of_results(tmp_path: Path):
    done = run(tmp_path, DRY="1")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "benchmarks" / "some_gpu_x.json").read_text())
    assert set(found) == set(gpu_check.PARTS)
    assert not any("wrong" in row for rows in found.values() for row in rows)
    ours, theirs = found["training"]
    assert (ours["backend"], theirs["backend"]) == ("cuda", "gsplat")
    assert ours["psnr"] == pytest.approx(theirs["psnr"], abs=0.5)  # the same run with other kernels


def interpreter(folder: Path, part: str) -> str:
    """Stands in for Python: every part is right, but for ``part``, which ends with 3."""
    path = folder / "python"
    path.write_text(f'#!/bin/sh\n[ "$2" = {part} ] && exit 3\nexit 0\n')
    path.chmod(0o755)
    return str(path)


def test_a_wrong_part_is_named_and_the_others_still_run(tmp_path: Path):
    done = run(tmp_path / "out", DRY="1", PYTHON=interpreter(tmp_path, "stages"))
    assert done.returncode == 1 and "failed: stages" in done.stdout
    assert "stages: WRONG (exit code 3)" in done.stdout and "photos: right" in done.stdout


def test_what_there_is_no_time_for_counts_as_failed(tmp_path: Path):
    done = run(tmp_path / "out", DRY="1", TOTAL="0", PYTHON=interpreter(tmp_path, "none"))
    assert done.returncode == 1 and "facts: no time left" in done.stdout


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(bench_gpu, "DEVICE", "cpu")
    monkeypatch.setattr(gpu_check, "COUNTS", (60, 90))
    monkeypatch.setattr(gpu_check, "SIZE", (48, 32))
    with pretend.machine():
        yield monkeypatch


def spoiled(ids: torch.Tensor, how: str) -> torch.Tensor:
    ids = ids.clone()
    if how == "empty":
        ids[3] = -1
    elif how == "twice":
        ids[1] = ids[0]
    else:
        ids[:2] = ids[:2].flip(0)
    return ids


@pytest.mark.parametrize("how", ["", "empty", "twice", "unsorted"])
def test_spoiled_lists_are_noticed(small, tmp_path: Path, how: str):
    honest = cuda.forward

    def forward(*arguments, **options):
        rendering, context = honest(*arguments, **options)
        begin = int(context.ranges[context.ranges[:, 1] - context.ranges[:, 0] > 5][0, 0])
        assert begin == 0
        return rendering, dataclasses.replace(context, ids=spoiled(context.ids, how) if how else context.ids)

    small.setattr(cuda, "forward", forward)
    record = gpu_check.Record(tmp_path, "lists")
    gpu_check.lists(record)
    rows = json.loads((tmp_path / "lists.json").read_text())
    assert record.wrong == (1 if how else 0) and all(row[how] == 1 for row in rows if how)


def test_a_picture_unlike_the_reference_is_noticed(small, tmp_path: Path):
    from support import cases

    wrong = cases.case_names[1]
    honest = cases.assert_rendering_matches
    small.setattr(cases, "case_names", [cases.case_names[0], wrong])
    small.setattr(cases, "assert_rendering_matches", lambda found, name: honest(found, wrong))
    record = gpu_check.Record(tmp_path, "agreement")
    gpu_check.agreement(record)
    assert record.wrong == 1
