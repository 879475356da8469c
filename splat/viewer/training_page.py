"""`Live`: the page of a training run that goes on.

Pictures are rendered by the training's own thread between two steps, so that none shows a half-made step and the cores
are never shared: training pays exactly for the rendering, at most `RENDER_FRACTION` of the time, and nothing while no
browser is connected. The clock stands still while the run is paused.
"""

import math
import queue
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from splat.cloud import GaussianCloud
from splat.scene import Scene
from splat.signals import ENDING, handled
from splat.text import duration, score
from splat.viewer.initial_view import first_view
from splat.viewer.page import Page, SceneCloud
from splat.viewer.panels import COMPARISONS, add_render_panel, set_theme
from splat.viewer.photo_panel import add_photo_panel
from splat.viewer.render_modes import Look
from splat.viewer.serve import open_page

if TYPE_CHECKING:
    from splat.training.progress import Progress

RENDER_FRACTION = 0.2  # of the time that rendering may take from training while somebody looks
CREDIT = 0.3  # seconds of rendering that may be saved up
TARGET = 1 / 40  # seconds that a picture may take while the camera moves: 8 pictures a second of that fraction
FRESH = 1.0  # seconds between two pictures of a camera that rests
NOTED = 0.5  # seconds between two points of the curves
MOST_POINTS = 1000  # of a curve; then every second one goes
T = TypeVar("T")


@dataclass
class Job:
    """A rendering that waits until it may run, and its result."""

    work: Callable[[], Any]
    done: threading.Event
    result: Any = None
    error: Exception | None = None

    def run(self) -> float:
        """Do it; the seconds it took."""
        start = time.perf_counter()
        try:
            self.result = self.work()
        except Exception as error:  # it belongs to the one who asked
            self.error = error
        self.done.set()
        return time.perf_counter() - start


