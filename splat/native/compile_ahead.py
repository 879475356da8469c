"""Compiling kernels in threads while others are launched: NVRTC works outside Python's lock, and side by side."""

import threading
from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future

from splat.machine import usable_cores
from splat.native import nvrtc

Unit = tuple[str, str | None]  # a file, and its kernel where it is compiled alone


class CompileAhead:
    """Images of kernels for one kind of GPU, those asked for in time from other threads."""

    def __init__(self, capability: int) -> None:
        self._capability = capability
        self._asked: set[tuple[str, str]] = set()
        self._found: dict[Unit, Future[nvrtc.Built]] = {}
        self._waiting: deque[Unit] = deque()
        self._workers = 0
        self._lock = threading.Lock()

    def add(self, kernels: Iterable[tuple[str, str]]) -> None:
        """Compile these (file, kernel) too, in this order. Returns at once."""
        with self._lock:
            new = [kernel for kernel in kernels if kernel not in self._asked]
            self._asked.update(new)
            for unit in [(file, nvrtc.unit(file, kernel)) for file, kernel in new]:
                if unit not in self._found:
                    self._found[unit] = Future()
                    self._waiting.append(unit)
            # Whoever launches compiles too, so that one core is left to it.
            while self._workers < min(len(self._waiting), max(1, usable_cores() - 1)):
                self._workers += 1
                threading.Thread(target=self._work, name="splat-nvrtc").start()

    def take(self, unit: Unit, aim: str) -> nvrtc.Built:
        """The image of ``unit`` for a target: one that is being compiled is waited for, one whose turn has not come is
        compiled here. Raises BackendError if it does not compile."""
        file, kernel = unit
        future = self._found.get(unit)
        if future is None or future.cancel() or aim != nvrtc.target(self._capability):
            return nvrtc.compiled(file, self._capability, kernel, aim)
        return future.result()

    def _next(self) -> Unit | None:
        with self._lock:
            if self._waiting and threading.main_thread().is_alive():  # else the process ends after the unit at hand
                return self._waiting.popleft()
            self._workers -= 1
            return None

    def _work(self) -> None:
        while (unit := self._next()) is not None:
            future, (file, kernel) = self._found[unit], unit
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(nvrtc.compiled(file, self._capability, kernel))
            except BaseException as error:  # whoever launches the kernel raises it
                future.set_exception(error)
