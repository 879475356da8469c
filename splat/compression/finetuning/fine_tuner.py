"""Fine-tune a cloud while pruning, optionally quantization-aware.

Rows are only removed, with one optimizer state, so that Adam's moments stay with theirs. A running mean of the cloud
over the last steps shows what falling learning rates would make of it: decisions in the middle of a run look at that.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.compression.finetuning.straight_through import Rounding, normalize_in_place, with_ordered_axes
from splat.errors import InputError
from splat.ops.adam import AdamHyper
from splat.rendering import RenderOptions, render
from splat.rendering.backends import choose_backend
from splat.rendering.types import ImageGradients, Rendering
from splat.scene import ImageCache, Photo, Scene
from splat.training.config.config import RatesConfig
from splat.training.fitter import Fitter
from splat.training.hooks.hook import TrainingHook
from splat.training.losses.image import Loss, PictureLoss, photometric
from splat.training.population import keep, populate
from splat.training.schedules import Rates, log_linear, rates
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

CACHE_BYTES = 1 << 30
MIDDLE = 0.5  # of the schedule of a training run: its rates there are those of pace 1
MEMORY = 100  # steps that the running mean reaches back
MEAN_EVERY = 5  # steps
REFRESH = 20  # steps between two roundings; in between each value keeps its distance to the rounded one


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


@dataclass(frozen=True)
class Targets:
    """What to train on.

    Attributes:
        count: how many views. get: a view by number. loss: compares a rendering with its view.
    """

    count: int
    get: Callable[[int], TrainingView]
    loss: Loss = photometric


def photo_targets(scene: Scene, options: RenderOptions) -> Targets:
    """The scene's training photos. Raises InputError for none."""
    if not scene.train_views:
        raise InputError(f"{scene.root} has no photos to train on; fine-tuning after pruning needs at least two")
    cache = ImageCache(scene.train_views, CACHE_BYTES)

    def get(index: int) -> TrainingView:
        return TrainingView(None, cache.get(index), cache.views[index].camera, options.background)

    return Targets(len(cache.views), get)


def fixed_targets(cameras: Sequence[Camera], pictures: Sequence[Tensor], options: RenderOptions) -> Targets:
    """Float ``pictures`` (H, W, 3) in [0, 1] from ``cameras``, compared by squares."""

    def get(index: int) -> TrainingView:
        return TrainingView(None, Photo(pictures[index]), cameras[index], options.background)

    return Targets(len(cameras), get, square_loss)


def render_targets(
    cloud: GaussianCloud, cameras: Sequence[Camera], options: RenderOptions, jitter: float, seed: int = 0
) -> Targets:
    """Targets without photos: renders of ``cloud``, two of three from a camera moved by noise.

    The noise is ``jitter`` times the distance between neighbours of as many cameras (LightGaussian's pseudo views).
    """
    positions = torch.stack([camera.position.double() for camera in cameras])
    spacing = float((positions - positions.mean(0)).norm(dim=1).mean()) / max(len(cameras), 1) ** 0.5
    generator = torch.Generator().manual_seed(seed)
    count = 0

    def get(index: int) -> TrainingView:
        nonlocal count
        camera, count = cameras[index], count + 1
        if count % 3:
            world_to_camera = camera.world_to_camera.double().clone()
            noise = torch.randn(3, generator=generator, dtype=torch.float64)
            world_to_camera[:3, 3] -= world_to_camera[:3, :3] @ (jitter * spacing * noise)
            camera = camera.replace(world_to_camera=world_to_camera)
        with torch.no_grad():
            picture = render(cloud, camera, options=options).rgb
        photo = Photo((picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8))
        return TrainingView(None, photo, camera, options.background)

    return Targets(len(cameras), get)


def usual_rates(extent: float) -> Rates:
    """Learning rates in the middle of a training run in a scene of ``extent``."""
    return rates(RatesConfig(), extent, MIDDLE)


