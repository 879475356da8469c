"""How much faster a training step is than OpenSplat's, on one scene and machine, interleaved in one run.

Build OpenSplat (https://github.com/pierotofy/OpenSplat) yourself, in release mode for the native processor and without
a GPU, then:

    python tools/bench_opensplat.py path/to/opensplat path/to/scene

Both train on the scene's photos at full size, from the scene's own points, before any Gaussian is added or removed.
OpenSplat runs for a few steps, is stopped (SIGSTOP) while ours runs, goes on (SIGCONT), and so forth, so that whatever
else the machine does meets both alike.
"""

import os
import queue
import re
import signal
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import tyro
from rich.console import Console
from rich.table import Table

from splat.errors import InputError
from splat.files import write_json
from splat.native import cpu_library
from splat.scene import load_scene
from splat.training import trainer
from splat.training.config.config import TrainConfig
from splat.training.schedules import Schedule

_FOREVER = 1_000_000  # steps of a schedule of which only the very beginning is run
_PATIENCE = 300.0  # seconds for OpenSplat to come up with a step


@dataclass(frozen=True)
class Options:
    """What to compare."""

    opensplat: tyro.conf.Positional[Path]
    """The OpenSplat executable."""
    scene: tyro.conf.Positional[Path]
    """A COLMAP scene."""
    rounds: int = 4
    """How often the two take turns."""
    their_steps: int = 3
    """Steps of OpenSplat in each round."""
    our_steps: int = 40
    """Steps of ours in each round."""
    sh_degree: int = 3
    """Spherical harmonics stored; both start with the constant band in use."""
    json: Path | None = None
    """Also write the numbers here."""


class OpenSplat:
    """A running OpenSplat whose steps are timed by the lines it prints."""

    def __init__(self, options: Options, folder: str) -> None:
        command = [
            str(options.opensplat.resolve()),
            str(options.scene.resolve()),
            *("--cpu", "--num-downscales", "0", "--sh-degree", str(options.sh_degree)),
            *("--num-iters", str(_FOREVER), "--output", str(Path(folder) / "out.ply")),
        ]
        try:
            self._process = subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=folder
            )
        except OSError as error:
            raise InputError(
                f"{options.opensplat} cannot be run ({error.strerror}); give the executable you built"
            ) from error
        self._times: queue.Queue[float | None] = queue.Queue()
        self._said: list[str] = []
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in self._process.stdout:
            if re.match(r"Step \d+:", line):
                self._times.put(time.perf_counter())
            else:
                self._said.append(line.strip())
        self._times.put(None)

    def _next(self) -> float:
        moment = self._times.get(timeout=_PATIENCE)
        if moment is None:
            raise InputError(
                f"OpenSplat ended by itself, saying: {' / '.join(self._said[-3:])}; check the scene and build"
            )
        return moment

    def steps(self, count: int) -> list[float]:
        """Seconds of each of ``count`` whole steps from now on; then it is stopped."""
        os.kill(self._process.pid, signal.SIGCONT)
        while not self._times.empty():
            self._next()
        moments = [self._next() for _ in range(count + 1)]
        os.kill(self._process.pid, signal.SIGSTOP)
        return [later - earlier for earlier, later in zip(moments, moments[1:], strict=False)]

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


@contextmanager
def running(options: Options) -> Iterator[OpenSplat]:
    """OpenSplat with a scratch folder; ended and removed afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        theirs = OpenSplat(options, folder)
        try:
            yield theirs
        finally:
            theirs.end()


def compare(options: Options) -> dict[str, object]:
    """Take turns; return seconds per step of both, and what they were measured on."""
    scene = load_scene(options.scene)
    config = TrainConfig(steps=_FOREVER, gaussians=10_000_000, sh_degree=options.sh_degree, backend="cpu")
    setup = trainer.set_up(scene, config)
    state = trainer.begin(setup, Schedule(config.steps, None))
    ours: list[float] = []
    theirs: list[float] = []
    with running(options) as opponent:
        opponent.steps(1)
        for _ in range(10):
            trainer.step(setup, state)
        for _ in range(options.rounds):
            theirs += opponent.steps(options.their_steps)
            for _ in range(options.our_steps):
                start = time.perf_counter()
                trainer.step(setup, state)
                ours.append(time.perf_counter() - start)
    setup.cache.close()
    camera = scene.views[0].camera
    return {
        "scene": scene.name,
        "photo_size": [camera.width, camera.height],
        "gaussians": len(state.cloud),
        "variant": cpu_library.variant(),
        "threads": cpu_library.threads(),
        "pytorch_threads": torch.get_num_threads(),
        "seconds_per_step": {"splat": statistics.median(ours), "opensplat": statistics.median(theirs)},
        "all_seconds": {"splat": ours, "opensplat": theirs},
        "ratio": statistics.median(theirs) / statistics.median(ours),
    }


def show(found: dict, console: Console) -> None:
    """Print the comparison as a table."""
    width, height = found["photo_size"]
    title = f"{found['scene']}, {width}×{height}, {found['gaussians']:,} Gaussians, {found['threads']} threads"
    table = Table("", "median s/step", "fastest", "slowest", title=f"{title}, {found['variant']}")
    for name in ("splat", "opensplat"):
        times = found["all_seconds"][name]
        table.add_row(name, *(f"{value:.4f}" for value in (statistics.median(times), min(times), max(times))))
    console.print(table)
    console.print(f"ratio {found['ratio']:.1f}×")


def main() -> None:
    console = Console()
    options = tyro.cli(Options, description=__doc__)
    try:
        found = compare(options)
    except InputError as error:
        console.print(f"[red]error:[/red] {error}")
        raise SystemExit(2) from None
    show(found, console)
    if options.json is not None:
        write_json(options.json, found)


if __name__ == "__main__":
    main()
