"""One thread per browser that draws for it: small pictures while its camera moves, a full one when it rests."""

import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from splat.camera import Camera
from splat.cloud import quaternion_to_matrix

REST = 0.2  # seconds without motion after which the full picture is drawn
TARGET = 1 / 20  # seconds a picture may take while moving
LARGEST = 1920  # pixels, longer side of the full picture
SMALLEST = 160  # pixels, longer side

# The rasterizer already uses every core, so pictures for several browsers are drawn one after the other.
_DRAWING = threading.Lock()


@dataclass(frozen=True)
class Pose:
    """A browser's camera: camera-to-world wxyz and position, vertical field of view in radians, size in pixels."""

    wxyz: tuple[float, ...]
    position: tuple[float, ...]
    fov: float
    width: int
    height: int

    def camera(self, longer: int, enlarge: bool = False) -> Camera:
        """The camera with ``longer`` pixels on its longer side, but never more than the browser shows unless told."""
        shrink = longer / max(self.width, self.height)
        shrink = shrink if enlarge else min(1.0, shrink)
        width, height = max(1, round(self.width * shrink)), max(1, round(self.height * shrink))
        rotation = quaternion_to_matrix(torch.tensor(self.wxyz, dtype=torch.float64)).T
        matrix = torch.eye(4, dtype=torch.float64)
        matrix[:3, :3] = rotation
        matrix[:3, 3] = -rotation @ torch.tensor(self.position, dtype=torch.float64)
        focal = 0.5 * height / math.tan(self.fov / 2)
        return Camera(focal, focal, width / 2, height / 2, width, height, matrix)


class RenderWorker:
    """Draws for one browser. ``draw`` makes a picture (H, W, 3) uint8 of a camera; ``show`` takes it and whether it is
    the full one; ``failed`` takes the exception of a picture not made; ``run_render`` calls
    the rendering when it may run, which takes about ``target`` seconds while the camera moves.
    """

    def __init__(
        self,
        draw: Callable[[Camera], np.ndarray],
        show: Callable[[np.ndarray, bool], None],
        failed: Callable[[Exception], None],
        run_render: Callable[[Callable[[], Any]], Any] = lambda job: job(),
        target: float = TARGET,
    ) -> None:
        self._target = target
        self._draw, self._show, self._failed, self._run_render = draw, show, failed, run_render
        self._changed = threading.Condition()
        self._pose: Pose | None = None
        self._news = 0  # counts requests; the newest one wins
        self._moved = 0.0
        self._closed = False
        self._longer = 640
        self._thread = threading.Thread(target=self._work, daemon=True, name="viewer picture")
        self._thread.start()

    def move(self, pose: Pose) -> None:
        """The camera is now at ``pose``."""
        with self._changed:
            self._pose, self._moved = pose, time.monotonic()
            self._news += 1
            self._changed.notify()

    def refresh(self) -> None:
        """What is drawn has changed: draw it again, at once at full size."""
        with self._changed:
            self._moved = 0.0
            self._news += 1
            self._changed.notify()

    def close(self, wait: bool = True) -> None:
        """End the thread, after the picture in work; ``wait`` for that."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if wait and threading.current_thread() is not self._thread:
            self._thread.join(timeout=10)

    def _work(self) -> None:
        drawn, full = 0, True
        while True:
            with self._changed:
                while not self._closed and (self._pose is None or (drawn == self._news and full)):
                    self._changed.wait()
                wait = self._moved + REST - time.monotonic()
                if not self._closed and drawn == self._news and wait > 0:
                    self._changed.wait(wait)
                if self._closed:
                    return
                if drawn == self._news and self._moved + REST > time.monotonic():
                    continue
                full = self._moved + REST <= time.monotonic()
                pose, drawn = self._pose, self._news
            try:
                self._picture(pose, full)
            except Exception as error:  # the page must say so and live on
                self._failed(error)

    def _picture(self, pose: Pose, full: bool) -> None:
        camera = pose.camera(LARGEST if full else self._longer)

        def timed() -> tuple[np.ndarray, float]:
            start = time.perf_counter()
            return self._draw(camera), time.perf_counter() - start

        with _DRAWING:
            image, seconds = self._run_render(timed)
        if not full:
            # Time grows about with the number of pixels; half steps keep the size from swinging.
            wanted = self._longer * math.sqrt(self._target / max(seconds, 1e-4))
            self._longer = int(min(max(0.5 * (self._longer + wanted), SMALLEST), LARGEST))
        self._show(image, full)
