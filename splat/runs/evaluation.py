"""How well a cloud shows the photos it was not trained on."""

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from splat import metrics
from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path
from splat.rendering import RenderOptions, render
from splat.rendering.types import near_plane
from splat.scene.faces import assemble
from splat.scene.images import Photo
from splat.scene.scene import Scene, View
from splat.training.config.config import TrainConfig
from splat.training.losses.image import composite

SCORES = ("psnr", "ssim", "lpips", "corrected_psnr")


@dataclass(frozen=True)
class ViewScore:
    """Scores of one view; None where they were not asked for or cannot be computed.

    `corrected_psnr` is that of the render after the affine colour transform that fits the photo best: what counts for
    scenes whose photos differ in exposure.
    """

    name: str
    psnr: float
    ssim: float | None
    lpips: float | None
    corrected_psnr: float | None = None


@dataclass(frozen=True)
class Evaluation:
    """Means over views (None where no view has the score), and the scores of each view."""

    psnr: float | None
    ssim: float | None
    lpips: float | None
    corrected_psnr: float | None
    views: tuple[ViewScore, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain numbers for a JSON file."""
        return asdict(self) | {"views": [asdict(view) for view in self.views]}


def options_of(config: TrainConfig) -> RenderOptions:
    """How the clouds of a run are to be drawn: as they were trained."""
    return RenderOptions(background=config.background, antialiased=config.antialiased)


def evaluate(
    cloud: GaussianCloud,
    scene: Scene,
    backend: str = "auto",
    options: RenderOptions | None = None,
    views: Sequence[View] | None = None,
    save: Path | None = None,
    full: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Render ``views`` (by default the held-out ones) and compare them with their photos.

    Masked pixels do not count, and views that are masked everywhere are left out, which is said.

    Wide photos are compared as they are: the renders of their faces are put together in the photo's own projection.

    Args:
        options: how to draw; for the cloud of a run use `options_of` its config.
        save: folder for ``<view>_photo.jpg``, ``<view>_render.jpg`` and ``<view>_side_by_side.jpg``.
        full: also compute SSIM and LPIPS, which take longer than rendering.
        progress: called with (photos done, photos).

    Raises InputError when a photo is broken; warns of each view whose pictures cannot be written.
    """
    options = options or RenderOptions()
    scene = scene.beside(cloud)
    options = replace(options, near=min(options.near, near_plane(scene.extent)))
    views = scene.test_views if views is None else tuple(views)
    photos: dict[str, list[View]] = {}
    for view in views:
        photos.setdefault(view.photo_name, []).append(view)
    scores, hidden = [], []
    for number, (name, parts) in enumerate(photos.items()):
        photo = parts[0].load() if parts[0].face is None else parts[0].source.whole.load()
        if photo.hidden:
            hidden.append(name)
            continue
        rgb, photo = _shown(cloud, parts, photo, backend, options)
        target = composite(photo, options.background).to(torch.float32) / 255
        ssim = metrics.ssim(rgb, target, photo.mask) if full else None
        lpips = metrics.lpips(rgb, target, photo.mask) if full else None
        corrected = metrics.psnr(match_colours(rgb, target, photo.mask), target, photo.mask) if full else None
        scores.append(ViewScore(name, metrics.psnr(rgb, target, photo.mask), ssim, lpips, corrected))
        if save is not None:
            try:
                save_pictures(save, name, target, rgb)
            except InputError as error:  # the scores are worth more than their pictures
                warnings.warn(f"there are no pictures of {name}: {error}", stacklevel=2)
        if progress is not None:
            progress(number + 1, len(photos))
    if hidden:
        warnings.warn(
            f"{len(hidden)} of {len(photos)} held-out photos are masked everywhere and left out of the scores "
            f"({', '.join(hidden[:3])}{', …' if hidden[3:] else ''})",
            stacklevel=2,
        )
    means = {name: _mean([getattr(score, name) for score in scores]) for name in SCORES}
    return Evaluation(**means, views=tuple(scores))


def _shown(
    cloud: GaussianCloud, views: Sequence[View], photo: Photo, backend: str, options: RenderOptions
) -> tuple[Tensor, Photo]:
    """What the cloud shows of ``photo``, (H, W, 3), and the photo with what that does not show left out.

    ``views`` are the photo itself, or faces of it.
    """
    renders = [render(cloud, view.camera, backend, options).rgb.clamp(0, 1).cpu() for view in views]
    if views[0].face is None:
        return renders[0], photo
    faces = [(view.face, each.float().numpy()) for view, each in zip(views, renders, strict=True)]
    rgb, seen = (torch.from_numpy(each) for each in assemble(faces))
    return rgb.clamp(0, 1), replace(photo, mask=seen if photo.mask is None else seen & photo.mask)


def match_colours(rgb: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """``rgb`` after the affine colour transform that best fits ``target`` (both (H, W, 3)) where ``mask`` is True."""
    known = torch.cat([rgb, torch.ones_like(rgb[..., :1])], -1).double()
    rows = slice(None) if mask is None else mask.flatten()
    solution = torch.linalg.lstsq(known.reshape(-1, 4)[rows], target.reshape(-1, 3)[rows].double(), driver="gelsd")
    return (known @ solution.solution).to(rgb.dtype).clamp(0, 1)


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else None


def save_pictures(folder: Path, name: str, photo: Tensor, rgb: Tensor) -> None:
    """Write the photo, the render and both beside each other, for the view ``name``, as JPEG into ``folder``."""
    stem = str(PurePosixPath(name).with_suffix("")).replace("/", "_")
    both = torch.cat([photo, rgb], 1 if photo.shape[0] >= photo.shape[1] else 0)
    for kind, picture in (("photo", photo), ("render", rgb), ("side_by_side", both)):
        pixels = (picture * 255 + 0.5).to(torch.uint8).numpy()
        with atomic_path(folder / f"{stem}_{kind}.jpg") as temporary:
            Image.fromarray(pixels).save(temporary, quality=92, subsampling=0)
