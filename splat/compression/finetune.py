"""Recovery: training steps without any growing or pruning, on photos or on renders of a better cloud."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.compression.rounding import Rounding, offsets
from splat.errors import InputError
from splat.rendering import RenderOptions, render
from splat.rendering.backends import choose_backend
from splat.rendering.cpu import AdamHyper
from splat.rendering.types import ImageGradients
from splat.scene import ImageCache, Scene
from splat.training import schedules
from splat.training.config import RatesConfig
from splat.training.edit import populate
from splat.training.losses import compare, composite
from splat.training.optimizer import adam_step
from splat.training.update import update

CACHE_BYTES = 1 << 30
SSIM_WEIGHT = 0.2
START = 0.5  # of the schedule of a training run: where its rates are mild
JITTER = 0.05  # of the distance between neighbouring pseudo views, as LightGaussian's noise in scene units

ROUNDED_RATES = 0.3  # of the usual: faster values dither about the edges of codes
REFRESH = 20  # steps between two roundings; in between each value keeps its distance to the rounded one

SPEEDS = ("means", "means_final", "sh_dc", "sh_rest", "opacities", "scales", "quats")

Target = tuple[Camera, Tensor, Tensor | None]  # camera, (H, W, 3) uint8 picture, (H, W) bool mask


def finetune(
    cloud: GaussianCloud,
    scene: Scene,
    steps: int = 300,
    options: RenderOptions | None = None,
    seed: int = 0,
    rates: RatesConfig | None = None,
    rounding: Rounding | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GaussianCloud:
    """``cloud`` after ``steps`` of training on the scene's training photos with its rows unchanged.

    Args:
        rates: of learning; those of the second half of a training run if None, slower with ``rounding``.
        rounding: train what this makes of the cloud; the result is what was behind it. Give a cloud
            `with_ordered_axes`.
        progress: called with steps done and all steps.

    Raises InputError when the scene has no training photos.
    """
    if not scene.train_views:
        raise InputError(f"{scene.root} has no photos to train on; recovery after pruning needs at least two")
    if len(cloud) == 0 or steps == 0:
        return cloud
    options = options or RenderOptions()
    cache = ImageCache(scene.train_views, CACHE_BYTES)

    def target(index: int) -> Target:
        photo = cache.get(index)
        return cache.views[index].camera, composite(photo, options.background), photo.mask

    config = rates or RatesConfig(final=0.3)
    if rounding is not None and rates is None:
        slower = {name: ROUNDED_RATES * getattr(config, name) for name in SPEEDS}
        config = replace(config, **slower)
    return _refine(
        cloud, target, len(cache.views), steps, options, seed,
        lambda part: schedules.rates(config, scene.extent, part), rounding, progress,
    )  # fmt: skip


def distill(
    cloud: GaussianCloud,
    degree: int,
    cameras: Sequence[Camera],
    steps: int = 100,
    options: RenderOptions | None = None,
    seed: int = 0,
) -> GaussianCloud:
    """``cloud`` with SH of ``degree`` only, its colours fitted to renders of the whole ``cloud``; geometry stays.

    LightGaussian's distillation (Fan et al. 2024, §3.3): two of three steps look from a pseudo view, a camera moved by
    noise. Needs no photos.
    """
    student = cloud.with_sh_degree(min(degree, cloud.sh_degree))
    if student.sh_degree == cloud.sh_degree or len(cloud) == 0 or not cameras or steps == 0:
        return student
    options = options or RenderOptions()
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
            pose[:3, 3] -= pose[:3, :3] @ (JITTER * spacing * noise)
            camera = camera.replace(world_to_camera=pose)
        with torch.no_grad():
            picture = render(cloud, camera, options=options).rgb
        return camera, (picture.clamp(0, 1) * 255 + 0.5).to(torch.uint8), None

    def rates(part: float) -> schedules.Rates:
        decay = 0.1**part
        return schedules.Rates(0.0, 0.04 * decay, 0.02 * decay, 0.0, 0.0, 0.0)

    return _refine(student, target, len(cameras), steps, options, seed, rates)


def _refine(
    cloud: GaussianCloud,
    target: Callable[[int], Target],
    views: int,
    steps: int,
    options: RenderOptions,
    seed: int,
    rates: Callable[[float], schedules.Rates],
    rounding: Rounding | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> GaussianCloud:
    """Adam on all tensors towards the ``target`` pictures, each of the ``views`` once before any comes again."""
    population = populate(cloud.detach().clone().replace(extras={}))
    backend = choose_backend(population.cloud)
    generator = torch.Generator().manual_seed(seed)
    order: list[int] = []
    for step in range(steps):
        order = order or torch.randperm(views, generator=generator).tolist()
        camera, picture, mask = target(order.pop())
        now = rates(START + (1 - START) * step / steps)
        hyper = AdamHyper(step=step + 1, **vars(now))
        if rounding is None:
            rendering, context = backend.forward(population.cloud, camera, options)
            found = compare(rendering.rgb, picture, mask, SSIM_WEIGHT)
            update(backend, context, rendering, ImageGradients(rgb=found.grad), population, hyper)
        else:
            if step % REFRESH == 0:
                rounding.shrink(population.cloud)
                added = offsets(population.cloud, rounding)
            shown = GaussianCloud(**{name: getattr(population.cloud, name) + added[name] for name in FIELDS})
            rendering, context = backend.forward(shown, camera, options)
            found = compare(rendering.rgb, picture, mask, SSIM_WEIGHT)
            gradients = backend.backward(context, ImageGradients(rgb=found.grad))
            adam_step(population.cloud, {name: getattr(gradients, name) for name in FIELDS}, population.adam, hyper)
        if progress is not None:
            progress(step + 1, steps)
    return population.cloud
