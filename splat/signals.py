"""Signals: what ends a command, and what a run does when it is told to end, or to save, between two steps."""

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

from splat.errors import Interrupted

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
"""Ctrl-C, schedulers and `kill`, a closed terminal, Ctrl-\\."""


class Requests:
    """Attributes:
    ending: number of the signal that asked the run to end, or None.
    saving: whether a checkpoint was asked for (SIGUSR1); whoever writes it takes the request back.
    """

    def __init__(self) -> None:
        self.ending: int | None = None
        self.saving = False

    def end(self, number: int, frame: Any) -> None:
        """Remember the signal; a second one is let through."""
        if self.ending is not None:
            raise Interrupted(number)
        self.ending = number

    def save(self, number: int, frame: Any) -> None:
        self.saving = True


@contextlib.contextmanager
def requests() -> Iterator[Requests]:
    """Yield what signals ask for meanwhile, so that no step is torn. Outside the main thread nothing is heard."""
    found = Requests()
    with handled(dict.fromkeys(ENDING, found.end) | {signal.SIGUSR1: found.save}):
        yield found


@contextlib.contextmanager
def handled(handlers: dict[signal.Signals, Any]) -> Iterator[None]:
    """Handle signals so meanwhile; a SIGHUP that is ignored stays so (nohup)."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number, handler in handlers.items():
            old = signal.getsignal(number)
            if old is not None and (number, old) != (signal.SIGHUP, signal.SIG_IGN):
                before[number] = old
                signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Signals that ask to end raise `Interrupted` meanwhile, so that what was begun is cleared up.

    SIGUSR1 asks a run for a checkpoint (see `requests`); elsewhere there is nothing to save, and it does nothing.
    """
    with handled(dict.fromkeys(ENDING[1:], _raise) | {signal.SIGUSR1: lambda number, frame: None}):
        yield


@contextlib.contextmanager
def threads_or_memory_error() -> Iterator[None]:
    """MemoryError is raised in the main thread meanwhile when a thread dies of it before it has begun.

    Python's Thread.start() would wait for such a thread for ever.
    """
    before, main, heard = sys.unraisablehook, threading.main_thread().ident, threading.Event()

    def raise_once(number: int, frame: Any) -> None:
        if not heard.is_set():
            heard.set()
            raise MemoryError("no memory for another thread")

    def hook(unraisable: Any) -> None:
        thread = getattr(unraisable.object, "__self__", None)
        if issubclass(unraisable.exc_type, MemoryError) and isinstance(thread, threading.Thread):
            while not heard.wait(0.05):  # one that comes shortly before the main thread waits does not wake it
                signal.pthread_kill(main, signal.SIGALRM)
        else:
            before(unraisable)

    with handled({signal.SIGALRM: raise_once}):
        sys.unraisablehook = hook
        try:
            yield
        finally:
            sys.unraisablehook = before


def _raise(number: int, frame: Any) -> None:
    raise Interrupted(number)
