"""Strategies and hooks by the settings that ask for them."""

from splat.training.config.config import TrainConfig
from splat.training.config.densify import resolve
from splat.training.hooks.hook import TrainingHook
from splat.training.strategies.strategy import Strategy


def strategy_of(config: TrainConfig) -> Strategy:
    """The strategy that ``config`` names."""
    from splat.training.strategies import adc, mcmc, taming, turbo

    densify = resolve(config.strategy, config.densify)
    if config.strategy == "adc":
        return adc.strategy(densify, config.adc)
    if config.strategy == "taming":
        return taming.strategy(densify, config.taming)
    return turbo.strategy(densify) if config.strategy == "turbo" else mcmc.strategy(densify, config.mcmc)


def hooks_of(config: TrainConfig, photo_bytes: int) -> tuple[TrainingHook, ...]:
    """The methods that combine with any strategy, where ``config`` switches them on.

    Args:
        photo_bytes: what they may keep of smaller photos.
    """
    from splat.training.hooks import coarse_to_fine, ges, mip_filter, sensitivity_pruning

    hooks = []
    if config.coarse.start > 1:
        hooks.append(coarse_to_fine.hook(config.coarse, photo_bytes))
    if config.ges.shape or config.ges.frequency > 0:
        hooks.append(ges.hook(config.ges))
    if config.smooth.filter > 0:
        hooks.append(mip_filter.hook(config.smooth))
    if config.prune.fraction > 0:
        hooks.append(sensitivity_pruning.hook(config.prune))
    return tuple(hooks)
