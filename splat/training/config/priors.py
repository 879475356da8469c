"""Settings of what helps where photos are few or were taken by strangers; all off by default (preset `sparse`)."""

from dataclasses import dataclass
from typing import Literal

DEPTHS = ("stereo", "depth-anything", "dpt", "marigold")


@dataclass(frozen=True)
class PriorsConfig:
    """Priors for scenes of few photos: each works alone."""

    dense: bool = False
    """Start from dense points, by stereo between the photos, checked from photo to photo."""
    reconstruct: str = ""
    """Take poses and points from this function of yours instead, given as module:function (see docs/sparse.md)."""
    confidence_rates: bool = False
    """Let positions of dense points move the less the surer they are (InstantSplat)."""
    guess: int = 0
    """Guess the depth of what only one photo shows, and start from so many coarse points along its shorter side there;
    0 guesses none."""
    mean_background: bool = False
    """Put the mean colour of the photos behind the scene: where nothing is known, it is nearest to what may be."""
    dropout: float = 0.0
    """Share of the Gaussians that a step hides, by lot, at the end of the run; grows from zero (DropGaussian)."""
    depth: float = 0.0
    """Weight of the correlation, in all and in boxes, of depth with a prior."""
    normal: float = 0.0
    """Weight of the difference of normals from those of the prior depth."""
    source: Literal["stereo", "depth-anything", "dpt", "marigold"] = "stereo"
    """Where the prior depth comes from; the stereo of `dense` needs no weights."""
    virtual: float = 0.0
    """Share of the steps that train on pictures of the dense points, taken from between the photos."""
    floaters: float = 0.0
    """Fraction of the run between two removals of what floats before the surfaces; 0 removes none."""
    proximity: float = 0.0
    """Fraction of the run between two insertions of Gaussians where they stand far apart; 0 inserts none (FSGS)."""
    partner: float = 0.0
    """Share of the steps that train on what a second model, trained beside, shows from between the photos (CoR-GS)."""


@dataclass(frozen=True)
class WildConfig:
    """Photos that strangers took: people and cars before the subject."""

    occluders: bool = False
    """Find what only one photo shows, by its residuals, and leave it out of the loss."""
    occluder_start: float = 0.2
    """Fraction of the run after which residuals are trusted."""
    inpaint: bool = False
    """Train behind occluders on what the enhancer invents there, instead of on nothing."""


@dataclass(frozen=True)
class EnhanceConfig:
    """Refinement by a generative prior: new views are drawn, repaired by a diffusion model, and trained on."""

    model: str = ""
    """A diffusers image-to-image pipeline: name on the hub or folder. Empty switches refinement off."""
    control: str = ""
    """A ControlNet for it, fed with the picture to repair: name or folder; empty uses none."""
    prompt: str = "a photo"
    """What the scene shows, in words."""
    strength: float = 0.2
    """How much of a picture may be invented anew, 0 to 1."""
    inference_steps: int = 50
    """Denoising steps of a whole image; `strength` of them are made."""
    start: float = 0.4
    """Fraction of the run at which the first round begins."""
    rounds: int = 3
    """Rounds, evenly spread over the rest of the run; each reaches farther from the photos."""
    between: int = 4
    """New views between each photo and its neighbours."""
    share: float = 0.3
    """Share of the steps that train on repaired views."""
    weight: float = 1.0
    """Weight of repaired views in the loss."""
