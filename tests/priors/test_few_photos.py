"""From the command line's side: the preset chosen by itself, and words where photos are too few or do not fit."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.scenes import row_scene

from splat.cli import train as command
from splat.errors import InputError
from splat.priors.availability import priors
from splat.runs.train import train
from splat.scene import load_scene
from splat.scene.background import mean_colour
from splat.training.config import config as settings


def test_few_photos_get_the_preset_and_many_the_defaults(capsys: pytest.CaptureFixture[str]):
    scene = row_scene(6)
    assert command._preset_for(scene) == settings.preset("sparse")
    said = "".join(capsys.readouterr())
    assert "5 photos to train on are few" in said.replace("\n", " ")
    again = [tuple(replace(view, name=f"{k}/{view.name}") for view in scene.views) for k in range(6)]
    assert command._preset_for(replace(scene, views=again[0] + again[1])) == settings.preset("few")
    assert command._preset_for(replace(scene, views=sum(again, ()))) == settings.TrainConfig()
    assert settings.preset("default") == settings.TrainConfig()


def test_the_preset_trains_and_repeats_itself():
    scene = row_scene(6)
    config = replace(settings.preset("sparse"), steps=20, eval_every=0.0)
    first, second = (train(scene, config) for _ in range(2))
    assert torch.equal(first.cloud.means, second.cloud.means)
    assert not first.cloud.extras
    assert mean_colour(scene.train_views) == pytest.approx(
        torch.stack([view.load().rgb.float().mean((0, 1)) / 255 for view in scene.train_views]).mean(0).tolist(),
        abs=1e-4,
    )


def test_all_parts_together_resume_bit_for_bit(tmp_path: Path):
    config = replace(settings.preset("sparse"), steps=16, eval_every=0.0, checkpoint_seconds=1e9, gaussians=400)
    on = {
        "depth": 0.05,
        "normal": 0.02,
        "pseudo_views": 0.2,
        "floaters": 0.3,
        "proximity": 0.2,
        "co_regularization": 0.2,
    }
    config = replace(
        config, priors=replace(config.priors, confidence_rates=True, **on), wild=replace(config.wild, occluders=True)
    )
    scene = row_scene(5)
    whole = train(scene, config, tmp_path / "whole")
    count = iter(range(100))
    stopped = train(scene, config, tmp_path / "parts", stop=lambda: next(count) == 6)
    assert not stopped.finished
    resumed = train(scene, config, tmp_path / "parts", resume=True)
    assert torch.equal(whole.cloud.means, resumed.cloud.means)
    assert torch.equal(whole.cloud.logit_opacities, resumed.cloud.logit_opacities)


def photos(folder: Path, count: int) -> Path:
    """Photos of nothing: noise that differs from one to the next."""
    rng = np.random.default_rng(0)
    for number in range(count):
        Image.fromarray(rng.integers(0, 255, (90, 120, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("count", [1, 2])
def test_one_or_two_photos_are_answered_in_words(tmp_path: Path, count: int):
    held = {1: "one photo", 2: "2 photos"}[count]
    with pytest.raises(InputError, match=f"holds {held}, but structure from motion needs at least 3"):
        load_scene(photos(tmp_path, count), progress=False)


def test_photos_without_overlap_are_answered_in_words(tmp_path: Path):
    with pytest.raises(InputError, match="no two of the 4 photos that fit together"):
        load_scene(photos(tmp_path, 4), progress=False)


def test_what_is_loadable_is_listed_with_the_lines_that_bring_the_rest():
    found = priors()
    assert found[0].ready and found[0].remedy is None
    assert {"depth by depth-anything", "depth by marigold", "reconstruction by VGGT"} <= {each.name for each in found}
    for each in found:
        assert each.ready == (each.remedy is None)
        assert each.ready or each.remedy.startswith(("pip install", "hf download", "see docs"))