class FineTuner:
    """Trains its own copy of a cloud.

    Attributes:
        steps: how many have been made. loss: mean of that of the last steps. usual: learning rates at pace 1.
    """

    def __init__(
        self,
        cloud: GaussianCloud,
        targets: Targets,
        usual: Rates,
        options: RenderOptions | None = None,
        seed: int = 0,
        progress: Callable[[], None] | None = None,
        hooks: Sequence[TrainingHook] = (),
    ) -> None:
        """Args: usual: learning rates at pace 1. progress: called after each step. hooks: that keep all rows."""
        self.steps, self.loss, self.usual = 0, 0.0, usual
        self._targets, self._options = targets, options or RenderOptions()
        population = populate(cloud.detach().clone().replace(extras={}))
        self._fitter = Fitter(population, choose_backend(population.cloud), targets.loss)
        self._generator = torch.Generator().manual_seed(seed)
        self._order: list[int] = []
        self._mean = {name: getattr(self.cloud, name).clone() for name in FIELDS}
        self._counted = 1.0  # refreshes of the running mean that it holds
        self._progress, self._hooks = progress, tuple(hooks)

    @property
    def cloud(self) -> GaussianCloud:
        """As it is now; changes with every step."""
        return self._fitter.population.cloud

    @property
    def mean(self) -> GaussianCloud:
        """The running mean over the last steps."""
        return GaussianCloud(**{name: tensor.clone() for name, tensor in self._mean.items()})

    def snapshot(self) -> tuple:
        """What `restore` needs to go back to the cloud as it is now."""
        return copy.deepcopy((self._fitter.population, self._mean, self._counted))

    def restore(self, snapshot: tuple) -> None:
        """Go back to the cloud of ``snapshot``, which is used up; steps stay counted."""
        self._fitter.population, self._mean, self._counted = snapshot

    def prune(self, kept: Tensor) -> None:
        """Only the rows of ``kept`` (N,) bool stay."""
        keep(self._fitter.population, kept)
        self._mean = {name: tensor[kept] for name, tensor in self._mean.items()}

    def order_axes(self) -> None:
        """Axes from long to short, as files have them; moments follow as far as they can."""
        cloud, adam = self._fitter.population.cloud, self._fitter.population.adam
        order = cloud.log_scales.argsort(dim=1, descending=True, stable=True)
        ordered = with_ordered_axes(cloud)
        cloud.log_scales.copy_(ordered.log_scales)
        cloud.quats.copy_(ordered.quats)
        for moments in (adam.m, adam.v):
            moments["log_scales"].copy_(moments["log_scales"].gather(1, order))
        adam.m["quats"].zero_()
        adam.v["quats"].copy_(adam.v["quats"].mean(1, keepdim=True).expand(-1, 4))
        self._mean, self._counted = {name: getattr(cloud, name).clone() for name in FIELDS}, 1.0

    def run(self, steps: int, pace: tuple[float, float], rounding: Rounding | None = None, price: float = 0.0) -> None:
        """Train for ``steps``.

        Args:
            pace: factors on the usual learning rates at the first and the last of them, log-linear in between.
            rounding: render what this makes of the cloud; gradients move what is behind it.
            price: by what fraction of itself the loss may rise for each bit that the file becomes smaller.
        """
        self._fitter.hooks = self._hooks
        for step in range(steps):
            order = self._order = self._order or torch.randperm(self._targets.count, generator=self._generator).tolist()
            view = self._targets.get(order.pop())
            self.steps += 1
            hyper = AdamHyper(step=self.steps, **self._rates(log_linear(*pace, step / max(steps - 1, 1))))
            if rounding is not None and step % REFRESH == 0:
                self._fitter.hooks = (*self._hooks, self._rounding_hook(rounding, price))
            (result,) = self._fitter.step([view], hyper, self._options)
            self._fitter.refine(StepContext(step=self.steps))
            self.loss += (result.loss - self.loss) * max(1 / self.steps, 0.02)
            if self.steps % MEAN_EVERY == 0:
                self._update_running_mean()
            if self._progress is not None:
                self._progress()

    def _rates(self, pace: float) -> dict[str, float]:
        return {field.name: pace * getattr(self.usual, field.name) for field in fields(self.usual)}

    def _rounding_hook(self, rounding: Rounding, price: float) -> TrainingHook:
        """Renders the cloud plus what rounding changes now; the price of the rate joins the gradient of SH."""
        normalize_in_place(self.cloud)
        rounded = rounding.rounded(self.cloud)
        change = {name: getattr(rounded, name) - getattr(self.cloud, name) for name in FIELDS}

        def deform(cloud: GaussianCloud, view: TrainingView | None) -> GaussianCloud:
            return cloud.replace(**{name: getattr(cloud, name) + change[name] for name in FIELDS})

        if not price:
            return TrainingHook("rounding", deform=deform)
        rate = rounding.rate_gradient(self.cloud) * (price * self.loss)
        return TrainingHook("rounding", deform=deform, regularize=lambda cloud, context: {"sh": rate})

    def _update_running_mean(self) -> None:
        self._counted = min(self._counted + 1, MEMORY / MEAN_EVERY)
        for name, tensor in self._mean.items():
            tensor.lerp_(getattr(self.cloud, name), 1 / self._counted)
