"""The help of every command fits the terminal and joins its paragraphs; ``--json -`` leaves standard output to JSON."""

import json
import re

import pytest
from support.tiny import tiny_cloud, write_scene

from splat import formats
from splat.cli import COMMANDS, help, main
from splat.cli.results import present


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("columns", [60, 80])
def test_no_line_of_help_is_wider_than_the_terminal(command, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([command, "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) <= columns


def test_paragraphs_are_joined_and_lists_and_examples_keep_their_lines(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    text = "One line\nand its rest.\n\n  splat a b\n  splat c\n\n- an item\n  goes on\n- another"
    lines = [line.plain for line in help.paragraphs(text)]
    assert lines == ["One line and its rest.", "", "  splat a b", "  splat c", "", "- an item goes on", "- another"]


def test_arguments_have_names_and_every_option_a_text(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["mesh", "-h"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("usage: splat mesh PATH OUT [OPTIONS]\n")
    assert "--pairs INT             Stereo pairs per view, 1 to 4. [1]" in text
    assert main(["compress", "--help"]) == 0
    assert re.findall(r"^ +- (\S+)", capsys.readouterr().out, re.M)[:2] == ["lightgaussian", "vectree:"]


def test_unknown_options_of_train_are_told_where_all_are_listed(capsys):
    assert main(["train", "x", "--nonsense", "1"]) == 2
    error = capsys.readouterr().err
    assert "--nonsense" in error and "splat train --help-all" in error


def test_results_as_json(tmp_path, capsys):
    shown = []
    present({"psnr": float("inf"), "each": [1.5, float("nan")]}, tmp_path / "a.json", lambda: shown.append(1))
    assert json.loads((tmp_path / "a.json").read_text()) == {"psnr": None, "each": [1.5, None]}
    assert shown == [1] and capsys.readouterr().out == ""
    present({"psnr": 1.0}, None, lambda: shown.append(2))
    assert shown == [1, 2] and capsys.readouterr().out == ""


def test_standard_output_is_json_alone(tmp_path, capsys):
    scene, run = write_scene(tmp_path / "scene"), tmp_path / "run"
    formats.write(tiny_cloud(), tmp_path / "a.ply")

    def said(*arguments) -> dict:
        assert main([*map(str, arguments), "--json", "-"]) == 0
        return json.loads(capsys.readouterr().out)

    trained = said("train", scene, "--out", run, "--steps", "3", "--gaussians", "80", "--preset", "default")
    assert trained["steps"] == 3 and trained["out"] == str(run) and "history" not in trained
    assert said("eval", run)["psnr"] == pytest.approx(trained["psnr"], abs=1e-3)
    assert said("info", run)["kind"] == "run"
    written = said("convert", tmp_path / "a.ply", tmp_path / "b.spz", "--max-sh", "0")
    assert (written["gaussians"], written["sh_degree"], written["format"]) == (60, 0, "spz")
    assert written["bytes"] == (tmp_path / "b.spz").stat().st_size
    # Without a scene it says, elsewhere, which cameras it takes.
    mesh = said(
        "mesh", tmp_path / "a.ply", tmp_path / "m.ply", "--method", "median", "--max-side", "96", "--voxel", "0.3"
    )
    assert mesh["faces"] > 0
    assert main(["info", str(tmp_path / "a.ply")]) == 0
    assert "Gaussians" in capsys.readouterr().out
