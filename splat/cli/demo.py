"""``splat demo``: makes a small scene, trains on it and shows the result."""

import os
import shlex
import sys
import webbrowser
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from splat.cli.console import counter, parse, say

PRESET = "demo"


@dataclass(frozen=True)
class Demo:
    """Render a small synthetic scene (no download), train on it, and show the result."""

    out: Path = Path("demo")
    """Folder for the scene (scene/) and the run (run/)."""
    views: int = 64
    """Number of photos to render."""
    width: int | None = None
    """Width of the photos, pixels; by default that of the synthetic scene."""
    steps: int | None = None
    """Number of training steps; by default as in the preset demo."""
    no_browser: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Do not open the report and the viewer; print where they are."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat demo``."""
    options = parse("demo", Demo, arguments)
    from splat.cli.train import train_and_show
    from splat.scene import demo
    from splat.training.config import config as settings

    scene = options.out / "scene"
    size = {} if options.width is None else {"width": options.width}
    with counter("making the scene") as progress:
        demo.make(scene, views=options.views, progress=progress, **size)
    config = settings.preset(PRESET)
    config = replace(config, scene=replace(config.scene, path=str(scene.resolve())))
    if options.steps is not None:
        config = replace(config, steps=options.steps, minutes=None)
    result = train_and_show(config, free_folder(options.out / "run"))
    show(result.out, options.no_browser)


def free_folder(path: Path) -> Path:
    """``path``, or with the first number behind it that is not taken: a demo never overwrites an earlier one."""
    number, chosen = 1, path
    while chosen.exists():
        number += 1
        chosen = path.with_name(f"{path.name}{number}")
    return chosen


def show(out: Path, quietly: bool) -> None:
    """Say where report and viewer are; on a terminal, open the one and serve the other until Ctrl-C."""
    report = out / "report.html"
    if quietly:
        say(f"The report: {report.resolve().as_uri()}")
    else:
        show_report(report)
    if not quietly and sys.stdout.isatty() and find_spec("viser") is not None:
        from splat.cli import view

        view.run([str(out)])
    else:
        say(f"Walk through it: {shlex.join(['splat', 'view', str(out)])}")


def show_report(report: Path) -> None:
    """Open ``report`` in a browser where there is a screen to show it on."""
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if screen and webbrowser.open(report.resolve().as_uri()):
        say("The report is open in your browser.")
    else:
        say(f"Open the report in a browser: {report.resolve().as_uri()}")
