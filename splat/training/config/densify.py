"""Settings of the strategies: densification, which all of them share, and what each has of its own."""

from dataclasses import dataclass

from splat.training.config.fields import fraction, non_negative, opacity, positive

STRATEGIES = ("mcmc", "adc", "taming", "turbo")


@dataclass(frozen=True)
class DensifyConfig:
    """Where Gaussians are added and removed. What is not set has the strategy's own value, named in brackets."""

    start: float | None = fraction(None)
    """Fraction of the run at which densification starts."""
    stop: float | None = fraction(None)
    """Fraction of the run at which densification stops; taming and turbo have the whole budget by then."""
    every: int | None = positive(None)
    """Steps between two densifications."""
    gradient: float | None = non_negative(None)
    """Mean screen-space gradient (normalised device units) above which a Gaussian is cloned or split."""
    small: float | None = non_negative(None)
    """Size, in scene extents, up to which a Gaussian is cloned; larger ones are split."""
    split_factor: float | None = positive(None)
    """Children of a split are smaller than their parent by this factor."""
    prune_opacity: float | None = opacity(None)
    """Prune Gaussians less opaque than this; mcmc relocates them."""
    init_opacity: float | None = opacity(None)
    """Opacity of the initial Gaussians."""
    init_scale: float | None = positive(None)
    """Size of the initial Gaussians, in distances to the nearest points."""
    opacity_weight: float | None = non_negative(None)
    """Weight of the mean opacity in the loss; taming scales it by the number of steps / 2,000."""
    scale_weight: float | None = non_negative(None)
    """Weight of the mean size, in scene extents, in the loss."""


STRATEGY_DEFAULTS = {
    # Kheradmand et al. 2024; the strategy neither clones nor splits by gradient.
    "mcmc": DensifyConfig(
        *(0.0167, 0.83, 100, None, None, None),
        prune_opacity=0.005, init_opacity=0.5, init_scale=1.0, opacity_weight=0.01, scale_weight=0.01,
    ),
    # Kerbl et al. 2023, with weights on opacity and size in place of opacity resets (preset `adc-2023` has those).
    "adc": DensifyConfig(
        *(0.05, 0.85, 100, 2e-4, 0.01, 1.6),
        prune_opacity=0.005, init_opacity=0.1, init_scale=1.0, opacity_weight=0.01, scale_weight=0.01,
    ),
    # Mallick et al. 2024.
    "taming": DensifyConfig(
        *(0.03, 0.7, 100, 2e-4, 0.01, 1.6),
        prune_opacity=0.005, init_opacity=0.1, init_scale=1.0, opacity_weight=0.003, scale_weight=0.01,
    ),
    # Feng et al. 2026.
    "turbo": DensifyConfig(
        *(0.03, 0.6, 50, 1e-4, 0.01, 1.6),
        prune_opacity=0.005, init_opacity=0.1, init_scale=1.0, opacity_weight=0.001, scale_weight=0.01,
    ),
}  # fmt: skip


def resolve(strategy: str, config: DensifyConfig) -> DensifyConfig:
    """``config`` with numbers for whatever ``strategy`` uses, and None for what it has no use for."""
    values = {}
    for name, own in vars(STRATEGY_DEFAULTS[strategy]).items():
        given = getattr(config, name)
        values[name] = own if own is None or given is None else given
    return DensifyConfig(**values)


@dataclass(frozen=True)
class McmcConfig:
    """Relocates dead Gaussians, adds copies drawn by opacity, and adds noise to positions (Kheradmand et al. 2024)."""

    full: float = fraction(0.5)
    """Fraction of the run by which the budget is used; growth exceeds the paper's 5 % where that needs it."""
    noise: float = non_negative(5e5)
    """Strength of the exploration noise: times the learning rate of positions, both in scene extents."""


@dataclass(frozen=True)
class AdcConfig:
    """Clones and splits where screen-space gradients are large, prunes what is transparent (Kerbl et al. 2023, §5)."""

    absolute_gradient: bool = False
    """Sum absolute per-pixel gradients (AbsGS, Ye et al. 2024); a densify.gradient of 8e-4 is usual then."""
    reset_every: float = fraction(0.0)
    """Fraction of the run between two opacity resets; 0 never resets. 0.1 in the paper."""


@dataclass(frozen=True)
class TamingConfig:
    """Grows to an exact budget, by a score of the photos and the Gaussians (Mallick et al. 2024)."""

    first: float = fraction(0.5)
    """Largest fraction of the budget to begin with: what is placed by score is better placed than a sparse point."""
    recycle: float = fraction(0.5)
    """Fraction of the Gaussians, faintest first, recycled over the growth phase."""
