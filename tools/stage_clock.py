"""Where the time of a training run goes, for `bench_train.py`: a clock that can stand still, and seconds by stage."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from splat.rendering import cpu


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
    def stage(self, name: str) -> Iterator[None]:
        """The timer of a run, see `splat.training.timing`."""
        if name == "strategy":  # it renders and compares too
            with self.counted_as(name):
                yield
            return
        start = time.perf_counter()
        try:
            yield
        finally:
            self.spent[name] += time.perf_counter() - start

    def stages(self, backend: str) -> dict[str, float]:
        """Seconds by stage so far: those inside the core by its own clock, and the rest of those outside."""
        inside = self.core() if backend == "cpu" else {}
        backward = inside.get("blend_backward", 0.0) + inside.get("gaussian_backward", 0.0)
        seconds = dict(inside) | self.spent
        seconds["rendering"] = seconds.get("rendering", 0.0) - (sum(inside.values()) - backward)
        seconds["update"] = seconds.get("update", 0.0) - backward
        return seconds
