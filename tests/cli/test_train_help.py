"""`splat train --help` shows what matters, `--help-all` everything, in the papers' words and the terminal's width."""

import re

import pytest

from splat.cli import main
from splat.cli.train_help import USUAL
from splat.training.config import config as settings
from splat.training.config.config import TrainConfig


def shown(option: str, columns: int, monkeypatch, capsys) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main(["train", option]) == 0
    return capsys.readouterr().out


def options_in(text: str) -> set[str]:
    """Names of the options that ``text`` lists, as in `TrainConfig`."""
    return {name.replace("-", "_") for name in re.findall(r"^  --([a-z.-]+)", text, re.M)}


def test_the_short_help_lists_the_dozen_and_says_where_the_rest_is(monkeypatch, capsys):
    text = shown("--help", 80, monkeypatch, capsys)
    assert options_in(text) == set(USUAL) - {"scene"} and "  SCENE " in text
    assert "--help-all" in text and all(name in text for name in settings.presets())
    assert len(text.splitlines()) <= 50
    assert text == shown("-h", 80, monkeypatch, capsys)


def test_the_long_help_lists_every_setting_with_its_default(monkeypatch, capsys):
    text = shown("--help-all", 80, monkeypatch, capsys)
    names = {name.removeprefix("scene.") for name in settings.flatten(TrainConfig())} - {"path"}
    command = {"out", "resume", "preset", "view", "host", "port", "token", "origin", "json", "sfm_only"}
    command |= {"points", "init", "add", "freeze"}
    assert options_in(text) == names | command
    flat = " ".join(text.split())
    assert "--densify.every INT Steps between two densifications. [mcmc 100, adc 100, taming 100, turbo 50]" in flat
    assert "--loss.ssim FLOAT Weight λ of the structural term: (1 − λ)·L1 + λ·(1 − SSIM). [0.2]" in flat
    assert "[None]" not in text and "[False]" not in text


@pytest.mark.parametrize("columns", [60, 80, 200])
@pytest.mark.parametrize("option", ["--help", "--help-all"])
def test_no_line_is_wider_than_the_terminal(option, columns, monkeypatch, capsys):
    lines = shown(option, columns, monkeypatch, capsys).splitlines()
    assert max(map(len, lines)) <= min(columns, 100)


def test_sections_name_the_method_and_the_paper(monkeypatch, capsys):
    lines = shown("--help-all", 100, monkeypatch, capsys).splitlines()
    for title in (
        "3D smoothing filter (Mip-Splatting)",
        "Sensitivity pruning (Speedy-Splat)",
        "Dilated rendering (Turbo-GS)",
        "Coarse-to-fine resolution (DashGaussian)",
        "Strategy adc: adaptive density control (3DGS)",
        "Surface regularisers (2DGS, PGSR)",
    ):
        assert title in lines


def test_home_made_words_stay_out(monkeypatch, capsys):
    text = shown("--help-all", 100, monkeypatch, capsys).lower()
    for word in ("by lot", "share", "guess", "place", "sure", "looks", "picture behind", "does not care", "invent"):
        assert not re.search(rf"\b{word}\b", text), word


def test_old_options_work_and_are_said_to_be_old(tmp_path, capsys):
    from support.tiny import write_scene

    write_scene(tmp_path / "scene")
    run = tmp_path / "run"
    small = ["--steps", "3", "--gaussians", "80", "--out", str(run), "--strategy", "adc", "--preset", "default"]
    old = ["--adc.gradient", "3e-4", "--prune.share", "0.5", "--mcmc.every", "9", "--coarse.count", "0.5"]
    assert main(["train", str(tmp_path / "scene"), *small, *old]) == 0
    error = capsys.readouterr().err
    assert error.count("uses old names of settings") == 1 and "--prune.share is now --prune.fraction" in error
    config = settings.read(run / "config.toml")
    assert {**settings.chosen(config), "scene.path": ""} == {
        **{"strategy": "adc", "steps": 3, "gaussians": 80, "scene.path": ""},
        **{"densify.gradient": 3e-4, "prune.fraction": 0.5, "scene.max_side": 1600},
    }
    assert main(["train", "--resume", "--out", str(run), "--coarse.count", "1"]) == 2
    assert "coarse.count" in capsys.readouterr().err
