"""A sign of life on the terminal while something takes longer than a moment."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from splat.text import printable

PATIENCE = 1.0  # seconds before anything is shown


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """Meanwhile, but not before `PATIENCE`: a spinner, ``label`` and the seconds on standard error, if a terminal."""
    if not sys.stderr.isatty():
        yield
        return
    done = Event()
    thread = Thread(target=_show, args=(label, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _show(label: str, done: Event) -> None:
    if done.wait(PATIENCE):
        return
    # Loaded only here, so that quick work stays quick.
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(label), total=None)
        progress.tasks[task].start_time -= PATIENCE
        done.wait()
