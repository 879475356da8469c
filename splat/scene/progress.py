"""Progress of long jobs: a bar on the terminal, or a function of the caller."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[str, float], None]
"""Called with the stage in words and the fraction of it that is done, 0 to 1."""


@contextmanager
def reporter(progress: Report | bool) -> Iterator[Report]:
    """Yield a function (stage, fraction): ``progress`` itself, or one that draws a bar per stage on stderr (True)."""
    if callable(progress):
        yield progress
        return
    if not progress:
        yield lambda stage, fraction: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        tasks: dict[str, TaskID] = {}

        def report(stage: str, fraction: float) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0)
            bar.update(tasks[stage], completed=min(max(fraction, 0.0), 1.0))

        yield report
