"""Settings of short runs on `ring_scene`: the plain one, and one with each method for tight budgets."""

import dataclasses

from splat.training.config.config import TrainConfig
from splat.training.config.densify import DensifyConfig
from splat.training.config.methods import BatchConfig, CoarseConfig, DilateConfig, GesConfig, PruneConfig, SmoothConfig
from splat.training.step_context import StepContext

SHORT = TrainConfig(
    steps=40,
    gaussians=120,
    sh_degree=1,
    background=(0.1, 0.1, 0.1),
    checkpoint_seconds=0,
    densify=DensifyConfig(every=10),
)
_OFTEN = DensifyConfig(every=5)
METHODS = {
    "taming": {"strategy": "taming", "densify": _OFTEN},
    "turbo": {"strategy": "turbo", "densify": _OFTEN},
    "coarse": {"coarse": CoarseConfig(start=3.0)},
    "dilate": {"dilate": DilateConfig(stride=2, until=0.8)},
    "ges": {"ges": GesConfig(shape=True, frequency=0.5)},
    "smooth": {"smooth": SmoothConfig(filter=0.2)},
    "prune": {"prune": PruneConfig(fraction=0.3, times=2, start=0.4)},
    "batch": {"batch": BatchConfig(size=2, start=0.5)},
}
METHODS["all"] = {name: value for changes in METHODS.values() for name, value in changes.items()}


def config_with(name: str) -> TrainConfig:
    """`SHORT` with the method ``name``."""
    return dataclasses.replace(SHORT, **METHODS[name])


def context_at(step: int, steps: int, cap: int, first: int = 10, losses=()) -> StepContext:
    """A run of ``steps`` at ``step``, of extent 1."""
    return StepContext(step, step / steps, (step - 1) / steps, 1.0, cap, 0, first, losses)
