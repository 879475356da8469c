"""Run folders that were damaged, mixed up, edited, or are in use: refused in words, or mended, and said."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys

import pytest
import torch
from support.scenes import TINY, MemorySource, ring_scene

import splat
from splat.cloud import FIELDS
from splat.errors import InputError
from splat.runs import fingerprints, lock
from splat.runs.train import train
from splat.training import checkpoint

CONFIG = dataclasses.replace(TINY, steps=12)


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=24)


@pytest.fixture(scope="module")
def made(scene, tmp_path_factory):
    """A run stopped after 8 steps in ``stopped``, the same at its end in ``done``."""
    folder = tmp_path_factory.mktemp("runs")
    stop_at(scene, folder / "stopped", 8)
    shutil.copytree(folder / "stopped", folder / "done")
    train(scene, CONFIG, folder / "done", resume=True)
    return folder


@pytest.fixture
def stopped(made, tmp_path):
    return shutil.copytree(made / "stopped", tmp_path / "run")


@pytest.fixture
def done(made, tmp_path):
    return shutil.copytree(made / "done", tmp_path / "run")


def stop_at(scene, run, step, config=CONFIG):
    steps = []
    train(scene, config, run, progress=lambda p: steps.append(p.step), stop=lambda: steps[-1] == step)


def same(a, b) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def changed(scene, number, **source):
    """``scene`` with another source or camera of one training view."""
    views = list(scene.views)
    views[number] = dataclasses.replace(views[number], **source)
    return dataclasses.replace(scene, views=tuple(views))


# ---- the same photos and settings ----


def test_other_photos_of_the_same_names_are_refused(scene, stopped):
    photo = scene.views[3].load()
    rgb = photo.rgb.clone()
    rgb[5, 5, 1] ^= 1
    other = changed(scene, 3, source=MemorySource(dataclasses.replace(photo, rgb=rgb)))
    with pytest.raises(InputError, match=r"another photo 003.png: its content has changed; resume with the same scene"):
        train(other, CONFIG, stopped, resume=True)


def test_shrunk_photos_are_refused(scene, stopped):
    with pytest.raises(InputError, match=r"001.png of \[24, 24\] pixels, it has \[16, 16\] now"):
        train(ring_scene(size=16), CONFIG, stopped, resume=True)


def test_other_cameras_are_refused_but_not_their_rounding(scene, stopped):
    camera = scene.views[2].camera
    moved = camera.world_to_camera.clone()
    moved[0, 3] += 0.01
    with pytest.raises(InputError, match=r"another camera of 002.png"):
        train(
            changed(scene, 2, camera=dataclasses.replace(camera, world_to_camera=moved)), CONFIG, stopped, resume=True
        )
    rounded = dataclasses.replace(camera, fx=camera.fx * (1 + 1e-7))
    assert train(changed(scene, 2, camera=rounded), CONFIG, stopped, resume=True).finished


@pytest.mark.parametrize("camera", [None, "x", [], [[1.0]] * 20, [10**400] * 20, [float("nan")] * 20])
def test_fingerprints_that_are_no_cameras_are_refused(scene, camera):
    now = fingerprints.of_views(scene.train_views)
    stored = [dict(each) for each in now]
    stored[1]["camera"] = camera
    with pytest.raises(InputError, match="another camera of"):
        fingerprints.check(stored, scene, None, now)
    fingerprints.check(now, scene, None, now)


def test_photo_files_are_told_by_their_bytes(tmp_path):
    from support.tiny import write_scene

    before = splat.load_scene(write_scene(tmp_path / "scene"))
    prints = fingerprints.of_views(before.train_views)
    photo = tmp_path / "scene" / "images" / "03.png"
    data = bytearray(photo.read_bytes())
    data[-5] ^= 1
    photo.write_bytes(data)
    fingerprints.check(prints, before, None, json.loads(json.dumps(prints)))
    with pytest.raises(InputError, match=r"another photo 03.png"):
        fingerprints.check(prints, before, None, fingerprints.of_views(before.train_views))


def test_edited_settings_are_refused(scene, stopped):
    text = (stopped / "config.toml").read_text()
    (stopped / "config.toml").write_text(text.replace("sh_dc = 0.005", "sh_dc = 0.006"))
    config = dataclasses.replace(CONFIG, rates=dataclasses.replace(CONFIG.rates, sh_dc=0.006))
    with pytest.raises(
        InputError, match=r"other settings than its config.toml has \(rates.sh_dc\).*delete config.toml"
    ):
        train(scene, config, stopped, resume=True)


def test_a_checkpoint_of_another_run_is_refused(scene, stopped, tmp_path):
    stop_at(scene, tmp_path / "other", 9, dataclasses.replace(CONFIG, seed=4))
    newest = checkpoint.all_in(tmp_path / "other" / "checkpoints")[-1]
    shutil.copy(newest, stopped / "checkpoints")
    with pytest.raises(InputError, match=r"\(seed\).*two runs were mixed"):
        train(scene, CONFIG, stopped, resume=True)


@pytest.mark.parametrize("name", ["cloud.ply", "notes.txt", "images/1.jpg"])
def test_a_folder_with_other_files_is_refused(scene, tmp_path, name):
    path = tmp_path / "mine" / name
    path.parent.mkdir(parents=True)
    path.write_text("mine")
    with pytest.raises(
        InputError, match=rf"holds files that are no run of its own \({name.split('/')[0]}\).*empty folder"
    ):
        train(scene, CONFIG, tmp_path / "mine")
    assert path.read_text() == "mine" and len(list((tmp_path / "mine").iterdir())) == 1


# ---- what is damaged or gone ----


def test_resuming_nothing_is_refused(scene, tmp_path):
    with pytest.raises(InputError, match="there is no run in .* to resume"):
        train(scene, CONFIG, tmp_path / "absent", resume=True)
    assert not (tmp_path / "absent").exists()
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there is no run in .* to resume"):
        train(scene, CONFIG, tmp_path / "empty", resume=True)


def test_a_run_without_a_checkpoint_yet_begins_anew_and_says_so(scene, stopped, made):
    shutil.rmtree(stopped / "checkpoints")
    with pytest.warns(UserWarning, match="no checkpoint yet; the run begins with its first step"):
        result = train(scene, CONFIG, stopped, resume=True)
    assert same(result.cloud, splat.read(made / "done" / "cloud.ply"))


@pytest.mark.parametrize("text", [None, "", " \n", "steps = ", "\0\0", "steps = 12\n[scene\n"])
def test_settings_are_made_anew_from_the_checkpoint(scene, stopped, made, text):
    before = (stopped / "config.toml").read_text()
    (stopped / "config.toml").unlink()
    if text is not None:
        (stopped / "config.toml").write_text(text)
    with pytest.warns(UserWarning, match="made anew from the checkpoint"):
        result = train(scene, CONFIG, stopped, resume=True)
    assert (stopped / "config.toml").read_text() == before
    assert same(result.cloud, splat.read(made / "done" / "cloud.ply"))


@pytest.mark.parametrize("name", ["metrics.json", "cloud.ply"])
@pytest.mark.parametrize("content", [None, b"", b"[]", b"{", b'{"steps": -1}', b"ply\n", b"\xff\xfe", b"[" * 100_000])
def test_results_are_made_anew_from_the_checkpoint(scene, done, made, name, content):
    if name == "metrics.json" and content is None:
        pytest.skip("a run without it is not over")
    (done / name).unlink() if content is None else (done / name).write_bytes(content)
    with pytest.warns(UserWarning, match=rf"{name} is (damaged|missing).*made anew from the checkpoint"):
        train(scene, CONFIG, done, resume=True)
    kept = made / "done"
    assert (done / "cloud.ply").read_bytes() == (kept / "cloud.ply").read_bytes()
    a, b = (json.loads((run / "metrics.json").read_text()) for run in (done, kept))
    assert (a["psnr"], a["ssim"], a["steps"], a["views"]) == (b["psnr"], b["ssim"], b["steps"], b["views"])


def test_the_cloud_of_another_run_is_noticed(scene, done):
    splat.write(splat.read(done / "cloud.ply").select(torch.arange(5)), done / "cloud.ply")
    with pytest.warns(UserWarning, match="cloud.ply has 5 Gaussians"):
        train(scene, CONFIG, done, resume=True)
    assert len(splat.read(done / "cloud.ply")) > 5


def test_results_that_cannot_be_made_anew_are_refused(scene, done):
    shutil.rmtree(done / "checkpoints")
    (done / "cloud.ply").unlink()
    with pytest.raises(InputError, match="cloud.ply is missing, and there is no checkpoint"):
        train(scene, CONFIG, done, resume=True)


def test_a_checkpoint_that_fits_no_such_run_is_passed_over(scene, stopped, made):
    newest = checkpoint.all_in(stopped / "checkpoints")[-1]
    packed = checkpoint.load(stopped / "checkpoints")
    packed["population"]["statistics"] = {}
    packed["parts"], packed["photo_parameters"] = {}, {"poses": {}}
    checkpoint.save(newest.parent, packed.pop("step"), packed)
    with pytest.warns(UserWarning, match="trying the one before"):
        result = train(scene, CONFIG, stopped, resume=True)
    assert same(result.cloud, splat.read(made / "done" / "cloud.ply"))


def test_stale_temporary_files_are_removed(scene, stopped):
    stale = [".cloud-0123456789ab.ply", "checkpoints/.step_00000009-0123456789ab.safetensors", ".trial-x1/cloud.ply"]
    kept = [".git/x", ".notes", "checkpoints/.keep"]
    for name in stale + kept:
        (stopped / name).parent.mkdir(exist_ok=True)
        (stopped / name).write_text("x")
    train(scene, CONFIG, stopped, resume=True)
    assert not any((stopped / name).exists() for name in stale) and not (stopped / ".trial-x1").exists()
    assert all((stopped / name).exists() for name in kept)


# ---- two at once ----

HOLDER = """
import sys
from pathlib import Path
from splat.runs import lock
with lock.held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_in_use_is_refused_until_its_owner_dies(scene, stopped, tmp_path, resume):
    run = stopped if resume else tmp_path / "new"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"in use by process {holder.pid} on {os.uname().nodename}"):
            train(scene, CONFIG, run, resume=resume)
    finally:
        holder.kill()
        holder.communicate()
    assert (run / lock.NAME).exists()  # left by the one that was killed, and no hindrance
    assert train(scene, CONFIG, run, resume=resume).finished
    assert not (run / lock.NAME).exists()


def test_a_disk_without_locks_is_said(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.warns(UserWarning, match="without locks"), lock.held(tmp_path / "run"):
        pass


# ---- what fails late ----


def test_pictures_that_cannot_be_written_are_a_note(scene, tmp_path):
    views = tuple(dataclasses.replace(view, name=f"{view.name[:3]}{'x' * 240}.png") for view in scene.views)
    with pytest.warns(UserWarning, match="there are no pictures of 000x.*File name too long"):
        result = train(dataclasses.replace(scene, views=views), CONFIG, tmp_path / "run")
    assert result.finished and result.metrics["psnr"] > 10
    assert len(splat.read(tmp_path / "run" / "cloud.ply")) == len(result.cloud)
    assert (tmp_path / "run" / "report.html").exists()
