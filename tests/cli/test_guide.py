"""The guide tells the truth: every command in it runs, in its order, on a tiny scene; the site builds."""

import os
import re
import shlex
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.tiny import write_scene

from splat.cli import main

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "docs" / "guide"
PAGES = ("index", "photos", "budgets", "compressing", "meshing", "formats")
# The same commands on less: a tiny scene needs few steps, and seconds instead of minutes.
SMALLER = (
    ("--minutes 10", "--minutes 0.05"),
    ("--steps 3000", "--steps 20"),
    ("--downscale 2", "--downscale 1.5"),
    ("--ratio 10", "--ratio 2"),
)


def commands() -> list[str]:
    """Every command of the guide's bash blocks, in order."""
    text = "\n".join((GUIDE / f"{page}.md").read_text(encoding="utf-8") for page in PAGES)
    return [line for block in re.findall(r"```bash\n(.*?)```", text, re.S) for line in block.splitlines() if line]


def smaller(command: str) -> list[str]:
    """``command`` as the test runs it."""
    for long, short in SMALLER:
        command = command.replace(long, short)
    words = shlex.split(command)[1:]
    if words[0] == "train" and not {"--steps", "--minutes"} & set(words) and "--resume" not in words:
        words += ["--steps", "30"]
    if words[0] == "train" and "--gaussians" not in words and "--resume" not in words:
        words += ["--gaussians", "500"]
    if words[0] == "demo":
        words += ["--width", "64", "--views", "8", "--steps", "20", "--no-browser"]
    if words[0] == "view":
        words += ["--port", "18300"]
    return words


def needs(words: list[str]) -> str | None:
    """The optional package that a command needs and that is not there."""
    wanted = {"view": "viser", "mesh": "skimage"}.get(words[0])
    if "--view" in words:
        wanted = "viser"
    if any(word.endswith(".mp4") for word in words):
        wanted = "av"
    return wanted if wanted and find_spec(wanted) is None else None


@pytest.mark.slow
def test_every_command_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In this process, which spares a second of start for each; the viewer, which serves until Ctrl-C, in another."""

    def make(folder: Path, views: int, progress=None, **_) -> Path:
        return write_scene(folder)  # in place of the real one, which takes long (tests/scene/test_demo.py makes it)

    monkeypatch.setattr("splat.scene.demo.make", make)
    monkeypatch.chdir(tmp_path)
    write_scene(tmp_path / "my_scene")
    for command in commands():
        words = smaller(command)
        if needs(words):
            continue
        if words[0] == "view":
            _view([sys.executable, "-m", "splat", *words])
        else:
            assert main(words) == 0, command
    for name in ("demo/run/report.html", "runs/first/report.html", "both.ply", "small.sog"):
        assert (tmp_path / name).is_file(), name


def _view(program: list[str]) -> None:
    """The viewer prints its address, and Ctrl-C ends it."""
    process = subprocess.Popen(
        program,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert any("http://" in line for line in process.stdout)
    process.send_signal(signal.SIGINT)
    assert process.wait() == 0


def test_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="the extra docs is not installed")
    program = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site" / "guide" / "troubleshooting" / "index.html").is_file()


def test_every_page_is_in_the_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert all(f"guide/{page.name}" in contents for page in GUIDE.glob("*.md"))
