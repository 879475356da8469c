"""Flags that a training step leaves on the GPU, read a step later so that the host need not wait."""

import weakref

import torch
from torch import Tensor

from splat.rendering.cpu import Moments


class LateFlags:
    """Brings one training's small flags from the GPU without waiting: each step gets the flags of the step before."""

    def __init__(self) -> None:
        self._before: tuple[int, Tensor, torch.cuda.Event] | None = None

    def exchange(self, flags: Tensor, step: int) -> int:
        """Hand in the flags (1,) int32 of ``step``, get those of the one before; at once if they are in main memory."""
        if flags.device.type == "cpu":
            return int(flags)
        bits = 0
        if self._before is not None and self._before[0] == step - 1:
            _, copy, done = self._before
            done.synchronize()  # long since reached: a whole forward pass lies between
            bits = int(copy)
        copy = torch.empty(1, dtype=torch.int32, pin_memory=True)
        copy.copy_(flags, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(flags.device))
        self._before = (step, copy, done)
        return bits


_trainings: dict[int, LateFlags] = {}  # by the id of their moments, which live as long as a training


def late_flags(moments: Moments) -> LateFlags:
    """The flags of the training that ``moments`` belong to; they go when those go."""
    key = id(moments)
    if key not in _trainings:
        _trainings[key] = LateFlags()
        weakref.finalize(moments, _trainings.pop, key, None)
    return _trainings[key]
