"""Where the time of a training run goes, for `bench_train.py`: a clock that can stand still, and seconds by stage."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from splat.rendering import cpu
from splat.training import trainer
from splat.training.setup import Setup


class Clock:
    """Seconds of training, in all and by stage; stands still inside `paused`."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)  # by stage outside the core
        self._lost = 0.0
        self._core: dict[str, float] = defaultdict(float)
        cpu.reset_timings()

    def __call__(self) -> float:
        return time.perf_counter() - self._lost

    def core(self) -> dict[str, float]:
        """Seconds that the stages of the `cpu` backend took."""
        return {stage: seconds - self._core[stage] for stage, seconds in cpu.timings().items()}

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self.counted_as(None):
            start = time.perf_counter()
            yield
            self._lost += time.perf_counter() - start

    @contextmanager
    def counted_as(self, stage: str | None) -> Iterator[None]:
        """Inside the block no stage counts, but the whole block as ``stage``, where that is given."""
        start, before, spent = time.perf_counter(), cpu.timings(), dict(self.spent)
        yield
        self.spent.clear()
        self.spent.update(spent)
        for each, seconds in cpu.timings().items():
            self._core[each] += seconds - before[each]
        if stage is not None:
            self.spent[stage] += time.perf_counter() - start


@contextmanager
def stage_clock(setup: Setup, clock: Clock) -> Iterator[Callable[[], dict[str, float]]]:
    """Inside the block, the trainer's calls are timed; the function that it yields gives seconds by stage so far.

    Of the stages inside the core, what its own clock counts; "drawing" and "update" are the rest of those calls.
    """

    def timed(stage: str, function: Callable) -> Callable:
        def call(*args: Any, **named: Any) -> Any:
            if stage == "strategy":  # it draws and compares too
                with clock.counted_as(stage):
                    return function(*args, **named)
            start = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                clock.spent[stage] += time.perf_counter() - start

        return call

    def stages() -> dict[str, float]:
        inside = clock.core() if setup.name == "cpu" else {}
        backward = inside.get("blend_backward", 0.0) + inside.get("gaussian_backward", 0.0)
        found = dict(inside) | clock.spent
        found["drawing"] = found.get("drawing", 0.0) - (sum(inside.values()) - backward)
        found["update"] = found.get("update", 0.0) - backward
        return found

    places = (
        ("photo", setup.cache, "get"),
        ("drawing", setup.backend, "forward"),
        ("loss", trainer, "picture_loss"),
        ("update", trainer, "update"),
        ("noise", trainer, "add_noise"),
        ("strategy", setup.strategy, "refine"),
    )
    with ExitStack() as stack:
        for stage, owner, name in places:
            call = timed(stage, getattr(owner, name))
            if owner is setup.strategy:  # frozen
                object.__setattr__(owner, name, call)
            else:
                stack.enter_context(patch.object(owner, name, call))
        yield stages
