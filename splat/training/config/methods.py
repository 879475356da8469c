"""Settings of the methods that combine with any strategy.

Only the averaging of weights is on by default; the presets `fast`, `quality` and `tiny` are measured combinations.
"""

from dataclasses import dataclass

from splat.training.config import fields
from splat.training.config.fields import fraction, non_negative, positive


@dataclass(frozen=True)
class CoarseConfig:
    """Starts with small photos and few Gaussians, as early steps need no more (after Chen et al. 2025)."""

    start: float = positive(1.0)
    """Divide the sides of photos by this at the start; 1 is off."""
    until: float = fraction(0.5)
    """Fraction of the run from which photos are used at full size."""


@dataclass(frozen=True)
class DilateConfig:
    """Renders and compares a strided grid of pixels in each step, for large photos (Feng et al. 2026)."""

    stride: int = positive(1)
    """Render every s-th pixel of every s-th row, from a random first one; 1 is off."""
    until: float = fraction(1.0)
    """Fraction of the run from which all pixels are rendered."""
    min_pixels: int = non_negative(0)
    """Photos of fewer pixels than this are rendered in full."""


@dataclass(frozen=True)
class GesConfig:
    """A learned shape scales each Gaussian, and a frequency-masked loss sharpens edges (Hamdi et al. 2024)."""

    shape: bool = False
    """Learn a shape per Gaussian; results are ordinary Gaussians of the scaled size."""
    frequency: float = fraction(0.0)
    """Weight of the frequency-masked L1 term; reduces plain L1 accordingly. 0.5 in the paper."""


@dataclass(frozen=True)
class PruneConfig:
    """Prunes the Gaussians with the lowest sensitivity score (Hanson et al. 2025)."""

    fraction: float = fields.fraction(0.0)
    """Fraction of all Gaussians that each pruning removes; 0 is off."""
    times: int = positive(1)
    """Number of prunings, evenly spaced from prune.start to prune.stop."""
    start: float = fields.fraction(0.6)
    """Fraction of the run of the first pruning."""
    stop: float = fields.fraction(0.8)
    """Fraction of the run of the last pruning."""


@dataclass(frozen=True)
class SmoothConfig:
    """No Gaussian is finer than the sampling rate of the photos that show it (Yu et al. 2024, §4.1)."""

    filter: float = non_negative(0.0)
    """Variance of the filter, px² of the photo that shows the Gaussian finest; 0.2 in the paper, 0 is off."""


@dataclass(frozen=True)
class AverageConfig:
    """The result is the mean of the Gaussians over the end of the run (Izmailov et al. 2018)."""

    start: float = fraction(0.8)
    """Fraction of the run from which weights are averaged, anew after each densification; 1 is off."""


@dataclass(frozen=True)
class BatchConfig:
    """More photos per step late in the run."""

    size: int = positive(1)
    """Photos whose gradients are averaged in one step; each step costs as much more. 1 is off."""
    start: float = fraction(0.7)
    """Fraction of the run from which steps use batches."""