class Live:
    """The page of a run. `update` is the training's progress callback, `stop` and `clock` are handed to `train` too."""

    def __init__(self, scene: Scene, look: Look, folder: Path, **where: Any) -> None:
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()
        self.curves: list[tuple[float, float, float, float]] = []  # step, loss, PSNR, PSNR held out
        self._cloud = SceneCloud(scene.name, GaussianCloud.empty(), 0)
        self._paused = self._stopping = self._over = False
        self._pause_seconds = 0.0
        self._credit, self._checked, self._drawn, self._noted = CREDIT, time.monotonic(), 0.0, 0.0
        self._every = 1
        self.render_seconds = 0.0
        first = first_view(GaussianCloud.empty(), scene, None)
        self.page = open_page([self._cloud], first, look, scene, folder, panels=self._panels, **where)
        self.page.run_render, self.page.target = self.run_render, TARGET

    # ---- for `train` ----

    def update(self, now: "Progress") -> None:
        """Show the state after a step; returns soon, or when a pause is over."""
        moment = time.monotonic()
        self._note(now, moment)
        if self._paused:
            self._show(now)
            self._pause(now)
            moment = time.monotonic()
        if not self.page.watched:
            self._checked = moment
            return
        self._cloud.cloud = now.cloud
        if moment - self._drawn >= FRESH:
            self._drawn = moment
            self._show(now)
        self._credit = min(self._credit + RENDER_FRACTION * (moment - self._checked), CREDIT)
        self._checked = moment
        while self._credit > 0 and self._serve():
            pass

    def stop(self) -> bool:
        """Whether the reader wants the run to end."""
        return self._stopping

    def clock(self) -> float:
        """Seconds, without those of pauses."""
        return time.monotonic() - self._pause_seconds

    def finish(self, cloud: GaussianCloud) -> None:
        """The run is over: show what came of it, without limits."""
        self._cloud.cloud, self._over = cloud, True
        self._say(f"**Done**: {len(cloud):,} Gaussians")
        for button in (self._pause_button, self._stop_button):
            button.visible = False
        while self._serve():
            pass
        self.page.refresh(forget=True)

    def close(self) -> None:
        """End the page."""
        self._over = True
        while self._serve():
            pass
        self.page.close()

    # ---- rendering ----

    def run_render(self, job: Callable[[], T]) -> T:
        """Have ``job`` done between two steps, and wait for it; afterwards at once."""
        if self._over:
            return job()
        waiting = Job(job, threading.Event())
        self.jobs.put(waiting)
        while not waiting.done.wait(0.5):
            if self._over and not waiting.done.is_set():
                self._serve()
        if waiting.error is not None:
            raise waiting.error
        return waiting.result

    def _serve(self) -> bool:
        """Do one waiting job; False when there is none."""
        try:
            job = self.jobs.get_nowait()
        except queue.Empty:
            return False
        seconds = job.run()
        self._credit -= seconds
        self.render_seconds += seconds
        return True

    def _pause(self, now: "Progress") -> None:
        began = time.monotonic()
        self._cloud.cloud = now.cloud
        with self._interrupts_end_it():
            while self._paused and not self._stopping:
                try:
                    self.jobs.get(timeout=0.1).run()
                except queue.Empty:
                    continue
        self._pause_seconds += time.monotonic() - began

    @contextmanager
    def _interrupts_end_it(self) -> Iterator[None]:
        """Signals that end the run end the pause too; what it does to the run is the run's matter."""
        before = {number: signal.getsignal(number) for number in ENDING}

        def leave(number: int, frame: Any) -> None:
            self._paused = False
            old = before[signal.Signals(number)]
            if callable(old):
                old(number, frame)

        with handled(dict.fromkeys(ENDING, leave)):
            yield

    # ---- the panel ----

    def _panels(self, page: Page) -> None:
        from viser import uplot

        set_theme(page)
        gui = page.server.gui
        with gui.add_folder("Training"):
            self._state = gui.add_markdown("Getting ready …")
            self._bar = gui.add_progress_bar(0.0)
            self._pause_button = gui.add_button("Pause")
            self._stop_button = gui.add_button("Stop and save", hint="Ends the run now; it can be resumed later.")
            empty = np.zeros(1)
            step = uplot.Series(label="step")
            self._loss = gui.add_uplot(
                (empty, empty),
                (step, uplot.Series(label="loss", stroke="#e07a5f", width=2)),
                scales={"x": uplot.Scale(time=False)},
                title="Loss",
                height=150,
            )
            self._psnr = gui.add_uplot(
                (empty, empty, empty),
                (
                    step,
                    uplot.Series(label="training photos", stroke="#4fc7bb", width=2),
                    uplot.Series(label="held out", stroke="#f2cc8f", width=2, spanGaps=True),
                ),
                scales={"x": uplot.Scale(time=False)},
                title="PSNR, dB",
                height=150,
            )
        add_render_panel(page)
        add_photo_panel(page, COMPARISONS)

        @self._pause_button.on_click
        def _(_: Any) -> None:
            self._paused = not self._paused
            self._pause_button.label = "Go on" if self._paused else "Pause"

        @self._stop_button.on_click
        def _(_: Any) -> None:
            self._stopping = True
            self._stop_button.label = "Stopping …"

    def _note(self, now: "Progress", moment: float) -> None:
        """Remember a point of the curves now and then."""
        if moment - self._noted < NOTED * self._every:
            return
        self._noted = moment
        held_out = float("nan") if now.eval_psnr is None else now.eval_psnr
        psnr = now.psnr if math.isfinite(now.psnr) else float("nan")
        self.curves.append((now.step, now.loss, psnr, held_out))
        if len(self.curves) > MOST_POINTS:
            self.curves, self._every = self.curves[::2], self._every * 2

    def _show(self, now: "Progress") -> None:
        """Bring text, curves and pictures up to date."""
        from viser import uplot

        left = f" · {duration(now.remaining)} left" if math.isfinite(now.remaining) else ""
        held_out = "" if now.eval_psnr is None else f"  \nheld out {score(now.eval_psnr, 2)} dB"
        self._say(
            f"{'**Paused**' if self._paused else '**Training**'}: step {now.step:,} of {now.steps:,}  \n"
            f"{now.gaussians:,} Gaussians · {now.steps_per_second:.1f} steps/s{left}  \n"
            f"loss {now.loss:.4f} · PSNR {score(now.psnr, 2)} dB{held_out}"
        )
        self._bar.value = 100 * now.fraction
        if len(self.curves) > 1:
            step, loss, psnr, held = np.array(self.curves, np.float64).T
            self._loss.data = (step, loss)
            known = np.concatenate([psnr, held])
            known = known[np.isfinite(known)]
            if len(known):
                # Said by us: values that are not known yet keep the page from finding them out.
                low, high = math.floor(known.min()), math.ceil(known.max() + 0.1)
                self._psnr.scales = {"x": uplot.Scale(time=False), "y": uplot.Scale(auto=False, range=(low, high))}
                self._psnr.data = (step, psnr, held)
        self.page.refresh(forget=True)

    def _say(self, text: str) -> None:
        self._state.content = text
