"""Settings of the photos: where they come from, and what is corrected in them during training."""

from dataclasses import dataclass
from typing import Literal

from splat.training.config.fields import choice, fraction, non_negative, positive


@dataclass(frozen=True)
class AppearanceConfig:
    """Used in training only; the mean over all photos stays neutral."""

    exposure: bool = False
    """One affine colour transform (3×4) per photo (Kerbl et al. 2024, "Hierarchical 3DGS")."""
    exposure_rate: float = non_negative(1e-3)
    """Learning rate of the exposures, falling to a tenth."""
    bilateral_grid: bool = False
    """One bilateral grid (16×16×8 affine transforms) per photo, for local changes (Wang et al. 2024)."""
    features: int = non_negative(0)
    """Appearance features per Gaussian, for changes in parts of the scene such as the sky (after "NeRF in the Wild" and
    WildGaussians); 0 is off, 4 is usual."""


@dataclass(frozen=True)
class PoseConfig:
    """Training cameras move by small rigid motions until their photos fit."""

    refine: bool = False
    """Refine the poses of the training cameras."""
    rate: float = non_negative(1e-5)
    """Learning rate, radians and scene extents, falling to a hundredth."""


@dataclass(frozen=True)
class SurfaceConfig:
    """For clouds that are to become meshes (preset surface)."""

    normals: float = non_negative(0.0)
    """Weight of normal consistency with the rendered depth (2DGS, Huang et al. 2024); 0.05 is usual."""
    start: float = fraction(0.25)
    """Fraction of the run from which normal consistency and depth distortion count."""
    flatten: float = non_negative(0.0)
    """How fast the shortest axis of each Gaussian shrinks, in learning rates of the scales (aim of PGSR, Chen et al.
    2024); 0.1 is usual."""
    distortion: float = non_negative(0.0)
    """Weight of depth distortion, the spread of a ray's Gaussians (2DGS); 1 is usual."""


@dataclass(frozen=True)
class SceneConfig:
    """Where the photos come from and at what size they are used."""

    path: str = ""
    """Folder of the scene; filled in by the command line."""
    downscale: float | None = positive(None)
    """Divide the sides of photos by this."""
    max_side: int | None = positive(None)
    """Shrink photos so that no side is longer than this, pixels."""
    hold_out: str = "auto"
    """Photos kept from training to measure the result on: auto (the test set that the scene names, else every 8th),
    none, a number n (every n-th), a fraction, or a file with a name on each line."""
    masks: Literal["object", "ignore", "none"] = choice("object", ("object", "ignore", "none"))
    """What is white in the masks beside the photos: the object to keep, or what to ignore; none uses no masks."""
    alpha: Literal["auto", "mask", "composite", "none"] = choice("auto", ("auto", "mask", "composite", "none"))
    """Transparency of photos: mask (left out), composite (the background shows through) or none; auto is composite for
    Blender and instant-ngp scenes, else mask."""
    depth_unit: float | None = positive(None)
    """World units per value of the depth maps in depths/ beside the photos; by default the scene's points tell it."""
    views: int | None = non_negative(None)
    """Train on so many photos, picked evenly; the held-out ones stay the same."""
    cache_megabytes: int = positive(4096)
    """Memory for decoded photos; the rest stays on disk."""
