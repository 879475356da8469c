"""The appearance of one photo of a scene (weather, light, exposure) given to a whole trained cloud."""

from pathlib import Path

import torch

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.priors.wild.appearance_fitting import fit_transforms
from splat.rendering import RenderOptions
from splat.scene.scene import Scene, View, photo_count
from splat.training.hooks import appearance_features


def view_of_photo(scene: Scene, photo: Path) -> View:
    """The (first) view of ``scene`` whose photo is the file ``photo``, or ends in its name. Raises InputError."""
    for view in scene.views:
        if photo.exists() and photo.resolve() == view.source.path.resolve():
            return view
    # A run may have read a shrunk copy (images_4) of the photo.
    named = [view for view in scene.views if f"/{photo.as_posix()}".endswith(f"/{view.photo_name}")]
    named = named or [view for view in scene.views if Path(view.photo_name).name == photo.name]
    if (count := photo_count(named)) != 1:
        what = "is no photo" if count == 0 else f"could be any of {count} photos"
        raise InputError(
            f"{photo} {what} of {scene.root}, and only there is its camera known; give one such as "
            f"{scene.views[0].source.path}"
        )
    return named[0]


def with_appearance_of(
    cloud: GaussianCloud, view: View, drawing: RenderOptions, backend: str = "auto"
) -> tuple[GaussianCloud, tuple[float, float, float]]:
    """``cloud`` in the colours of the photo of ``view``, and the red, green and blue to draw it on.

    Args:
        cloud: trained with ``appearance.features``.
        view: photo and camera; masked and transparent pixels do not count.
        drawing: background and anti-aliasing of the training.

    Raises InputError where the cloud has no appearance features.
    """
    if appearance_features.APPEARANCE_FEATURES not in cloud.extras:
        raise InputError(
            "the cloud has no appearance features, so it cannot take on the appearance of a photo; "
            "train it with --appearance.features 4"
        )
    photo = view.load()
    use = torch.ones(photo.rgb.shape[:2], dtype=torch.bool) if photo.mask is None else photo.mask
    if photo.alpha is not None:
        use = use & (photo.alpha > 127)
    transforms, behind = fit_transforms(cloud, view.camera, photo.rgb.float() / 255, use, drawing, backend)
    return appearance_features.apply_appearance(cloud, transforms), behind
