"""Settings of the methods that spend a budget better: two more strategies, and what combines with any strategy.

Of what combines, only the mean over the end is on by default; `fast`, `quality`, `tiny` are measured combinations.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class TamingConfig:
    """Growth to an exact budget, guided by a score (Mallick et al. 2024, "Taming 3DGS"); nothing else is ever grown."""

    start: float = 0.03
    """Fraction of the run at which growing starts."""
    stop: float = 0.7
    """Fraction of the run at which the whole budget is there."""
    every: int = 100
    """Steps between two changes."""
    views: int = 10
    """Photos, drawn by lot, that one scoring looks at."""
    gradient: float = 2e-4
    """Mean screen gradient above which a Gaussian is a candidate; fewer than the quota are filled up by score."""
    small: float = 0.01
    """Size, in scene extents, up to which a Gaussian is cloned; larger ones are split."""
    split_factor: float = 1.6
    """Children of a split are smaller than their parent by this factor."""
    prune_opacity: float = 0.005
    """Gaussians less opaque than this are removed and their places given to others."""
    first: float = 0.5
    """Largest share of the budget to begin with: what is placed by score is better placed than a sparse point."""
    recycle: float = 0.5
    """Share of the Gaussians, the least opaque, whose places go to others in the course of the growing."""
    init_opacity: float = 0.1
    """Opacity of the first Gaussians."""
    init_scale: float = 1.0
    """Size of the first Gaussians, in distances to the nearest points."""
    opacity_weight: float = 0.003
    """Weight of the mean opacity in the loss of a run of `opacity_steps`."""
    opacity_steps: int = 2000
    """The weight grows in proportion to the number of steps: long runs fit the photos too closely. 0: it does not."""
    scale_weight: float = 0.01
    """Weight of the mean size, in scene extents, in the loss."""


@dataclass(frozen=True)
class TurboConfig:
    """Growth where position or colour still err, as fast as the loss converges (Feng et al. 2026, "Turbo-GS")."""

    start: float = 0.03
    """Fraction of the run at which growing starts."""
    stop: float = 0.6
    """Fraction of the run at which growing and pruning stop."""
    every: int = 50
    """Steps between two changes."""
    gradient: float = 1e-4
    """Mean screen gradient above which a position errs."""
    colour: float = 0.01
    """Gradient of the colour above which a colour errs, in units of `gradient`."""
    colour_chance: float = 0.2
    """Share of the changes, drawn by lot, that look at colours too."""
    visited: float = 0.25
    """Gaussians seen less often than this, in times the median one is seen, are left alone."""
    trust: float = 0.5
    """How much slower growth gets where the loss falls slower than it used to."""
    small: float = 0.01
    """Size, in scene extents, up to which a Gaussian is cloned; larger ones are split."""
    split_factor: float = 1.6
    """Children of a split are smaller than their parent by this factor."""
    prune_opacity: float = 0.005
    """Gaussians less opaque than this are removed."""
    init_opacity: float = 0.1
    """Opacity of the first Gaussians."""
    init_scale: float = 1.0
    """Size of the first Gaussians, in distances to the nearest points."""
    opacity_weight: float = 0.001
    """Weight of the mean opacity in the loss."""
    scale_weight: float = 0.01
    """Weight of the mean size, in scene extents, in the loss."""


@dataclass(frozen=True)
class CoarseConfig:
    """Small pictures and few Gaussians first (after Chen et al. 2025, "DashGaussian"); early steps cost a tenth."""

    start: float = 1.0
    """Divide the photos' sides by this at the start; 1 is off."""
    until: float = 0.5
    """Fraction of the run from which photos are used at full size."""
    count: float = 0.5
    """Power of the share of pixels in use to which the largest number of Gaussians is held back; 0 does not."""


@dataclass(frozen=True)
class DilateConfig:
    """Steps that draw a grid of pixels instead of all (Feng et al. 2026, "Turbo-GS"); for large photos."""

    stride: int = 1
    """Draw every so many-th pixel of every so many-th row, from a first one drawn by lot; 1 is off."""
    until: float = 1.0
    """Fraction of the run from which all pixels are drawn."""
    least: int = 0
    """Pictures of fewer pixels than this are drawn in full."""


@dataclass(frozen=True)
class GesConfig:
    """Generalised exponential Gaussians (Hamdi et al. 2024, "GES"): a learned shape scales each, edges count more."""

    shape: bool = False
    """Learn a shape per Gaussian; results are ordinary Gaussians of the scaled size."""
    shape_rate: float = 1e-3
    """Learning rate of the shapes."""
    reset_every: float = 0.025
    """Fraction of the run between two foldings of the shapes into the sizes."""
    reset_until: float = 0.375
    """Fraction of the run up to which shapes are folded and vanishing ones removed."""
    frequency: float = 0.0
    """Weight of the error where the picture has the frequencies of the moment; takes from L1. 0.5 in the paper."""


@dataclass(frozen=True)
class PruneConfig:
    """Removal of the Gaussians whose change would change pictures least (Hanson et al. 2025, "Speedy-Splat")."""

    share: float = 0.0
    """Share of all Gaussians that each removal takes; 0 is off."""
    times: int = 1
    """Number of removals, evenly spaced from `start` to `stop`."""
    start: float = 0.6
    """Fraction of the run of the first removal."""
    stop: float = 0.8
    """Fraction of the run of the last removal."""
    views: int = 24
    """Photos, drawn by lot, that one removal looks at."""


@dataclass(frozen=True)
class SmoothConfig:
    """Limit of sharpness (Yu et al. 2024, "Mip-Splatting"): no Gaussian is finer than its photos could show."""

    filter: float = 0.0
    """Variance of the filter, px² of the photo that shows the Gaussian finest; 0.2 in the paper, 0 is off."""
    every: int = 100
    """Steps between two measurements of the distances to the cameras."""


@dataclass(frozen=True)
class AverageConfig:
    """The mean of the Gaussians over the last part of the run, instead of the last of them."""

    start: float = 0.8
    """Fraction of the run from which on they are averaged, anew after each change of rows; 1 is off."""


@dataclass(frozen=True)
class BatchConfig:
    """More photos per step late in the run."""

    size: int = 1
    """Photos whose gradients are averaged before Gaussians move; each counts as a step. 1 is off."""
    start: float = 0.7
    """Fraction of the run from which on."""
