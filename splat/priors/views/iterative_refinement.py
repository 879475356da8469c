"""Iterative refinement: views between the photos are rendered, repaired by a `ViewEnhancer`, and trained on.

The loop of LM-Gaussian (Yu et al. 2024, §3.4) and SparseGS-W (Li et al. 2025), with a schedule of our own: every round
repairs the views anew from the cloud as it is then, and reaches farther from the photos than the round before
(progressive sampling); a view weighs the more, the more reliable it is, and the farther it is from any photo, where
there is no other supervision. Repaired views stay, and go into the checkpoints, until the next round.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth.multi_view_stereo import DensePoints
from splat.priors.views.enhancer import ViewEnhancer, repair
from splat.rendering import render
from splat.scene.images import Photo
from splat.scene.scene import Scene
from splat.training.config.config import TrainConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.rng import generator, mix_seed
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView
from splat.viewpoints.interpolation import virtual_cameras, warped

BETWEEN = 4  # new views between each photo and its neighbours
_STEEP = 4.0  # a view a quarter of the way to the farthest one has full weight
_LEAST_TRUST = 0.3  # pixels below it do not count


@dataclass
class Repairs:
    """What the last round made.

    Attributes:
        round: number of rounds done.
        views: numbers of the cameras repaired.
        pictures: uint8 (H, W, 3) each. masks: (H, W) bool. weights: of each view in the loss.
    """

    round: int = 0
    views: list[int] = field(default_factory=list)
    pictures: list[Tensor] = field(default_factory=list)
    masks: list[Tensor] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


def hook(
    scene: Scene, config: TrainConfig, enhance: ViewEnhancer, dense: DensePoints | None, backend: str
) -> TrainingHook:
    """Trains on repaired views in a fraction of the steps, after ``config.enhance.start`` of the run."""
    settings = config.enhance
    photos = [view.camera for view in scene.train_views]
    cameras = virtual_cameras(photos, BETWEEN)
    distances = distance_to_photos(cameras, photos)
    repairs = Repairs()

    def extra_view(cloud: GaussianCloud, context: StepContext) -> TrainingView | None:
        due = rounds_due(context.fraction, settings.start, settings.rounds)
        if due > repairs.round:
            chosen = reached(distances, due, settings.rounds)
            _repair_all(repairs, chosen, cloud, due)
        rng = generator(config.seed, "repaired", context.step)
        if not repairs.views or float(torch.rand((), generator=rng)) >= settings.fraction:
            return None
        number = int(torch.randint(len(repairs.views), (), generator=rng))
        photo = Photo(repairs.pictures[number], repairs.masks[number])
        return TrainingView(
            None, photo, cameras[repairs.views[number]], config.background, weight=repairs.weights[number]
        )

    def _repair_all(repairs: Repairs, chosen: list[int], cloud: GaussianCloud, due: int) -> None:
        repairs.round, repairs.views = due, chosen
        repairs.pictures, repairs.masks, repairs.weights = [], [], []
        for number in chosen:
            camera = cameras[number]
            drawn = render(cloud, camera, backend, background=config.background).rgb.clamp(0, 1).cpu()
            truth = known = None
            if dense is not None and len(dense):
                picture, known = warped(dense.xyz, dense.rgb, camera)
                truth = picture.float() / 255
            reference = scene.train_views[nearest_photo(camera, photos)].load().rgb.float() / 255
            done = repair(enhance, drawn, known, truth, reference, mix_seed(config.seed, "repair", number) & 0x7FFFFFFF)
            repairs.pictures.append((done.picture * 255 + 0.5).to(torch.uint8).contiguous())
            repairs.masks.append(done.trust >= _LEAST_TRUST)
            repairs.weights.append(view_weight(distances, number) * float(done.trust.mean()))

    def restore(packed: dict[str, Any]) -> None:
        for name, value in packed.items():
            setattr(repairs, name, value)

    return TrainingHook(
        "iterative refinement", extra_view=extra_view, state=lambda: dict(vars(repairs)), restore=restore
    )


def rounds_due(fraction: float, start: float, rounds: int) -> int:
    """How many of ``rounds``, evenly spread over the run from ``start`` on, should have begun by ``fraction``."""
    if fraction < start:
        return 0
    return min(rounds, 1 + int((fraction - start) / (1 - start) * rounds + 1e-9)) if start < 1 else 0


def reached(distances: Tensor, due: int, rounds: int) -> list[int]:
    """Numbers of the views that round ``due`` of ``rounds`` repairs: the nearest due/rounds of them to the photos."""
    count = max(1, round(len(distances) * due / rounds))
    return sorted(distances.argsort(stable=True)[:count].tolist())


def view_weight(distances: Tensor, number: int) -> float:
    """min(1, `_STEEP` · distance / largest distance): far from the photos, repaired views are all there is."""
    most = float(distances.max())
    return min(1.0, _STEEP * float(distances[number]) / most) if most > 0 else 1.0


def distance_to_photos(cameras: list[Camera], photos: list[Camera]) -> Tensor:
    """(C,) distance of each camera's centre to the nearest photo's."""
    centres = [torch.stack([camera.position.double() for camera in each]) for each in (cameras, photos)]
    return torch.cdist(*centres).min(1).values


def nearest_photo(camera: Camera, photos: list[Camera]) -> int:
    """Number of the photo taken nearest to ``camera``."""
    return int(torch.stack([(p.position - camera.position).norm() for p in photos]).argmin())
