"""Densification strategies, one file each.

A strategy is a `Strategy`: which statistics it wants accumulated, and a function that is called after every step and
changes the population through `splat.training.edit`, and only through it. It keeps no state of its own: everything it
needs is in the population, its config and the `Moment`, so that a resumed run goes on exactly.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from splat.training.config import AdcConfig, McmcConfig, TrainConfig
from splat.training.edit import Population
from splat.training.randomness import generator


@dataclass(frozen=True)
class Moment:
    """When and where a strategy is asked.

    Attributes:
        step: number of steps done, from 1.
        fraction, before: share of the run done after and before this step.
        extent: size of the scene, world units.
        cap: largest number of Gaussians.
        seed: of the run.
    """

    step: int
    fraction: float
    before: float
    extent: float
    cap: int
    seed: int

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers for ``purpose`` at this step."""
        return generator(self.seed, purpose, self.step)


@dataclass(frozen=True)
class Strategy:
    """Attributes:
    config: the strategy's settings.
    statistics: names of what is summed up over steps, as in `splat.rendering.cpu.Statistics`.
    refine: called after every step; changes the population where one is due.
    noise: strength of the noise on positions after each step; 0 is none.
    """

    config: AdcConfig | McmcConfig
    statistics: tuple[str, ...]
    refine: Callable[[Population, Moment], None]
    noise: float = 0.0


def strategy_of(config: TrainConfig) -> Strategy:
    """The strategy that ``config`` names."""
    from splat.training.strategies import adc, mcmc

    return {"adc": lambda: adc.strategy(config.adc), "mcmc": lambda: mcmc.strategy(config.mcmc)}[config.strategy]()
