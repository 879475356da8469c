"""Appearance features: what changes from photo to photo in some of the Gaussians only, such as a sky.

After the embeddings of Martin-Brualla et al. ("NeRF in the Wild", CVPR 2021) and Kulhanek et al. ("WildGaussians",
NeurIPS 2024), but linear, so that a new photo's appearance is a least-squares problem: Gaussian i has F features fᵢ,
photo p has F + 1 affine transforms of colour, and shows the colour c as c + M_p0(c) + Σ_k f_ik · M_pk(c). Both are
learned together; the transforms have a mean of zero over all photos, so that the cloud itself is the usual appearance.
"""

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.sh_basis import C0
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.per_photo.parameters import PerPhoto, PhotoParameters
from splat.training.training_view import TrainingView

NAME = "appearance features"
APPEARANCE_FEATURES = "look"
"""Extra of the cloud, (N, F) float32, that holds the features; under this name it stands in files and checkpoints."""
RATE = 2e-3  # learning rate of features and transforms, the latter falling to a tenth
_START = 0.5  # size of the first features
_WAVES = 1.0  # of their first form, waves through position and colour, per standard deviation


def hooks(config: TrainConfig, photos: int) -> tuple[TrainingHook, ...]:
    """The hook that learns features per Gaussian and the transforms of each of the photos, if it is switched on."""
    settings = config.appearance
    if settings.features == 0:
        return ()
    transforms = PhotoParameters(photos, settings.features + 1, 3, 4)

    def initialize(cloud: GaussianCloud) -> GaussianCloud:
        features = first_features(cloud, settings.features, config.seed)
        return cloud.replace(extras={**cloud.extras, APPEARANCE_FEATURES: features})

    def deform(cloud: GaussianCloud, view: TrainingView | None) -> GaussianCloud:
        if view is None or NAME not in view.photo_parameters:
            return cloud
        return apply_appearance(cloud, view.photo_parameters[NAME])

    hook = TrainingHook(
        NAME,
        initialize=initialize,
        deform=deform,
        per_photo={NAME: PerPhoto(transforms, lambda context: RATE * 0.1**context.fraction)},
        rates={APPEARANCE_FEATURES: RATE},
        state=transforms.state,
        restore=transforms.restore,
    )
    return (hook,)


def first_features(cloud: GaussianCloud, count: int, seed: int) -> Tensor:
    """(N, ``count``) float32: waves in directions drawn at random, so that neighbours and like colours start alike."""
    position = torch.cat([cloud.means, cloud.sh[:, 0]], 1).float().cpu()
    position = (position - position.mean(0)) / position.std(0, correction=0).clamp_min(1e-12)
    rng = torch.Generator().manual_seed(seed)
    direction = _WAVES * torch.randn(6, count, generator=rng)
    return _START * torch.sin(position @ direction + 6.2832 * torch.rand(count, generator=rng)).to(cloud.device)


def apply_appearance(cloud: GaussianCloud, transforms: Tensor) -> GaussianCloud:
    """``cloud`` after ``transforms`` (F + 1, 3, 4): the first for all Gaussians, the others by their features.

    A transform adds A c + b to a colour c: to the view-dependent bands A alone. Differentiable in both.
    """
    features, transforms = cloud.extras[APPEARANCE_FEATURES], transforms.to(cloud.device)
    transform = transforms[0] + torch.einsum("nf,fij->nij", features, transforms[1:])
    change = torch.einsum("nij,nbj->nbi", transform[..., :3], cloud.sh)
    # Colours are ½ + C₀ · sh: the constant part of A c + b goes into the first band.
    constant = (0.5 * transform[..., :3].sum(-1) + transform[..., 3]) / C0
    sh = torch.cat([cloud.sh[:, :1] + change[:, :1] + constant[:, None], cloud.sh[:, 1:] + change[:, 1:]], 1)
    return cloud.replace(sh=sh)
