"""What stays the same over a training run."""

from dataclasses import dataclass
from types import ModuleType

from torch import Tensor

from splat.scene import ImageCache, Scene, View
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import Part
from splat.training.strategies.strategy import Strategy


@dataclass(frozen=True)
class Setup:
    """What stays the same over a run."""

    scene: Scene
    config: TrainConfig
    strategy: Strategy
    backend: ModuleType
    cache: ImageCache  # of the training views
    keypoints: tuple[tuple[Tensor | None, Tensor | None], ...]  # points and pixels of each training view
    parts: tuple[Part, ...] = ()  # what takes part besides the photos

    @property
    def views(self) -> tuple[View, ...]:
        return self.cache.views

    @property
    def pixels(self) -> float:
        """Of a photo, on average."""
        return sum(view.camera.width * view.camera.height for view in self.views) / len(self.views)

    @property
    def name(self) -> str:
        """Name of the backend."""
        return self.backend.__name__.rpartition(".")[2]
