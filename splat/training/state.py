"""What a training run holds between steps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.scene import Scene
from splat.scene.scene import photo_count
from splat.training.per_photo.parameters import PerPhoto
from splat.training.population import Population
from splat.training.schedules import Schedule


@dataclass
class State:
    """What changes over a run; all of it goes into a checkpoint.

    Attributes:
        population: the Gaussians with their optimiser.
        schedule: step and fraction of the run.
        per_photo: the corrections of photos that are switched on, by name.
        loss, mse: running means over steps; NaN before the first.
        history: one entry per hundredth of the run, as in metrics.json.
        losses: (step, running mean of the loss), one per hundredth of the run.
        frozen: Gaussians that are drawn with the population and stay as they are (see `splat.training.frozen`).
        first_count: number of Gaussians the population began with.
        start_files: of the files that the run began with, see `splat.training.start.Start`.
    """

    population: Population
    schedule: Schedule
    per_photo: Mapping[str, PerPhoto]
    loss: float = math.nan
    mse: float = math.nan
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    frozen: GaussianCloud | None = None
    first_count: int = 0
    start_files: tuple[dict[str, Any], ...] = ()

    @property
    def cloud(self) -> GaussianCloud:
        return self.population.cloud

    @property
    def frozen_count(self) -> int:
        return 0 if self.frozen is None else len(self.frozen)

    @property
    def count(self) -> int:
        """Number of all Gaussians, the frozen ones included."""
        return len(self.population) + self.frozen_count

    @property
    def psnr(self) -> float:
        """Running mean over training photos, dB; infinite where they are drawn without any error."""
        if not math.isfinite(self.mse):
            return math.nan
        return -10 * math.log10(self.mse) if self.mse > 0 else math.inf


def check_views(scene: Scene) -> None:
    """Raise InputError when nothing is left to train on."""
    if not scene.train_views:
        raise InputError(
            f"{scene.root} has {photo_count(scene.views)} photos, all held out for evaluation; training needs at least "
            "two"
        )
