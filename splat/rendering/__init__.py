"""Rendering: `render()` draws a cloud from a camera with any backend, differentiably."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.rendering.backends import available_backends, check_backend, choose_backend, get_backend
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions

__all__ = [
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
    **option_fields: Any,
) -> Rendering:
    """Draw ``cloud`` as seen by ``camera``.

    Differentiable in the cloud's five tensors and in ``world_to_camera`` (4, 4), which replaces the camera's pose.

    Args:
        backend: a backend by name, or "auto": CUDA for a cloud on a GPU, else the CPU rasterizer, else the reference.
        options: how to draw; or give its fields directly, as in ``render(cloud, camera, depth=True)``.

    Raises BackendError when the backend cannot run here, TypeError for an unknown option field.
    """
    if options is not None and option_fields:
        raise TypeError("give either options or their fields, not both")
    options = options or RenderOptions(**option_fields)
    module = choose_backend(cloud) if backend == "auto" else get_backend(backend)
    pose = camera.world_to_camera if world_to_camera is None else world_to_camera
    tensors = [getattr(cloud, name) for name in FIELDS]
    if not (torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*tensors, pose))):
        return module.forward(cloud.detach(), camera, options, pose.detach())[0]
    outputs = _Render.apply(module, camera, options, *tensors, pose)
    return Rendering(**dict(zip(_DIFFERENTIABLE + _CONSTANT, outputs, strict=True)))


class _Render(torch.autograd.Function):
    """Any backend's forward and backward as one node of the autograd graph."""

    @staticmethod
    def forward(ctx, module: ModuleType, camera: Camera, options: RenderOptions, *tensors: Tensor):
        *fields, pose = (tensor.detach() for tensor in tensors)
        rendering, ctx.context = module.forward(GaussianCloud(*fields), camera, options, pose)
        ctx.module = module
        ctx.save_for_backward(*tensors)  # so that PyTorch notices if they are changed before the backward pass
        ctx.set_materialize_grads(False)
        constant = [getattr(rendering, name) for name in _CONSTANT]
        ctx.mark_non_differentiable(*(tensor for tensor in constant if tensor is not None))
        return (*(getattr(rendering, name) for name in _DIFFERENTIABLE), *constant)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, *grads: Tensor | None):
        inputs = ctx.saved_tensors
        found = ctx.module.backward(ctx.context, ImageGradients(*grads[: len(_DIFFERENTIABLE)]))
        results = [getattr(found, name) for name in FIELDS] + [found.pose.to(inputs[-1])]
        return (None, None, None, *results)
