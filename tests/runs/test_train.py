"""Whole runs on a tiny scene: they learn, repeat, resume after being killed, and stop before anything is not finite."""

import dataclasses
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time

import plyfile
import pytest
import torch
from support.scenes import TINY, ring_scene

import splat
from splat.cloud import FIELDS
from splat.errors import InputError, NonFiniteError
from splat.runs.train import train
from splat.training import checkpoint
from splat.training.config.config import (
    AppearanceConfig,
    LossConfig,
    PoseConfig,
)

EVERYTHING = dataclasses.replace(
    TINY,
    steps=40,
    strategy="adc",
    antialiased=True,
    random_background=True,
    appearance=AppearanceConfig(exposure=True, bilateral_grid=True),
    pose=PoseConfig(refine=True),
    loss=LossConfig(depth=0.01),
)


@pytest.fixture(scope="module")
def scene():
    return ring_scene()


def train_until(scene, config, run, at=None, resume=False):
    """Train up to step ``at``; the result and the steps that were made."""
    steps = []
    result = train(
        scene, config, run, resume=resume, progress=lambda p: steps.append(p.step), stop=lambda: steps[-1] == at
    )
    return result, steps


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.mark.parametrize("strategy", ["mcmc", "adc"])
def test_a_run_learns_within_its_cap_and_leaves_its_results(scene, strategy, tmp_path):
    config = dataclasses.replace(TINY, strategy=strategy)
    seen = []
    result = train(scene, config, tmp_path / "run", progress=lambda p: seen.append((p.step, p.gaussians, p.loss)))
    assert [step for step, _, _ in seen] == list(range(1, 121))
    assert max(count for _, count, _ in seen) <= 120 and seen[-1][1] > 60
    run = tmp_path / "run"
    written = json.loads((run / "metrics.json").read_text())
    assert written["psnr"] == pytest.approx(result.metrics["psnr"]) and written["psnr"] > 19
    assert written["steps"] == 120 and written["gaussians"] == len(result.cloud) and 0 < written["ssim"] < 1
    assert written["peak_memory_bytes"] > 1e8
    assert [view["name"] for view in written["views"]] == ["000.png", "008.png"]
    steps = [entry["step"] for entry in written["history"]]
    assert steps == sorted(set(steps)) and steps[-1] == 120
    curve = [entry["psnr"] for entry in written["history"] if "psnr" in entry]
    assert len(curve) >= 4 and curve[-1] > curve[0] + 2
    assert len(plyfile.PlyData.read(str(run / "cloud.ply"))["vertex"]) == len(result.cloud)
    assert same(splat.read(run / "cloud.ply"), result.cloud)
    for kind in ("photo", "render", "side_by_side"):
        assert (run / "renders" / f"008_{kind}.jpg").exists()
    assert (run / "report.html").exists()
    assert len(list((run / "checkpoints").iterdir())) == 2


@pytest.mark.parametrize("config", [TINY, EVERYTHING], ids=["mcmc", "everything"])
def test_the_same_seed_repeats_and_another_does_not(scene, config):
    config = dataclasses.replace(config, steps=30)
    first, second = train(scene, config).cloud, train(scene, config).cloud
    other = train(scene, dataclasses.replace(config, seed=1)).cloud
    assert same(first, second) and not (len(first) == len(other) and same(first, other))


@pytest.mark.parametrize("config", [dataclasses.replace(TINY, steps=40), EVERYTHING], ids=["mcmc", "everything"])
def test_a_stopped_run_goes_on_bit_for_bit(scene, config, tmp_path):
    whole = train(scene, config)
    run = tmp_path / "run"
    for number, at in enumerate((9, 10, 25, None)):
        result, steps = train_until(scene, config, run, at, resume=number > 0)
        assert result.finished == (at is None)
    assert steps[0] == 26
    assert same(whole.cloud, result.cloud)
    losses = [(entry["step"], entry["loss"]) for entry in whole.metrics["history"]]
    assert [(entry["step"], entry["loss"]) for entry in result.metrics["history"]] == losses


CHILD = """
import sys
from pathlib import Path
from support.scenes import TINY, ring_scene
from splat.runs.train import train
run = Path(sys.argv[1])


def tell(progress):
    print(progress.step, flush=True)
    sys.stdin.readline()  # until told to go on, so that it is never far ahead of who kills it


train(ring_scene(), TINY, run, resume=run.exists(), progress=tell)
"""


@pytest.mark.slow
def test_a_killed_run_goes_on_bit_for_bit(scene, tmp_path):
    """SIGKILL at five random moments, in the middle of steps and of writing checkpoints."""
    whole = train(scene, TINY).cloud
    chance = random.Random(11)
    run = tmp_path / "run"
    kills, code = 0, None
    while code != 0:
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(run)], text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        if kills < 5:
            for _ in range(chance.randrange(8, 22)):
                child.stdout.readline()
                child.stdin.write("\n")
            child.stdin.write("\n\n\n")
            time.sleep(chance.random() * 0.02)
            child.send_signal(signal.SIGKILL)
            kills += 1
        child.communicate()
        code = child.returncode
        assert code in (0, -signal.SIGKILL)
    assert kills == 5
    assert same(splat.read(run / "cloud.ply"), whole)


