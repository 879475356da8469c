"""A cloud in recovery: training on photos while rows leave, with one optimizer state, and on the rounded.

Rows are only removed, so that Adam's moments stay with theirs. A running mean of the cloud over the last steps shows
what falling learning rates would make of it: decisions in the middle of a run look at that.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.compression.finetuning.straight_through import Rounding, settle, with_ordered_axes
from splat.errors import InputError
from splat.ops.adam import AdamHyper
from splat.rendering import RenderOptions, render
from splat.rendering.backends import choose_backend
from splat.rendering.types import ImageGradients, Rendering
from splat.scene import ImageCache, Photo, Scene
from splat.training.config.config import RatesConfig
from splat.training.fitter import Fitter
from splat.training.hooks.hook import TrainingHook
from splat.training.losses.image import Loss, PictureLoss, composite, photometric
from splat.training.population import keep, populate
from splat.training.schedules import Rates, log_linear, rates
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

CACHE_BYTES = 1 << 30
MIDDLE = 0.5  # of the schedule of a training run: its rates there are those of pace 1
MEMORY = 100  # steps that the running mean reaches back
MEAN_EVERY = 5  # steps
REFRESH = 20  # steps between two roundings; in between each value keeps its distance to the rounded one

Target = tuple[Camera, Tensor, Tensor | None]  # camera, (H, W, 3) picture, (H, W) bool mask


@dataclass(frozen=True)
class SquareError:
    """Mean squared error, as a loss."""

    mse: float

    @property
    def loss(self) -> float:
        return self.mse


def square_loss(rendering: Rendering, view: TrainingView, context: StepContext) -> PictureLoss:
    """Mean squared error against a float picture; what lies outside 0 to 1 shows no differently there."""
    rgb = rendering.rgb
    gap = rgb.clamp(0, 1) - view.photo.rgb
    if view.photo.mask is not None:
        gap = gap * view.photo.mask[..., None]
    inside = (rgb >= 0) & (rgb <= 1)
    gradient = torch.where(inside, gap * (2 / gap.numel()), 0.0)
    return PictureLoss(SquareError(float(gap.square().mean())), 0.0, ImageGradients(rgb=gradient))


def _rounding_hook(change: dict[str, Tensor], rate: Tensor | None) -> TrainingHook:
    """Renders the rounded cloud, straight through: ``change`` is added; ``rate`` joins the gradient of SH."""

    def deform(cloud: GaussianCloud, view: TrainingView | None) -> GaussianCloud:
        return cloud.replace(**{name: getattr(cloud, name) + change[name] for name in FIELDS})

    regularize = None if rate is None else lambda cloud, context: {"sh": rate}
    return TrainingHook("rounding", deform=deform, regularize=regularize)


def photos(scene: Scene, options: RenderOptions) -> tuple[Callable[[int], Target], int]:
    """What to train on: the scene's training photos by number, and how many there are. Raises InputError for none."""
    if not scene.train_views:
        raise InputError(f"{scene.root} has no photos to train on; recovery after pruning needs at least two")
    cache = ImageCache(scene.train_views, CACHE_BYTES)

    def target(index: int) -> Target:
        photo = cache.get(index)
        return cache.views[index].camera, composite(photo, options.background), photo.mask

    return target, len(cache.views)


def renders(
    cloud: GaussianCloud, cameras: Sequence[Camera], options: RenderOptions, jitter: float, seed: int = 0
) -> Callable[[int], Target]:
    """Targets without photos: renders of ``cloud``, two of three from a camera moved by noise.

    The noise is ``jitter`` times the distance between neighbours of as many cameras (LightGaussian's pseudo views).
    """
    places = torch.stack([camera.position.double() for camera in cameras])
    spacing = float((places - places.mean(0)).norm(dim=1).mean()) / max(len(cameras), 1) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    count = 0

    def target(index: int) -> Target:
        nonlocal count
        camera, count = cameras[index], count + 1
        if count % 3:
            pose = camera.world_to_camera.double().clone()
            noise = torch.randn(3, generator=generator, dtype=torch.float64)
            pose[:3, 3] -= pose[:3, :3] @ (jitter * spacing * noise)
            camera = camera.replace(world_to_camera=pose)
        with torch.no_grad():
            picture = render(cloud, camera, options=options).rgb
        return camera, (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8), None

    return target


def usual_rates(extent: float) -> Rates:
    """Learning rates in the middle of a training run in a scene of ``extent``."""
    return rates(RatesConfig(), extent, MIDDLE)


