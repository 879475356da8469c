"""The README tells the truth: its Python example runs, its commands and options exist."""

import re
import subprocess
from pathlib import Path

from support.tiny import write_scene

from splat.cli import COMMANDS, main

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_example_runs(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.S)
    shortened = code.replace("steps=3000", "steps=20")
    assert shortened != code
    write_scene(tmp_path / "my_scene")
    monkeypatch.chdir(tmp_path)
    exec(compile(shortened, "README.md", "exec"), {})
    assert " dB" in capsys.readouterr().out
    assert (tmp_path / "opaque.ply").is_file()
    assert (tmp_path / "runs" / "from_python" / "report.html").is_file()


def test_every_command_is_in_the_table_and_none_else():
    assert set(re.findall(r"^\| `splat (\S+?)[ `]", README, re.M)) == set(COMMANDS)


def test_options_named_exist(capsys):
    named = set(re.findall(r"--[a-z][a-z-]+", README)) - {"--index-url"}
    for command in COMMANDS:
        main([command, "--help"])
    known = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out))
    assert named <= known


def test_its_scripts_are_sound():
    for script in (*re.findall(r"bash (tools/\S+)", README), "tools/setup.sh", ".ci/run"):
        subprocess.run(["bash", "-n", ROOT / script], check=True)
