"""The benchmark of structure from motion: errors after the best similarity, its table, and going on where it was."""

import importlib
import json
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from scipy.spatial.transform import Rotation

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def bench(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    return importlib.import_module("bench_sfm")


def pose(turn: Rotation, centre) -> np.ndarray:
    return np.concatenate([turn.as_matrix(), -turn.as_matrix() @ np.reshape(centre, (3, 1))], 1)


def test_errors_are_those_left_by_the_best_similarity(bench):
    rng = np.random.default_rng(0)
    turns, centres = Rotation.random(60, random_state=0), rng.normal(size=(60, 3))
    truth = {f"{k}": pose(turns[k], centres[k]) for k in range(60)}
    world = Rotation.from_euler("xyz", [30, 50, -70], degrees=True)  # the other frame: x' = 3 W x + t
    moved = {
        name: pose(turns[k] * world.inv(), 3 * world.apply(centres[k]) + [1, 2, 3]) for k, name in enumerate(truth)
    }
    assert max(bench.compare(moved, truth).values()) < 1e-4
    tilt = Rotation.from_rotvec([0, 0, np.radians(2)])
    moved["4"] = pose(tilt * turns[4] * world.inv(), 3 * world.apply(centres[4]) + [1, 2, 3])
    found = bench.compare(moved, truth)
    assert found["rotation_worst"] == pytest.approx(2, abs=1e-3) and found["rotation_median"] < 1e-3
    radius = np.sqrt(((centres - centres.mean(0)) ** 2).sum(1).mean())
    moved["4"][:, 3] -= moved["4"][:, :3] @ (3 * radius * np.array([0.01, 0, 0]))  # aside by a hundredth of the radius
    # The alignment of sixty cameras takes but a little of it.
    assert bench.compare(moved, truth)["position_worst"] == pytest.approx(1, abs=0.1)
    assert bench.compare(dict(list(moved.items())[:2]), truth) == {}


def test_what_is_measured_is_kept_and_shown(bench, tmp_path, monkeypatch, capsys):
    from splat.scene.sfm import reconstruct

    (tmp_path / "data/horse16/images").mkdir(parents=True)
    for k in range(3):
        PIL.Image.new("RGB", (32, 24)).save(tmp_path / f"data/horse16/images/{k}.jpg")
    matched = []

    def match_photos(work, photos, ordered, report):
        matched.append(len(photos))
        return work / "database.db"

    monkeypatch.setattr(reconstruct, "match_photos", match_photos)
    monkeypatch.setattr(bench, "measure", lambda work, photos, database, way, truth: {
        "photos": len(photos), "registered": 3 if way == "global" else 0, "points": 1234, "reprojection": 0.456,
        "cpu_seconds": 1.26,
    })  # fmt: skip
    results = tmp_path / "sfm.jsonl"
    words = ["bench_sfm.py", str(tmp_path / "data"), "--results", str(results), "--work", str(tmp_path / "work")]
    monkeypatch.setattr("sys.argv", [*words, "--sets", "horse16"])
    bench.main()
    rows = [json.loads(line) for line in results.read_text().splitlines()]
    assert [row["way"] for row in rows] == list(bench.WAYS) and matched == [3]
    results.write_text("".join(json.dumps(row) + "\n" for row in rows[:2]))
    bench.main()  # only what is missing, with the matches of before
    assert [json.loads(line)["way"] for line in results.read_text().splitlines()] == list(bench.WAYS) and matched == [3]
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", [*words, "--table"])
    bench.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[2] == "| horse16 | incremental | 0 of 3 | – | – | 1.3 | – | – |"
    assert lines[4] == "| horse16 | global | 3 of 3 | 1,234 | 0.46 | 1.3 | – | – |"
