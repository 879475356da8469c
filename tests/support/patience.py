"""Waiting on any machine: for the event itself, and the longer, the less the machine gives to this process."""

import os
import time
from collections.abc import Callable
from pathlib import Path

_ROUNDS = 200_000
_IDLE_SECONDS = 0.007  # that the loop below takes on an idle core of the machine on which the bounds were chosen
_RUNNING = Path("/proc/loadavg")


def slowness() -> float:
    """How many times as long as on an idle machine things take now: what a loop says, or the queue for the cores."""
    begin, total = time.perf_counter(), 0
    for number in range(_ROUNDS):
        total += number
    loop = (time.perf_counter() - begin) / _IDLE_SECONDS
    running = int(_RUNNING.read_text().split()[3].split("/")[0]) if _RUNNING.exists() else 1
    return max(1.0, loop, running / len(os.sched_getaffinity(0)))


def bound(seconds: float) -> float:
    """Seconds to allow now for what takes less than ``seconds`` on an idle machine."""
    return seconds * slowness()


def wait_for(condition: Callable[[], object], seconds: float = 60, what: str = "") -> None:
    """Ask until it is so, for as long as ``seconds`` on an idle machine: those on a slow one count for less.

    Args:
        what: named in the error, such as "the control 'Mode'".
    """
    left, last = seconds, time.monotonic()
    while not condition():
        now = time.monotonic()
        left, last = left - (now - last) / slowness(), now
        assert left > 0, f"waited in vain for {what}" if what else "waited in vain"
        time.sleep(0.05)
