"""How a training run shows itself while it goes on: a live display on a terminal, a line now and then elsewhere."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.text import Text

from splat.cli.console import console, duration
from splat.text import score

if TYPE_CHECKING:
    from splat.training.progress import Progress as TrainProgress

LINE_SECONDS = 10.0  # between two lines in a log file
LIVE_SECONDS = 0.2  # between two changes of the live display


@contextmanager
def training_display(target: Console = console) -> Iterator[Callable[["TrainProgress"], None]]:
    """Show a training run on ``target``; the function that it yields is the trainer's progress callback."""
    show = _live(target) if target.is_terminal else _lines(target)
    with show as update:
        yield update


@contextmanager
def _live(target: Console) -> Iterator[Callable[["TrainProgress"], None]]:
    bar = Progress(
        TextColumn("training"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=target,
        expand=True,
    )
    task, line, shown = bar.add_task("", total=1.0, left=""), Text(), 0.0
    with Live(Group(bar, line), console=target, refresh_per_second=4) as live:

        def update(now: "TrainProgress") -> None:
            nonlocal shown
            if now.fraction < 1 and time.monotonic() - shown < LIVE_SECONDS:
                return
            shown = time.monotonic()
            bar.update(task, completed=now.fraction, left=left(now).strip())
            live.update(Group(bar, Text(facts(now), overflow="ellipsis", no_wrap=True)))

        yield update


@contextmanager
def _lines(target: Console) -> Iterator[Callable[["TrainProgress"], None]]:
    shown = time.monotonic() - LINE_SECONDS
    tested = None

    def update(now: "TrainProgress") -> None:
        nonlocal shown, tested
        if now.fraction < 1 and now.eval_psnr == tested and time.monotonic() - shown < LINE_SECONDS:
            return
        shown, tested = time.monotonic(), now.eval_psnr
        target.print(f"{now.fraction:4.0%}  {facts(now)}{left(now)}", soft_wrap=True)

    yield update


def facts(now: "TrainProgress") -> str:
    """One line on the state of a run."""
    held_out = "" if now.eval_psnr is None else f"  held-out {score(now.eval_psnr, 2)} dB"
    return (
        f"step {now.step:,}/{now.steps:,}  loss {now.loss:.4f}  PSNR {score(now.psnr, 2)} dB{held_out}"
        f"  {count(now.gaussians)} Gaussians  {now.steps_per_second:.1f} steps/s"
    )


def left(now: "TrainProgress") -> str:
    """How long the rest will take; empty while that is not known."""
    return f"  {duration(now.remaining)} left" if math.isfinite(now.remaining) else ""


def count(number: int) -> str:
    """A count in a few characters: 83500 → '83.5k'."""
    return str(number) if number < 1000 else f"{number / 1000:.1f}k" if number < 1e6 else f"{number / 1e6:.2f}M"
