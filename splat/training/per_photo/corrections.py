"""The corrections that training can learn of each photo: exposure, bilateral grid, camera pose."""

import torch
from torch import Tensor

from splat.camera import Camera
from splat.scene.faces import places_in_photo
from splat.training.config.config import TrainConfig
from splat.training.per_photo import bilateral_grid, exposure, pose
from splat.training.per_photo.parameters import PerPhoto, PhotoParameters
from splat.training.training_view import TrainingView

EXPOSURES, GRIDS, POSES = "exposures", "grids", "poses"
"""Names of the corrections, as in checkpoints and in `TrainingView.photo_parameters`."""


def corrections_of(config: TrainConfig, photos: int, device: torch.device | str = "cpu") -> dict[str, PerPhoto]:
    """The corrections that ``config`` switches on, neutral, for ``photos`` photos."""
    on, corrections = config.appearance, {}
    if on.exposure:
        parameters = PhotoParameters(photos, 3, 4).to(device)
        corrections[EXPOSURES] = PerPhoto(parameters, lambda context: on.exposure_rate * 0.1**context.fraction)
    if on.bilateral_grid:
        parameters = PhotoParameters(photos, *bilateral_grid.GRID).to(device)
        corrections[GRIDS] = PerPhoto(
            parameters, lambda context: bilateral_grid.grid_rate(context.step, context.fraction)
        )
    if config.pose.refine:
        rate = config.pose.rate
        corrections[POSES] = PerPhoto(PhotoParameters(photos, 6), lambda context: rate * 0.01**context.fraction)
    return corrections


def corrected(rgb: Tensor, view: TrainingView) -> Tensor:
    """``rgb`` (H, W, 3) after the colour corrections of the view's photo: bilateral grid, then exposure."""
    if GRIDS in view.photo_parameters:
        places = None if view.face is None else places_in_photo(view.face, view.camera).to(rgb.device)
        rgb = bilateral_grid.apply_grid(rgb, view.photo_parameters[GRIDS], places)
    if EXPOSURES in view.photo_parameters:
        rgb = exposure.expose(rgb, view.photo_parameters[EXPOSURES])
    return rgb


def refined_camera(camera: Camera, correction: Tensor, extent: float) -> tuple[Camera, Tensor]:
    """``camera`` with its pose refined, and the new world_to_camera (4, 4), differentiable in ``correction`` (6,)."""
    matrix = pose.refined(camera.world_to_camera, correction, extent)
    return camera.replace(world_to_camera=matrix.detach()), matrix
