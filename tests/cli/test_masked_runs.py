"""Runs on photos that masks hide, wholly or in part: they end, and say what was left out."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from support.tiny import SIDE, write_scene

from splat.cli import main

SMALL = ["--steps", "12", "--gaussians", "80"]
HALF = np.arange(SIDE)[None].repeat(SIDE, 0) < SIDE // 2


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    return write_scene(tmp_path_factory.mktemp("masked") / "scene")


def masked(scene, folder, hidden: set[int]):
    """A copy of ``scene`` whose photos ``hidden`` are masked everywhere, the others half."""
    copy = shutil.copytree(scene, folder / "scene")
    (copy / "masks").mkdir()
    for index in range(8):
        Image.fromarray(HALF & (index not in hidden)).save(copy / f"masks/{index:02}.png")
    return copy


def test_a_held_out_photo_that_is_masked_everywhere_has_no_scores(scene, tmp_path, capfd):
    run = tmp_path / "run"
    options = ["--hold-out", "4", *SMALL]
    assert main(["train", str(masked(scene, tmp_path, {4})), "--out", str(run), *options]) == 0
    said = capfd.readouterr()
    assert "1 of 2 held-out photos are masked everywhere and left out of the scores (04.png)" in said.err
    metrics = json.loads((run / "metrics.json").read_text())
    assert [view["name"] for view in metrics["views"]] == ["00.png"] and metrics["psnr"] == metrics["views"][0]["psnr"]
    assert (run / "report.html").is_file() and (run / "cloud.ply").is_file()
    assert main(["eval", str(run), "--json", "-"]) == 0
    assert json.loads(capfd.readouterr().out)["psnr"] == pytest.approx(metrics["psnr"], abs=1e-6)


def test_all_held_out_photos_masked_everywhere(scene, tmp_path, capfd):
    run = tmp_path / "run"
    assert main(["train", str(masked(scene, tmp_path, {0, 1, 2})), "--out", str(run), *SMALL]) == 0
    said = capfd.readouterr()
    assert "1 of 1 held-out photos are masked everywhere" in said.err and "120.00" not in said.out
    assert json.loads((run / "metrics.json").read_text())["psnr"] is None
    assert (run / "report.html").is_file()
    assert main(["eval", str(run)]) == 0
    assert main(["info", str(run)]) == 0


def test_photos_masked_everywhere_do_not_count_in_the_running_psnr(scene, tmp_path, capfd):
    """All but one of the photos to train on are hidden: the mean is that of the one, not of errors of 0."""
    folder = masked(scene, tmp_path, {2, 3, 4, 5, 6, 7})
    assert main(["train", str(folder), "--out", str(tmp_path / "run"), *SMALL]) == 0
    said = capfd.readouterr().out
    shown = [float(part.split()[0]) for part in said.split("PSNR ")[1:] if part.split()[0][0].isdigit()]
    assert shown and max(shown) < 40


def test_masks_that_hide_everything_are_refused(scene, tmp_path, capfd):
    arguments = ["train", str(masked(scene, tmp_path, set(range(8)))), "--out", str(tmp_path / "run"), *SMALL]
    assert main(arguments) == 2
    error = capfd.readouterr().err
    assert error.startswith("splat: no pixel of any of the 7 photos") and error.count("\n") == 1
    assert not (tmp_path / "run").exists()
    assert main([*arguments, "--masks", "ignore"]) == 0
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 0
