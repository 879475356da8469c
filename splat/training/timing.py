"""Where the stages of a training step can be timed.

Whoever wants to know where the time goes hands a `Timer` to `splat.training.trainer.set_up` (or to a `Fitter`): it is
called with the name of each stage, and what it returns is entered and left around that stage. Stages do not nest.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

Timer = Callable[[str], AbstractContextManager[None]]

STAGES = ("photo", "rendering", "loss", "update", "noise", "strategy")
"""photo: getting its pixels. rendering: deformation and forward pass. loss: with its gradient by the picture. update:
backward pass and Adam. noise: of the positions. strategy: everything that changes rows."""


def untimed(stage: str) -> AbstractContextManager[None]:
    """The timer of a run that nobody times."""
    return nullcontext()
