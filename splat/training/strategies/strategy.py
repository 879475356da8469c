"""`Strategy`: who decides where Gaussians are."""

from collections.abc import Callable
from dataclasses import dataclass

from splat.training.config.densify import DensifyConfig
from splat.training.population import Population
from splat.training.step_context import StepContext


@dataclass(frozen=True)
class Strategy:
    """Attributes:
    densify: the settings that all strategies share, resolved for this one.
    statistics: names of what is summed up over steps, as in `splat.rendering.fused_step.Statistics`.
    refine: called after every step; changes the population where a change is due.
    noise: strength of the noise on positions after each step; 0 is none.
    first: largest fraction of the budget that a run begins with.
    opacity_steps: run length for which the opacity weight is meant, others scale it; None if it is meant for all.
    """

    densify: DensifyConfig
    statistics: tuple[str, ...]
    refine: Callable[[Population, StepContext], None]
    noise: float = 0.0
    first: float = 1.0
    opacity_steps: int | None = None

    def opacity_weight(self, steps: int) -> float:
        """Weight of the mean opacity in the loss of a run of so many steps."""
        weight = self.densify.opacity_weight
        return weight if self.opacity_steps is None else weight * (steps / self.opacity_steps)
