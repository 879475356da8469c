"""Settings of the photos: where they come from, and what is corrected in them during training."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AppearanceConfig:
    """Per-photo colour correction, used in training only; the mean over all photos stays neutral."""

    exposure: bool = False
    """One affine colour transform (3×4) per photo."""
    exposure_rate: float = 1e-3
    """Learning rate of the exposures, falling to a tenth."""
    bilateral_grid: bool = False
    """One bilateral grid (16×16×8 affine transforms) per photo (Wang et al. 2024), for local changes."""
    grid_rate: float = 2e-3
    """Learning rate of the grids, warmed up and falling to a hundredth."""
    grid_smoothness: float = 10.0
    """Weight of the grids' total variation."""
    features: int = 0
    """Features per Gaussian, through which photos change colours in parts of the scene (the sky); 0 is off, 4 usual."""
    features_rate: float = 2e-3
    """Learning rate of the features and of what the photos make of them, the latter falling to a tenth."""


@dataclass(frozen=True)
class PoseConfig:
    """Camera pose refinement."""

    refine: bool = False
    """Let the training cameras move by small rigid motions."""
    rate: float = 1e-5
    """Learning rate, radians and scene extents, falling to a hundredth."""


@dataclass(frozen=True)
class SurfaceConfig:
    """Regularisers for clouds that are to become meshes."""

    normals: float = 0.0
    """Weight of the disagreement between blended normals and those of the depth (Huang et al. 2024); 0.05 is usual."""
    start: float = 0.25
    """Fraction of the run from which normals are compared and rays are made thin."""
    flatten: float = 0.0
    """How fast the shortest axis of each Gaussian shrinks, in learning rates of the scales; 0.1 is usual."""
    distortion: float = 0.0
    """Weight of the spread of a ray's Gaussians in depth (Huang et al. 2024); 1 is usual."""


@dataclass(frozen=True)
class SceneConfig:
    """Where the photos come from and at what size they are used."""

    path: str = ""
    """Folder of the scene; filled in by the command line."""
    downscale: float | None = None
    """Divide the photos' sides by this."""
    max_side: int | None = None
    """Shrink the photos so that no side is longer, pixels."""
    views: int | None = None
    """Train on so many photos, picked evenly; the held-out ones stay the same."""
    cache_megabytes: int = 4096
    """Memory for decoded photos; the rest stays on disk."""
