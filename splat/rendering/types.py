"""Options and results of `render()`, its gradients, and the constants that every backend shares."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.cloud import GaussianCloud

# The same in every backend (see the module `reference` for the equations they belong to).
TILE = 16  # pixels a side
BLUR = 0.3  # px², added to the diagonal of the projected covariance
ALPHA_MIN = 1.0 / 255.0  # a Gaussian below this opacity at a pixel is skipped there
ALPHA_MAX = 0.99
TRANSMITTANCE_MIN = 1e-4  # blending stops before falling to this
NEAR = 0.01  # world units (extents, of a scene smaller than one); Gaussians nearer to the image plane are skipped
COMPENSATION_MIN = 0.005  # lower bound of the anti-aliasing opacity factor


def near_plane(extent: float) -> float:
    """Distance of the near plane, world units, for a scene of that size: a scene in small units is no less drawn."""
    return NEAR * min(1.0, extent)


def near_plane_of(cloud: GaussianCloud) -> float:
    """`near_plane` for a cloud of which no scene is known: its extent is where nine tenths of its centres lie."""
    centres = cloud.means.detach()[cloud.finite()]
    if len(centres) == 0:
        return NEAR
    distance = (centres - centres.median(0).values).norm(dim=1)
    reach = float(distance.kthvalue(math.ceil(0.9 * len(distance))).values)
    return near_plane(reach) if reach > 0 else NEAR


@dataclass(frozen=True)
class RenderOptions:
    """How to render.

    Attributes:
        background: RGB behind the scene.
        sh_degree: highest SH band used; None uses all the cloud has.
        antialiased: scale opacities by √(det Σ₂ / det (Σ₂ + blur)) (Mip-Splatting, Yu et al. 2024, §4.2).
        depth: also render expected and median depth.
        normal: also render normals.
        square_depth: also render the expected square of the depth.
        weights: also sum each Gaussian's blending weights over the pixels, which makes the forward pass slower.
        near: distance of the near plane, world units.
        blur: added to the diagonal of the projected covariance, px². Where a picture's pixels are every s-th of a
            larger one's, 0.3 / s² renders the same colours as the larger one there.
    """

    background: tuple[float, float, float] = (0.0, 0.0, 0.0)
    sh_degree: int | None = None
    antialiased: bool = False
    depth: bool = False
    normal: bool = False
    near: float = NEAR
    square_depth: bool = False
    weights: bool = False
    blur: float = BLUR

    def __post_init__(self) -> None:
        if len(self.background) != 3 or not all(math.isfinite(value) for value in self.background):
            raise ValueError(f"background is {self.background}, expected three finite numbers")
        if self.sh_degree is not None and (not isinstance(self.sh_degree, int) or self.sh_degree < 0):
            raise ValueError(f"sh_degree is {self.sh_degree!r}, expected a whole number from 0 on, or None")
        if not (math.isfinite(self.near) and math.isfinite(self.blur) and self.near >= 0 and self.blur >= 0):
            raise ValueError(f"near is {self.near}, blur is {self.blur}; expected finite numbers from 0 on")


@dataclass(frozen=True)
class ImageGradients:
    """∂L/∂(each picture of a `Rendering`), same shapes; None where the loss does not use it."""

    rgb: Tensor | None = None
    alpha: Tensor | None = None
    depth: Tensor | None = None
    normal: Tensor | None = None
    square_depth: Tensor | None = None


@dataclass(frozen=True)
class CloudGradients:
    """∂L/∂(each tensor of a cloud), and screen-space gradients for densification.

    Attributes:
        means, log_scales, quats, logit_opacities, sh: shapes of the cloud's tensors.
        world_to_camera: (4, 4) ∂L/∂world_to_camera, last row zero.
        means2d: (N, 2) ∂L/∂(projected centre), pixels.
        means2d_abs: (N, 2) Σ over pixels of |what that pixel adds to means2d| (AbsGS, Ye et al. 2024, eq. 5).
    """

    means: Tensor
    log_scales: Tensor
    quats: Tensor
    logit_opacities: Tensor
    sh: Tensor
    world_to_camera: Tensor
    means2d: Tensor
    means2d_abs: Tensor


@dataclass(frozen=True)
class Rendering:
    """What a camera sees of a cloud, per pixel and per Gaussian.

    Attributes:
        rgb: (H, W, 3) linear blend of the Gaussians' colours and the background.
        alpha: (H, W) opacity, 1 − transmittance.
        depth: (H, W) expected z-depth Σ wᵢ zᵢ / Σ wᵢ, world units, 0 where nothing is seen; None unless asked for.
        median_depth: (H, W) z-depth of the Gaussian at which transmittance falls below ½, 0 where it never does. Not
            differentiable; None unless asked for, and from gsplat.
        normal: (H, W, 3) Σ wᵢ nᵢ in camera axes, not normalised: nᵢ is the Gaussian's shortest axis, facing the camera.
        radii: (N,) int32 radius in pixels of each Gaussian's drawn ellipse (its larger half-extent, rounded up), 0
            where it is not visible.
        weights: (N,) Σ over pixels of the blending weights αT, no gradient; None unless asked for.
        means2d: (N, 2) projected centres, pixels (0 where not visible), no gradient.
        square_depth: (H, W) expected square Σ wᵢ zᵢ² / Σ wᵢ of the depth, as ``depth``; None unless asked for.
        features: (H, W, C) Σ wᵢ fᵢ of the features (N, C) given to `splat.render`; None without.
    """

    rgb: Tensor
    alpha: Tensor
    depth: Tensor | None
    median_depth: Tensor | None
    normal: Tensor | None
    radii: Tensor
    weights: Tensor | None
    means2d: Tensor
    square_depth: Tensor | None = None
    features: Tensor | None = None

    @property
    def visible(self) -> Tensor:
        """(N,) mask of the Gaussians that are drawn."""
        return self.radii > 0

    def psnr(self, target: Tensor) -> float:
        """Peak signal-to-noise ratio, dB, of ``rgb`` clamped to [0, 1] against ``target`` (H, W, 3)."""
        if target.shape != self.rgb.shape:
            raise ValueError(f"target has shape {tuple(target.shape)}, rgb has {tuple(self.rgb.shape)}")
        error = torch.mean((self.rgb.clamp(0, 1) - target) ** 2)
        return float(-10 * torch.log10(error.clamp_min(1e-12)))
