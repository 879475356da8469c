"""What stays the same over a training run."""

import functools
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from splat.scene import ImageCache, Scene, View
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.strategies.strategy import Strategy
from splat.training.timing import Timer, untimed


@dataclass(frozen=True)
class Setup:
    """What stays the same over a run.

    Attributes:
        cache: of the training views.
        keypoints: sparse points (M, 3) and their pixels (M, 2) of each training view, for the depth loss.
        hooks: what plugs in beside the strategy.
        timer: see `splat.training.timing`.
    """

    scene: Scene
    config: TrainConfig
    strategy: Strategy
    backend: ModuleType
    cache: ImageCache
    keypoints: tuple[tuple[Tensor | None, Tensor | None], ...]
    hooks: tuple[TrainingHook, ...] = ()
    timer: Timer = untimed

    @property
    def views(self) -> tuple[View, ...]:
        return self.cache.views

    @functools.cached_property
    def pixels(self) -> float:
        """Of a photo, on average."""
        return sum(view.camera.width * view.camera.height for view in self.views) / len(self.views)

    @property
    def name(self) -> str:
        """Name of the backend."""
        return self.backend.__name__.rpartition(".")[2]

    @property
    def device(self) -> torch.device:
        """Where the cloud lives that the backend trains."""
        return torch.device("cuda" if self.name in ("cuda", "gsplat") else "cpu")