class Recovery:
    """Trains its own copy of a cloud.

    Attributes:
        steps: how many have been made. loss: mean of that of the last steps.
    """

    def __init__(
        self,
        cloud: GaussianCloud,
        target: Callable[[int], Target],
        views: int,
        usual: Rates,
        options: RenderOptions | None = None,
        seed: int = 0,
        progress: Callable[[], None] | None = None,
        loss: Loss = photometric,
    ) -> None:
        """Args: target, views: as `photos` gives them. usual: learning rates at pace 1. progress: called each step."""
        self.steps, self.loss, self.usual = 0, 0.0, usual
        self._target, self._views, self._options = target, views, options or RenderOptions()
        self._population = populate(cloud.detach().clone().replace(extras={}))
        self._backend = choose_backend(self._population.cloud)
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []
        self._mean = {name: getattr(self.cloud, name).clone() for name in FIELDS}
        self._counted = 1.0  # refreshes of the running mean that it holds
        self._progress, self._compare = progress, loss

    @property
    def cloud(self) -> GaussianCloud:
        """As it is now; changes with every step."""
        return self._population.cloud

    @property
    def mean(self) -> GaussianCloud:
        """The running mean over the last steps."""
        return GaussianCloud(**{name: tensor.clone() for name, tensor in self._mean.items()})

    def snapshot(self) -> tuple:
        """What `restore` needs to go back to the cloud as it is now."""
        return copy.deepcopy((self._population, self._mean, self._counted))

    def restore(self, snapshot: tuple) -> None:
        """Go back to the cloud of ``snapshot``, which is used up; steps stay counted."""
        self._population, self._mean, self._counted = snapshot

    def thin(self, kept: Tensor) -> None:
        """Only the rows of ``kept`` (N,) bool stay."""
        keep(self._population, kept)
        self._mean = {name: tensor[kept] for name, tensor in self._mean.items()}

    def order_axes(self) -> None:
        """Axes from long to short, as files have them; moments follow as far as they can."""
        cloud, adam = self._population.cloud, self._population.adam
        order = cloud.log_scales.argsort(dim=1, descending=True, stable=True)
        found = with_ordered_axes(cloud)
        cloud.log_scales.copy_(found.log_scales)
        cloud.quats.copy_(found.quats)
        for moments in (adam.m, adam.v):
            moments["log_scales"].copy_(moments["log_scales"].gather(1, order))
        adam.m["quats"].zero_()
        adam.v["quats"].copy_(adam.v["quats"].mean(1, keepdim=True).expand(-1, 4))
        self._mean, self._counted = {name: getattr(cloud, name).clone() for name in FIELDS}, 1.0

    def run(self, steps: int, pace: tuple[float, float], rounding: Rounding | None = None, price: float = 0.0) -> None:
        """Train for ``steps``.

        Args:
            pace: factors on the usual learning rates at the first and the last of them, log-linear in between.
            rounding: draw what this makes of the cloud; gradients move what is behind it.
            price: by what share of itself the loss may rise for each bit that the file becomes smaller.
        """
        change: dict[str, Tensor] = {}
        rate = None
        for step in range(steps):
            order = self._order = self._order or torch.randperm(self._views, generator=self._generator).tolist()
            camera, picture, mask = self._target(order.pop())
            self.steps += 1
            hyper = AdamHyper(step=self.steps, **self._rates(log_linear(*pace, step / max(steps - 1, 1))))
            if rounding is not None and step % REFRESH == 0:
                change, rate = self._refresh(rounding, price)
            found = self._step(camera, picture, mask, hyper, change, rate)
            self.loss += (found - self.loss) * max(1 / self.steps, 0.02)
            if self.steps % MEAN_EVERY == 0:
                self._remember()
            if self._progress is not None:
                self._progress()

    def _rates(self, pace: float) -> dict[str, float]:
        return {field.name: pace * getattr(self.usual, field.name) for field in fields(self.usual)}

    def _refresh(self, rounding: Rounding, price: float) -> tuple[dict[str, Tensor], Tensor | None]:
        """What rounding adds to every tensor, and what the price adds to the gradient of SH."""
        settle(self.cloud)
        shown = rounding.rounded(self.cloud)
        change = {name: getattr(shown, name) - getattr(self.cloud, name) for name in FIELDS}
        if not price:
            return change, None
        return change, rounding.slope(self.cloud) * (price * self.loss)

    def _step(self, camera, picture, mask, hyper, change: dict[str, Tensor], rate: Tensor | None) -> float:
        view = TrainingView(None, Photo(picture, mask), camera, self._options.background)
        hooks = (_rounding_hook(change, rate),) if change else ()
        fitter = Fitter(self._population, self._backend, self._compare, hooks)
        (loss,) = fitter.step([view], hyper, self._options)
        return loss.loss

    def _remember(self) -> None:
        self._counted = min(self._counted + 1, MEMORY / MEAN_EVERY)
        for name, tensor in self._mean.items():
            tensor.lerp_(getattr(self.cloud, name), 1 / self._counted)
