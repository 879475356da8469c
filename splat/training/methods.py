"""Strategies and hooks by the settings that ask for them."""

from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import Part
from splat.training.strategies.strategy import Strategy


def strategy_of(config: TrainConfig) -> Strategy:
    """The strategy that ``config`` names."""
    from splat.training.strategies import adc, mcmc, taming, turbo

    modules = {"adc": adc, "mcmc": mcmc, "taming": taming, "turbo": turbo}
    return modules[config.strategy].strategy(getattr(config, config.strategy))


def parts_of(config: TrainConfig, photo_bytes: int) -> tuple[Part, ...]:
    """The methods that combine with any strategy, where ``config`` switches them on.

    Args:
        photo_bytes: what they may keep of smaller photos.
    """
    from splat.training.hooks import coarse_to_fine, ges, mip_filter, sensitivity_pruning

    parts = []
    if config.coarse.start > 1:
        parts.append(coarse_to_fine.part(config.coarse, photo_bytes))
    if config.ges.shape or config.ges.frequency > 0:
        parts.append(ges.part(config.ges))
    if config.smooth.filter > 0:
        parts.append(mip_filter.part(config.smooth))
    if config.prune.share > 0:
        parts.append(sensitivity_pruning.part(config.prune))
    return tuple(parts)
