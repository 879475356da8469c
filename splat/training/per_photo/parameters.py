"""Parameters of which each training photo has its own row: exposures, bilateral grids, pose corrections."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.training.step_context import StepContext

BETA1, BETA2, EPS = 0.9, 0.999, 1e-15


class PhotoParameters:
    """V rows of small parameters, zero at first, with an Adam of their own in which a step touches one photo's row.

    Each row counts its own steps, so that bias correction holds for photos seen rarely. After every step the mean over
    photos is removed: what all photos share (a colour cast, a shift of the whole scene) belongs to the cloud.
    """

    def __init__(self, photos: int, *shape: int) -> None:
        self.values = torch.zeros(photos, *shape)
        self.first = torch.zeros_like(self.values)
        self.second = torch.zeros_like(self.values)
        self.steps = torch.zeros(photos, dtype=torch.int64)

    def row(self, photo: int) -> Tensor:
        """A leaf of autograd that holds the photo's parameters; hand its gradient to `step`."""
        return self.values[photo].clone().requires_grad_()

    def step(self, photo: int, gradient: Tensor, rate: float) -> None:
        """One Adam step of the photo's row along ``gradient``; none where that is not finite."""
        if not bool(gradient.isfinite().all()):
            return
        self.steps[photo] += 1
        count = int(self.steps[photo])
        first, second = self.first[photo], self.second[photo]
        first.mul_(BETA1).add_(gradient, alpha=1 - BETA1)
        second.mul_(BETA2).addcmul_(gradient, gradient, value=1 - BETA2)
        scale = (second / (1 - BETA2**count)).sqrt_().add_(EPS)
        self.values[photo] -= rate / (1 - BETA1**count) * first / scale
        self.values -= self.values.mean(0)

    def to(self, device: torch.device) -> "PhotoParameters":
        """Move the values and moments to ``device``, in place."""
        for name in ("values", "first", "second"):
            setattr(self, name, getattr(self, name).to(device))
        return self

    def state(self) -> dict[str, Tensor]:
        """Everything a checkpoint needs."""
        return {name: getattr(self, name) for name in ("values", "first", "second", "steps")}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over what `state` gave. Raises ValueError if it belongs to another number of photos."""
        for name, values in state.items():
            current = getattr(self, name)
            if not isinstance(values, Tensor) or (values.shape, values.dtype) != (current.shape, current.dtype):
                found = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
                raise ValueError(f"{name} is {found}, expected {current.dtype} {tuple(current.shape)}")
            setattr(self, name, values.to(current.device))


@dataclass(frozen=True)
class PerPhoto:
    """What is learned of each photo, and how fast: what a hook declares and a `Fitter` steps.

    Attributes:
        parameters: one row per photo.
        rate: their learning rate.
    """

    parameters: PhotoParameters
    rate: Callable[[StepContext], float]
