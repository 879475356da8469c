"""Strategies and hooks by the settings that ask for them."""

from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.strategies.strategy import Strategy


def strategy_of(config: TrainConfig) -> Strategy:
    """The strategy that ``config`` names."""
    from splat.training.strategies import adc, mcmc, taming, turbo

    modules = {"adc": adc, "mcmc": mcmc, "taming": taming, "turbo": turbo}
    return modules[config.strategy].strategy(getattr(config, config.strategy))


def hooks_of(config: TrainConfig) -> tuple[TrainingHook, ...]:
    """The methods that combine with any strategy, where ``config`` switches them on."""
    from splat.training.hooks import coarse_to_fine, ges, mip_filter, sensitivity_pruning

    hooks = []
    if config.coarse.start > 1:
        hooks.append(coarse_to_fine.hook(config.coarse, config.scene.cache_megabytes << 20))
    if config.ges.shape or config.ges.frequency > 0:
        hooks.append(ges.hook(config.ges))
    if config.smooth.filter > 0:
        hooks.append(mip_filter.hook(config.smooth))
    if config.prune.share > 0:
        hooks.append(sensitivity_pruning.hook(config.prune))
    return tuple(hooks)
