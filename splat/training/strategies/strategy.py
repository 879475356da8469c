"""`Strategy`: who decides where Gaussians are."""

from collections.abc import Callable
from dataclasses import dataclass

from splat.training.config.config import AdcConfig, McmcConfig, TamingConfig, TurboConfig
from splat.training.population import Population
from splat.training.step_context import StepContext


@dataclass(frozen=True)
class Strategy:
    """Attributes:
    config: the strategy's settings.
    statistics: names of what is summed up over steps, as in `splat.rendering.fused_step.Statistics`.
    refine: called after every step; changes the population where a change is due.
    noise: strength of the noise on positions after each step; 0 is none.
    """

    config: AdcConfig | McmcConfig | TamingConfig | TurboConfig
    statistics: tuple[str, ...]
    refine: Callable[[Population, StepContext], None]
    noise: float = 0.0

    def opacity_weight(self, steps: int) -> float:
        """Weight of the mean opacity in the loss of a run of so many steps."""
        meant = getattr(self.config, "opacity_steps", 0)
        return self.config.opacity_weight * (steps / meant if meant else 1.0)
