"""Depth and normals of a single photo from pretrained networks, loaded only when asked for.

A `DepthPrior` is any function (H, W, 3) uint8 → (H, W) float32 relative *inverse* depth (larger is nearer), of unknown
scale and offset. Those here come through the libraries transformers and diffusers; their weights are fetched or found
by these libraries themselves.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from splat.depth.depth_maps import DepthMap
from splat.errors import InputError
from splat.scene.progress import Report
from splat.scene.scene import Scene

DepthPrior = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Network:
    """A pretrained network: the package that runs it, its name on the hub, its weights' licence."""

    package: str
    weights: str
    licence: str


# The small models: larger ones of the same families carry non-commercial licences.
NETWORKS = {
    "depth-anything": Network("transformers", "depth-anything/Depth-Anything-V2-Small-hf", "Apache-2.0"),
    "dpt": Network("transformers", "Intel/dpt-hybrid-midas", "Apache-2.0"),
    "marigold": Network("diffusers", "prs-eth/marigold-depth-lcm-v1-0", "Apache-2.0"),
}
INSTALL = "pip install 'splat-toolkit[priors]'"


def load(name: str, weights: str | None = None, device: str | None = None) -> DepthPrior:
    """The prior ``name`` of `NETWORKS`. ``weights``: a folder or hub name in place of the usual one.

    Raises InputError, saying what to install or fetch, when the package or its weights are not there.
    """
    network = NETWORKS[name]
    if importlib.util.find_spec(network.package) is None:
        raise InputError(f"the depth prior '{name}' needs the package {network.package}; {INSTALL}")
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    source = weights or network.weights
    try:
        return _marigold(source, device) if network.package == "diffusers" else _transformers(source, device)
    except (OSError, ValueError, ImportError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(
            f"the weights {source} of the depth prior '{name}' cannot be loaded ({first}); fetch them with: "
            f"hf download {source}"
        ) from error


def _transformers(source: str, device: str) -> DepthPrior:
    from transformers import AutoImageProcessor, AutoModelForDepthEstimation

    processor = AutoImageProcessor.from_pretrained(source)
    model: Any = AutoModelForDepthEstimation.from_pretrained(source).to(device).eval()

    def prior(rgb: Tensor) -> Tensor:
        inputs = processor(images=rgb.numpy(), return_tensors="pt").to(device)
        with torch.no_grad():
            inverse = model(**inputs).predicted_depth
        return resized(inverse.reshape(inverse.shape[-2:]), rgb.shape[0], rgb.shape[1])

    return prior


def _marigold(source: str, device: str) -> DepthPrior:
    from diffusers import MarigoldDepthPipeline

    pipeline = MarigoldDepthPipeline.from_pretrained(source).to(device)
    pipeline.set_progress_bar_config(disable=True)

    def prior(rgb: Tensor) -> Tensor:
        picture = rgb.permute(2, 0, 1).float() / 255
        generator = torch.Generator(device).manual_seed(0)
        depth = pipeline(picture[None], generator=generator, output_type="pt").prediction  # 0 is near
        return resized(1 - depth.reshape(depth.shape[-2:]), rgb.shape[0], rgb.shape[1])

    return prior


def resized(values: Tensor, height: int, width: int) -> Tensor:
    """``values`` (H, W) at the size (height, width), bilinear, float32 on the CPU."""
    mode = {"mode": "bilinear", "align_corners": False}
    return torch.nn.functional.interpolate(values[None, None].float().cpu(), (height, width), **mode)[0, 0]


def prior_maps(scene: Scene, prior: DepthPrior, report: Report | None = None) -> tuple[DepthMap, ...]:
    """What ``prior`` says of each training view, as depth in arbitrary units, with a confidence of 1 everywhere.

    Inverse depth is shifted so that its least value is a twentieth of its range: what is farthest stays finite.
    """
    maps = []
    for index, view in enumerate(scene.train_views):
        near = prior(view.load().rgb)
        low, high = float(near.min()), float(near.max())
        inverse = (near - low) / max(high - low, 1e-12) + 0.05
        maps.append(DepthMap(view.camera, (1 / inverse).numpy(), np.ones(near.shape, np.float32)))
        if report is not None:
            report("estimating depth", (index + 1) / len(scene.train_views))
    return tuple(maps)