def test_ctrl_c_leaves_a_checkpoint(scene, tmp_path):
    config = dataclasses.replace(TINY, steps=40, checkpoint_seconds=0)
    run = tmp_path / "run"

    def press(progress):
        if progress.step == 12:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(scene, config, run, progress=press)
    assert checkpoint.load(run / "checkpoints")["step"] == 12
    assert same(train(scene, config, run, resume=True).cloud, train(scene, config).cloud)


def test_a_broken_checkpoint_is_passed_over(scene, tmp_path):
    config = dataclasses.replace(TINY, steps=30)
    run = tmp_path / "run"
    train_until(scene, config, run, 20)
    newest = run / "checkpoints" / "step_00000020.safetensors"
    newest.write_bytes(newest.read_bytes()[:1000])
    with pytest.warns(UserWarning, match="cannot be read"):
        result = train(scene, config, run, resume=True)
    assert same(result.cloud, train(scene, config).cloud)


def test_nan_stops_the_run_with_the_last_good_state(scene, tmp_path):
    config = dataclasses.replace(TINY, checkpoint_seconds=0)
    run = tmp_path / "run"

    def poison(progress):
        if progress.step == 7:
            progress.cloud.log_scales[3, 1] = float("nan")

    with pytest.raises(NonFiniteError, match=r"log_scales of the cloud \(row 3\) at step 50"):
        train(scene, config, run, progress=poison)
    assert checkpoint.load(run / "checkpoints") is None  # a faulty state is not kept


def test_a_faulty_gradient_is_named_and_the_state_before_it_is_kept(scene, tmp_path, monkeypatch):
    from splat.rendering import reference
    from splat.rendering.backends import REGISTRY

    honest = reference.backward
    calls = []

    def faulty(context, grads):
        calls.append(None)
        found = honest(context, grads)
        if len(calls) == 6:
            found.quats[2, 0] = float("inf")
        return found

    monkeypatch.setitem(REGISTRY, "reference", dataclasses.replace(reference.BACKEND, backward=faulty))
    config = dataclasses.replace(TINY, backend="reference", checkpoint_seconds=0)
    with pytest.raises(NonFiniteError, match="quats is not finite at step 6"):
        train(scene, config, tmp_path / "run")
    kept = checkpoint.load(tmp_path / "run" / "checkpoints")
    assert kept["step"] == 5
    assert all(tensor.isfinite().all() for tensor in kept["population"]["cloud"].values())


def test_minutes_end_the_run(scene):
    config = dataclasses.replace(TINY, minutes=0.05, gaussians=60)
    ticks = itertools.count()
    result = train(scene, config, clock=lambda: 0.02 * next(ticks))
    assert 0.02 * next(ticks) < 3.2
    assert result.metrics["history"][-2]["seconds"] < 3.2
    assert result.metrics["steps"] > 5


def test_masked_pixels_leave_no_trace(scene):
    """A photo's masked part may show anything: the result is the same."""

    def spoiled(colour: int):
        views = []
        for view in scene.views:
            photo = view.load()
            rgb, mask = photo.rgb.clone(), torch.ones(photo.rgb.shape[:2], dtype=torch.bool)
            mask[10:20, 5:30] = False
            rgb[~mask] = colour
            source = dataclasses.replace(view.source, photo=dataclasses.replace(photo, rgb=rgb, mask=mask))
            views.append(dataclasses.replace(view, source=source))
        return dataclasses.replace(scene, views=tuple(views))

    config = dataclasses.replace(TINY, steps=25, strategy="adc")
    dark, bright = train(spoiled(0), config), train(spoiled(255), config)
    assert same(dark.cloud, bright.cloud)
    assert dark.metrics["psnr"] == bright.metrics["psnr"]


def test_a_folder_in_use_is_not_overwritten(scene, tmp_path):
    config = dataclasses.replace(TINY, steps=3)
    run = tmp_path / "run"
    train(scene, config, run)
    before = (run / "cloud.ply").read_bytes()
    with pytest.raises(InputError, match="holds a run already"):
        train(scene, config, run)
    with pytest.raises(InputError, match=r"other settings.*seed"):
        train(scene, dataclasses.replace(config, seed=3), run, resume=True)
    again = train(scene, config, run, resume=True)  # nothing left to do
    assert again.finished and again.metrics["steps"] == 3 and (run / "cloud.ply").read_bytes() == before
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        train(scene, config, tmp_path / "file")
    with pytest.raises(InputError):
        train(scene, config, tmp_path / "file" / "below")


def test_another_scene_is_not_resumed(scene, tmp_path):
    config = dataclasses.replace(TINY, steps=20)
    train_until(scene, config, tmp_path / "run", 5)
    with pytest.raises(InputError, match="same scene"):
        train(ring_scene(views=5), config, tmp_path / "run", resume=True)


def test_a_scene_without_training_photos_is_refused():
    with pytest.raises(InputError, match="training needs at least two"):
        train(ring_scene(views=1), TINY)
