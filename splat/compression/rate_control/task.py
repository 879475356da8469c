"""What is asked of a compression, handed from stage to stage."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

from splat.cloud import GaussianCloud
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.compression.rate_control.search import Goal, search
from splat.compression.rate_control.target_format import COARSEST, FINEST, TargetFormat, Trial
from splat.rendering import RenderOptions
from splat.scene import Scene

STEPS = 4000  # of training, with photos


def ignore(*_: Any) -> None:
    """The callback of who wants to hear nothing."""


@dataclass(frozen=True)
class CompressionTask:
    """A cloud to make small, into what, and how the result is measured.

    Attributes:
        cloud: the input: float32, on the CPU, no broken rows, no extras.
        target: the file format. goal: smallest quality or largest size. metric: measures quality.
        options: how to render.
        scene: photos and cameras, or None.
        steps: of training in all, where the goal is a drop on photos.
        slope: by how much a step of one in quality usually changes `Goal.miss`.
        seed: of what is drawn at random.
        report: called with every trial. advance: called after each step of training.
        say: called with a sentence after every stage of training.
    """

    cloud: GaussianCloud
    target: TargetFormat
    goal: Goal
    metric: FidelityMetric
    options: RenderOptions
    scene: Scene | None = None
    steps: int = STEPS
    slope: float = 0.5
    seed: int = 0
    report: Callable[[Trial], None] = ignore
    advance: Callable[[], None] = ignore
    say: Callable[[str], None] = ignore

    def trial(self, cloud: GaussianCloud, quality: float | None) -> Trial:
        """``cloud`` written in the target format at ``quality``, read back and measured."""
        return self.target.trial(cloud, quality, self.metric)

    def candidate(self, cloud: GaussianCloud) -> Callable[[float], Trial]:
        """`trial` of ``cloud`` by quality."""
        return partial(self.trial, cloud)

    def search_quality(
        self, candidates: Iterable[Callable[[float], Trial]], start: float, slope: float | None = None
    ) -> Trial:
        """The best trial of ``candidates`` that meets the goal, looked for from quality ``start`` on.

        Raises InputError naming the nearest trial when none meets the goal.
        """
        return search(candidates, self.goal, (COARSEST, FINEST), self.report, (start, slope or self.slope))
