"""`Part`: something that takes part in a training run besides its photos, such as a prior for scenes of few photos.

The trainer asks each part at the same places of every step; a run without parts is the plain path. Parts draw all
randomness from (seed, step) and keep what they learn in `state`, so that a resumed run goes on exactly.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.rendering.types import ImageGradients, Rendering
from splat.training.losses.image import PictureLoss
from splat.training.per_photo.parameters import PhotoParameters
from splat.training.population import Population
from splat.training.step_types import Shot, When

if TYPE_CHECKING:
    from splat.training.state import State
    from splat.training.strategies.strategy import Moment


@dataclass(frozen=True)
class Part:
    """Attributes, each None (or empty) where the part has no say:
    name: in messages and checkpoints.
    first: changes the first Gaussians, within the cap on their number.
    needs: pictures it needs beside the colours: "depth", "normal", "square_depth".
    shot: a picture to train on in this step instead of a photo, or None for the photo.
    view: the shot as it is to be drawn and compared, for example smaller.
    drawn: the cloud as it is drawn and, at the end, written; differentiable in its floating-point tensors.
    look: the drawn cloud as one photo shows it, made with that photo's row of ``rows``; differentiable likewise.
    rows, rows_rate: parameters of each photo for ``look``, and their learning rate, which falls to a tenth.
    rates: learning rates of the extras that ``drawn`` and ``look`` read.
    hidden: share of the Gaussians, drawn by lot, that this step does not show.
    aim: the shot as it should be compared, for example with more of the photo masked.
    judge: what it minimises beside the comparison with the photo, and its gradients.
    refine: changes the population after a step, as a strategy does.
    state, restore: what it has learnt, as plain data for a checkpoint, and the way back.
    """

    name: str
    first: Callable[[GaussianCloud], GaussianCloud] | None = None
    needs: frozenset[str] = frozenset()
    shot: "Callable[[State, When], Shot | None] | None" = None
    view: Callable[[Shot, When], Shot] | None = None
    drawn: Callable[[GaussianCloud], GaussianCloud] | None = None
    look: Callable[[GaussianCloud, Tensor], GaussianCloud] | None = None
    rows: PhotoParameters | None = None
    rows_rate: float = 0.0
    rates: Mapping[str, float] = field(default_factory=dict)
    hidden: Callable[[When], float] | None = None
    aim: "Callable[[State, Rendering, Shot, When], Shot] | None" = None
    judge: Callable[[Rendering, Shot, When], tuple[float, ImageGradients]] | None = None
    refine: "Callable[[Population, Moment], None] | None" = None
    state: Callable[[], dict[str, Any]] | None = None
    restore: Callable[[dict[str, Any]], None] | None = None


FREEDOM = "freedom"
"""Name of the column (an extra of the cloud) that says how much of a step each Gaussian's position makes, 0 to 1."""


def without_columns(cloud: GaussianCloud) -> GaussianCloud:
    """``cloud`` without what only its training needed."""
    return cloud.replace(extras={name: values for name, values in cloud.extras.items() if name != FREEDOM})


def needs(parts: Sequence[Part], what: str) -> bool:
    """Whether any part needs the picture ``what``."""
    return any(what in part.needs for part in parts)


def judged(parts: Sequence[Part], found: PictureLoss, rendering: Rendering, shot: Shot, when: When) -> PictureLoss:
    """``found`` with its weight applied and with what the parts minimise added."""
    if shot.weight != 1.0:
        found = replace(found, gradients=_scaled(found.gradients, shot.weight))
    for part in parts:
        if part.judge is not None:
            penalty, gradients = part.judge(rendering, shot, when)
            found = replace(found, penalties=found.penalties + penalty, gradients=_sum(found.gradients, gradients))
    return found


def _scaled(gradients: ImageGradients, weight: float) -> ImageGradients:
    return ImageGradients(**{name: None if each is None else each * weight for name, each in vars(gradients).items()})


def _sum(a: ImageGradients, b: ImageGradients) -> ImageGradients:
    pairs = {name: (each, getattr(b, name)) for name, each in vars(a).items()}
    return ImageGradients(**{name: x if y is None else y if x is None else x + y for name, (x, y) in pairs.items()})


@contextmanager
def holding(cloud: GaussianCloud) -> Iterator[None]:
    """Let the positions of a cloud that has the column `FREEDOM` go only that share of a step made inside the block."""
    freedom = cloud.extras.get(FREEDOM)
    if freedom is None:
        yield
        return
    before = cloud.means.clone()
    try:
        yield
    finally:
        cloud.means.copy_(torch.lerp(before, cloud.means, freedom[:, None]))
