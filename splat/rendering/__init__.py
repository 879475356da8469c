"""Differentiable rendering of a cloud: `render()`, by any backend."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.rendering.backend import Backend
from splat.rendering.backends import available_backends, check_backend, choose_backend, get_backend
from splat.rendering.features import blend_features
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions

__all__ = [
    "Backend",
    "CloudGradients",
    "ImageGradients",
    "RenderOptions",
    "Rendering",
    "available_backends",
    "check_backend",
    "get_backend",
    "render",
]

_DIFFERENTIABLE = ("rgb", "alpha", "depth", "normal", "square_depth")
_CONSTANT = ("median_depth", "radii", "weights", "means2d")


def render(
    cloud: GaussianCloud,
    camera: Camera,
    backend: str = "auto",
    options: RenderOptions | None = None,
    world_to_camera: Tensor | None = None,
    features: Tensor | None = None,
    **option_fields: Any,
) -> Rendering:
    """Render ``cloud`` as seen by ``camera``.

    Differentiable in the cloud's five tensors, in ``features`` and in ``world_to_camera`` (4, 4), which replaces the
    camera's own.

        rendering = splat.render(cloud, camera, depth=True, features=descriptors)  # (N, 16)
        rendering.rgb, rendering.depth, rendering.features  # (H, W, 3), (H, W), (H, W, 16)

    Args:
        backend: a backend by name, or "auto": CUDA for a cloud on a GPU, else the CPU rasterizer, else the reference.
        features: (N, C) numbers to blend like colours, as `Rendering.features`; ⌈C/3⌉ more passes.
        options: how to render; or give its fields directly, as in ``render(cloud, camera, depth=True)``.

    Raises BackendError when the backend cannot run here, TypeError for an unknown option field, ValueError for
    arguments of another kind, shape or range, and ``features`` of another number of rows.
    """
    if options is not None and option_fields:
        raise TypeError("give either options or their fields, not both")
    _check(cloud, camera, world_to_camera)
    options = options or RenderOptions(**option_fields)
    chosen = choose_backend(cloud) if backend == "auto" else get_backend(backend)
    if world_to_camera is None:
        world_to_camera = camera.world_to_camera
    rendering = _draw(chosen, cloud, camera, options, world_to_camera)
    if features is None:
        return rendering
    blended = blend_features(
        lambda coloured, plain: _draw(chosen, coloured, camera, plain, world_to_camera), cloud, options, features
    )
    return replace(rendering, features=blended)


def _check(cloud: GaussianCloud, camera: Camera, world_to_camera: Tensor | None) -> None:
    if not isinstance(cloud, GaussianCloud) or not isinstance(camera, Camera):
        raise ValueError(
            f"render got {type(cloud).__name__} and {type(camera).__name__}, expected a cloud and a camera"
        )
    if cloud.means.is_meta:
        raise ValueError("the cloud is on the device meta and has no numbers; move it to cpu or cuda")
    if world_to_camera is None:
        return
    if not isinstance(world_to_camera, Tensor) or world_to_camera.shape != (4, 4) or world_to_camera.is_meta:
        found = tuple(world_to_camera.shape) if isinstance(world_to_camera, Tensor) else type(world_to_camera).__name__
        raise ValueError(f"world_to_camera is {found}, expected a tensor (4, 4) with numbers")


def _draw(
    backend: Backend, cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor
) -> Rendering:
    tensors = [getattr(cloud, name) for name in FIELDS]
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, world_to_camera))):
        return backend.forward(cloud.detach(), camera, options, world_to_camera.detach())[0]
    outputs = _Render.apply(backend, camera, options, *tensors, world_to_camera)
    return Rendering(**dict(zip(_DIFFERENTIABLE + _CONSTANT, outputs, strict=True)))


class _Render(torch.autograd.Function):
    """Any backend's forward and backward as one node of the autograd graph."""

    @staticmethod
    def forward(ctx, backend: Backend, camera: Camera, options: RenderOptions, *tensors: Tensor):
        *fields, world_to_camera = (tensor.detach() for tensor in tensors)
        rendering, ctx.context = backend.forward(GaussianCloud(*fields), camera, options, world_to_camera)
        ctx.backend = backend
        ctx.save_for_backward(*tensors)  # so that PyTorch notices if they are changed before the backward pass
        ctx.set_materialize_grads(False)
        constant = [getattr(rendering, name) for name in _CONSTANT]
        ctx.mark_non_differentiable(*(tensor for tensor in constant if tensor is not None))
        return (*(getattr(rendering, name) for name in _DIFFERENTIABLE), *constant)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor | None):
        inputs = ctx.saved_tensors
        gradients = ctx.backend.backward(ctx.context, ImageGradients(*grads[: len(_DIFFERENTIABLE)]))
        results = [getattr(gradients, name) for name in FIELDS] + [gradients.world_to_camera.to(inputs[-1])]
        return (None, None, None, *results)
