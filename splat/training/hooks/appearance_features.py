"""Looks: what changes from photo to photo in some of the Gaussians only, such as the sky behind a sunlit church.

After the embeddings of Martin-Brualla et al. ("NeRF in the Wild", CVPR 2021) and Kulhanek et al. ("WildGaussians",
NeurIPS 2024), but linear, so that a new photo's look is a least-squares problem: Gaussian i has F features fᵢ, photo p
has F + 1 affine transforms of colour, and shows the colour c as c + M_p0(c) + Σ_k f_ik · M_pk(c). Both are learnt
together; the transforms have a mean of zero over all photos, so that the cloud itself is the usual look.
"""

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.sh_basis import C0
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import Part
from splat.training.per_photo.parameters import PhotoParameters

FEATURES = "look"
"""Column (an extra of the cloud, (N, F) float32) of the features; it stays in the cloud that is written."""
_START = 0.5  # size of the first features
_WAVES = 1.0  # of their first form, waves through position and colour, per standard deviation


def parts(config: TrainConfig, photos: int) -> tuple[Part, ...]:
    """The part that learns features per Gaussian and the transforms of each of the photos, if it is switched on."""
    settings = config.appearance
    if settings.features == 0:
        return ()
    rows = PhotoParameters(photos, settings.features + 1, 3, 4)

    def first(cloud: GaussianCloud) -> GaussianCloud:
        return cloud.replace(extras={**cloud.extras, FEATURES: first_features(cloud, settings.features, config.seed)})

    part = Part(
        "looks",
        first=first,
        look=dressed,
        rows=rows,
        rows_rate=settings.features_rate,
        rates={FEATURES: settings.features_rate},
        state=rows.state,
        restore=rows.restore,
    )
    return (part,)


def first_features(cloud: GaussianCloud, count: int, seed: int) -> Tensor:
    """(N, ``count``) float32: waves in directions drawn by lot, so that neighbours and like colours start alike."""
    place = torch.cat([cloud.means, cloud.sh[:, 0]], 1).float().cpu()
    place = (place - place.mean(0)) / place.std(0, correction=0).clamp_min(1e-12)
    dice = torch.Generator().manual_seed(seed)
    direction = _WAVES * torch.randn(6, count, generator=dice)
    return _START * torch.sin(place @ direction + 6.2832 * torch.rand(count, generator=dice)).to(cloud.device)


def dressed(cloud: GaussianCloud, transforms: Tensor) -> GaussianCloud:
    """``cloud`` in the look of ``transforms`` (F + 1, 3, 4): the first for all Gaussians, the others by their features.

    A transform adds A c + b to a colour c: to the view-dependent bands A alone. Differentiable in both.
    """
    features, transforms = cloud.extras[FEATURES], transforms.to(cloud.device)
    own = transforms[0] + torch.einsum("nf,fij->nij", features, transforms[1:])
    change = torch.einsum("nij,nbj->nbi", own[..., :3], cloud.sh)
    # Colours are ½ + C₀ · sh: the constant part of A c + b goes into the first band.
    constant = (0.5 * own[..., :3].sum(-1) + own[..., 3]) / C0
    sh = torch.cat([cloud.sh[:, :1] + change[:, :1] + constant[:, None], cloud.sh[:, 1:] + change[:, 1:]], 1)
    return cloud.replace(sh=sh)
