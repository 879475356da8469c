"""What stays the same over a training run."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.rendering import Backend
from splat.scene import Scene, View
from splat.scene.scene import photo_numbers
from splat.training.budget import max_gaussians
from splat.training.config.config import TrainConfig
from splat.training.device_photos import DevicePhotos
from splat.training.hooks.hook import TrainingHook
from splat.training.start import Start, first_count
from splat.training.strategies.strategy import Strategy
from splat.training.timing import Timer, untimed


@dataclass(frozen=True)
class Setup:
    """What stays the same over a run.

    Attributes:
        cache: of the training views.
        keypoints: sparse points (M, 3) and their pixels (M, 2) of each training view, for the depth loss.
        depth_weight: of the depth loss.
        hooks: what plugs in beside the strategy.
        timer: see `splat.training.timing`.
        start: what the first Gaussians come from beside the scene; of use afterwards only where its points are a scan.
    """

    scene: Scene
    config: TrainConfig
    strategy: Strategy
    backend: Backend
    photos: DevicePhotos
    keypoints: tuple[tuple[Tensor | None, Tensor | None], ...]
    depth_weight: float = 0.0
    hooks: tuple[TrainingHook, ...] = ()
    timer: Timer = untimed
    start: Start = Start()

    @property
    def views(self) -> tuple[View, ...]:
        return self.photos.cache.views

    @functools.cached_property
    def rows(self) -> list[int]:
        """For each training view, the number of its photo: the row of what is learned of that."""
        return photo_numbers(self.views)

    @functools.cached_property
    def pixels(self) -> float:
        """Of a photo, on average."""
        return sum(view.camera.width * view.camera.height for view in self.views) / len(self.views)

    @functools.cached_property
    def first_count(self) -> int:
        """Number of Gaussians a run begins to train: one per sparse point, as far as budget and strategy allow."""
        frozen = 0 if self.start.frozen is None else len(self.start.frozen)
        budget = max_gaussians(self.config, pixels=self.pixels) - frozen
        return first_count(self.start, len(self.scene.points), budget, self.strategy.first)

    @property
    def name(self) -> str:
        """Name of the backend."""
        return self.backend.name

    @property
    def device(self) -> torch.device:
        """Where the cloud lives that the backend trains."""
        return self.backend.device
