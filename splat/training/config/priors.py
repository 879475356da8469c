"""Settings of what helps where photos are few or were taken by strangers; all off by default (preset `sparse`)."""

from dataclasses import dataclass
from typing import Literal

from splat.training.config.fields import below_one, choice, code, fraction, non_negative, positive

DEPTHS = ("stereo", "depth-anything", "dpt", "marigold")


@dataclass(frozen=True)
class PriorsConfig:
    """For scenes of few photos (presets sparse and few); each works alone."""

    dense: bool = False
    """Initialise from dense multi-view stereo points, checked for consistency between photos."""
    reconstruct: str = code()
    """Take poses and points from this feed-forward reconstruction of yours: module:function (docs/sparse.md)."""
    confidence_rates: bool = False
    """Scale the position rates of dense points by their uncertainty (InstantSplat, Fan et al. 2024)."""
    completion: int = non_negative(0)
    """Seed coarse points with completed depth where only one photo sees the surface; this many along the shorter image
    side, 0 is off."""
    mean_background: bool = False
    """Use the mean colour of the photos as the background."""
    dropout: float = below_one(0.0)
    """Fraction of Gaussians dropped at random at the end, growing from 0 (DropGaussian, Park et al. 2025)."""
    depth: float = non_negative(0.0)
    """Weight of the depth correlation loss, global and in boxes, with a depth prior (SparseGS, FSGS)."""
    normal: float = non_negative(0.0)
    """Weight of the difference between rendered normals and those of the depth prior."""
    source: Literal["stereo", "depth-anything", "dpt", "marigold"] = choice("stereo", DEPTHS)
    """Depth prior; multi-view stereo needs no weights."""
    pseudo_views: float = fraction(0.0)
    """Fraction of the steps that train on pseudo views: renders of the dense points from between the photos."""
    floaters: float = fraction(0.0)
    """Fraction of the run between two removals of floaters in front of the surfaces; 0 is off."""
    proximity: float = fraction(0.0)
    """Fraction of the run between two proximity-guided unpoolings (FSGS, Zhu et al. 2024); 0 is off."""
    co_regularization: float = fraction(0.0)
    """Fraction of the steps that train on pseudo views of a second model (CoR-GS, Zhang et al. 2024)."""


@dataclass(frozen=True)
class WildConfig:
    """People and cars in front of the subject."""

    occluders: bool = False
    """Mask transient occluders by their residuals (RobustNeRF, Sabour et al. 2023)."""
    inpaint: bool = False
    """Train on inpainted pixels behind occluders instead of leaving them out of the loss."""


@dataclass(frozen=True)
class EnhanceConfig:
    """Rounds of new views that are rendered, repaired by a diffusion model, and trained on (LM-Gaussian)."""

    model: str = code()
    """A diffusers image-to-image pipeline: name on the hub or folder; empty is off."""
    control: str = code()
    """A ControlNet for it, conditioned on the render to repair: name or folder; empty uses none."""
    prompt: str = "a photo"
    """Text prompt: what the scene shows."""
    strength: float = fraction(0.2)
    """Strength of the image-to-image pipeline: how much of a picture may be generated anew."""
    start: float = fraction(0.4)
    """Fraction of the run at which the first round begins."""
    rounds: int = positive(3)
    """Rounds, evenly spread over the rest of the run; each reaches farther from the photos."""
    fraction: float = fraction(0.3)
    """Fraction of the steps that train on repaired views."""
