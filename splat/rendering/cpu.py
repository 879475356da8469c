"""The `cpu` backend: the C++ rasterizer on SIMD units and all cores. float32; other dtypes and devices are converted.

`backward_adam` fuses the backward pass with Adam: gradients of a few Gaussians at a time go straight into their update,
so no gradient tensors exist (see docs/measurements/performance.md).
"""

import ctypes
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.errors import BackendError, InputError
from splat.native import cpu_library
from splat.ops.adam import AdamHyper
from splat.rendering import cpu_structs as library
from splat.rendering.backend import Backend, probe
from splat.rendering.fused_step import Moments, Statistics, StepResult
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions


@dataclass(frozen=True, eq=False)
class Context:
    """What the backward pass needs of a `forward` call. When dropped, its workspace returns to the pool."""

    workspace: library.Workspace
    cloud: GaussianCloud  # as the core read it: float32, contiguous, on the CPU
    source: GaussianCloud
    camera: Camera
    options: RenderOptions
    radii: Tensor
    memory: tuple[
        tuple[int, torch.Size], ...
    ]  # address and shape of the cloud's tensors, and of those that the core read


def check() -> str | None:
    """None when the core is installed and renders a test Gaussian correctly, else what is missing."""
    try:
        fault = probe(BACKEND)
    except (BackendError, InputError) as error:
        return str(error)
    return None if fault is None else f"the CPU core ({cpu_library.variant()}) does not work here: {fault}"


def forward(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor | None = None
) -> tuple[Rendering, Context]:
    """Render ``cloud``; ``world_to_camera`` (4, 4) replaces the camera's own.

    A float32 contiguous cloud on the CPU is read in place: leave it alone until the backward pass is done.
    """
    world_to_camera = (
        (camera.world_to_camera if world_to_camera is None else world_to_camera).detach().to("cpu", torch.float64)
    )
    if world_to_camera.shape != (4, 4):
        raise ValueError(f"world_to_camera has shape {tuple(world_to_camera.shape)}, expected (4, 4)")
    source, cloud = cloud, _readable(cloud)
    n, bands = len(cloud), cloud.sh.shape[1]
    degree = cloud.sh_degree if options.sh_degree is None else min(options.sh_degree, cloud.sh_degree)
    shape = (camera.height, camera.width)
    rgb, alpha = torch.empty(*shape, 3), torch.empty(shape)
    depth, median = (torch.empty(shape), torch.empty(shape)) if options.depth else (None, None)
    normal = torch.empty(*shape, 3) if options.normal else None
    square = torch.empty(shape) if options.square_depth else None
    radii, means2d = torch.empty(n, dtype=torch.int32), torch.empty(n, 2)
    sums = torch.empty(n) if options.weights else None
    frame = library.Frame(
        count=n,
        **_pointers(cloud),
        sh_bands=bands,
        sh_degree=degree,
        rotation=(ctypes.c_float * 9)(*world_to_camera[:3, :3].flatten().tolist()),
        translation=(ctypes.c_float * 3)(*world_to_camera[:3, 3].tolist()),
        fx=camera.fx,
        fy=camera.fy,
        cx=camera.cx,
        cy=camera.cy,
        near_plane=options.near,
        blur=options.blur,
        width=camera.width,
        height=camera.height,
        background=(ctypes.c_float * 3)(*options.background),
        antialiased=options.antialiased,
        with_depth=options.depth,
        with_normal=options.normal,
        with_weights=options.weights,
        with_square=options.square_depth,
        rgb=rgb.data_ptr(),
        alpha=alpha.data_ptr(),
        depth=_own(depth),
        median_depth=_own(median),
        normal=_own(normal),
        square_depth=_own(square),
        radii=radii.data_ptr(),
        means2d=means2d.data_ptr(),
        weights=_own(sums),
    )
    workspace = library.take()
    try:
        workspace.forward(frame)
    except Exception:
        library.give_back(workspace)
        raise
    context = Context(workspace, cloud, source, camera, options, radii, _memory(source, cloud))
    weakref.finalize(context, library.give_back, workspace)
    rendering = Rendering(rgb, alpha, depth, median, normal, radii, sums, means2d, square)
    return _converted(rendering, source), context


def backward(context: Context, grads: ImageGradients, absgrad: bool = True) -> CloudGradients:
    """Gradients for every cloud tensor and ``world_to_camera``. May be called again on the same context.

    Args:
        absgrad: also sum absolute values per pixel; without it `CloudGradients.means2d_abs` stays zero.
    """
    cloud = context.cloud
    out = {name: torch.empty_like(getattr(cloud, name)) for name in FIELDS}
    means2d, means2d_abs = torch.zeros(len(cloud), 2), torch.zeros(len(cloud), 2)
    step = library.Step(
        **_pointers(GaussianCloud(**out)),
        means2d=means2d.data_ptr(),
        means2d_abs=means2d_abs.data_ptr() if absgrad else None,
        rows=len(cloud),
        bands=cloud.sh.shape[1],
    )
    _run_backward(context, grads, step)
    gradients = CloudGradients(
        **out, world_to_camera=_world_to_camera_gradient(step), means2d=means2d, means2d_abs=means2d_abs
    )
    source = context.source
    if source.dtype == torch.float32 and source.device.type == "cpu":
        return gradients
    return CloudGradients(**{name: tensor.to(source.means) for name, tensor in vars(gradients).items()})


def backward_adam(
    context: Context,
    grads: ImageGradients,
    moments: Moments,
    hyper: AdamHyper,
    statistics: Statistics | None = None,
) -> StepResult:
    """Backward pass and Adam step in one, in place on the cloud that was rendered, its moments and the statistics.

    Once per context: afterwards the cloud is no longer the one that was rendered. The gradients are those of
    Σ (picture · its gradient) plus the regularisers of ``hyper``. SH bands above the degree in use stay as they are.

    Raises ValueError if the cloud's tensors are not float32 contiguous on the CPU, or another tensor has another shape.
    """
    cloud = context.source
    if any(getattr(cloud, name).data_ptr() != getattr(context.cloud, name).data_ptr() for name in FIELDS):
        raise ValueError(
            "backward_adam updates in place: the cloud's tensors must be float32, contiguous and on the CPU"
        )
    statistics = statistics or Statistics()
    _check_shapes(cloud, moments, statistics)
    n = max(1, len(cloud))
    rates = (hyper.means, hyper.log_scales, hyper.quats, hyper.logit_opacities, hyper.sh_dc, hyper.sh_rest)
    step = library.Step(
        fused=1,
        visible_only=hyper.visible_only,
        rows=len(cloud),
        bands=cloud.sh.shape[1],
        p=_five(getattr(cloud, name) for name in FIELDS),
        m=_five(moments.m[name] for name in FIELDS),
        v=_five(moments.v[name] for name in FIELDS),
        rates=(ctypes.c_float * 6)(*rates),
        beta1=hyper.beta1,
        beta2=hyper.beta2,
        eps=hyper.eps,
        step=hyper.step,
        opacity_weight=hyper.opacity_reg / n,
        scale_weight=hyper.scale_reg / (3 * n),
        **{name: cpu_library.pointer(tensor, torch.float32) for name, tensor in vars(statistics).items()},
    )
    _run_backward(context, grads, step)
    names = tuple(name for i, name in enumerate(FIELDS) if step.nonfinite >> i & 1)
    return StepResult(world_to_camera=_world_to_camera_gradient(step), nonfinite=names)


def timings() -> dict[str, float]:
    """Seconds per stage of all contexts dropped since `reset_timings`."""
    return library.timings(reset=False)


def reset_timings() -> None:
    """Set the seconds per stage to 0."""
    library.timings(reset=True)


def release() -> None:
    """Free the memory of workspaces not in use."""
    library.release()


# ---- small things ----


def _run_backward(context: Context, grads: ImageGradients, step: Any) -> None:
    if _memory(context.source, context.cloud) != context.memory:
        raise ValueError("a tensor of the cloud was resized, freed or replaced since it was rendered; render it anew")
    given = {"rgb": (3,), "alpha": (), "depth": (), "normal": (3,), "square_depth": ()}
    keep, pointers = [], {}
    for name, channels in given.items():
        tensor = getattr(grads, name)
        if tensor is None or (name in ("depth", "normal", "square_depth") and not getattr(context.options, name)):
            continue
        expected = (context.camera.height, context.camera.width, *channels)
        if tensor.shape != expected:
            raise ValueError(f"the gradient of {name} has shape {tuple(tensor.shape)}, expected {expected}")
        if tensor.is_cpu:
            cpu_library.check_memory(tensor)
        keep.append(tensor.detach().to("cpu", torch.float32).contiguous())
        pointers[name] = keep[-1].data_ptr()
    width, height = context.camera.width, context.camera.height
    context.workspace.backward(library.PictureGradients(**pointers, width=width, height=height), step)


def _readable(cloud: GaussianCloud) -> GaussianCloud:
    """The cloud as the core reads it; the same tensors where they are fit."""
    if cloud.means.is_cpu:
        for tensor in _tensors(cloud):
            cpu_library.check_memory(tensor)
    return GaussianCloud(
        **{name: getattr(cloud, name).detach().to("cpu", torch.float32).contiguous() for name in FIELDS}
    )


def _memory(*clouds: GaussianCloud) -> tuple[tuple[int, torch.Size], ...]:
    """Address and shape of each tensor: they change when one is resized, freed or exchanged."""
    return tuple((tensor.data_ptr(), tensor.shape) for cloud in clouds for tensor in _tensors(cloud))


def _tensors(cloud: GaussianCloud) -> tuple[Tensor, ...]:
    return cloud.means, cloud.log_scales, cloud.quats, cloud.logit_opacities, cloud.sh


def _check_shapes(cloud: GaussianCloud, moments: Moments, statistics: Statistics) -> None:
    for name, tensor in vars(statistics).items():
        if tensor is not None and tensor.shape != (len(cloud),):
            raise ValueError(f"statistics.{name} has shape {tuple(tensor.shape)}, expected ({len(cloud)},)")
    for name in FIELDS:
        for kind in ("m", "v"):
            moment, expected = getattr(moments, kind).get(name), getattr(cloud, name).shape
            if moment is None or moment.shape != expected:
                found = "is missing" if moment is None else f"has shape {tuple(moment.shape)}"
                raise ValueError(f"moment {kind}['{name}'] {found}, its tensor has shape {tuple(expected)}")


def _own(tensor: Tensor | None) -> int | None:
    """Address of a tensor just made here, which needs no check; None stays NULL."""
    return None if tensor is None else tensor.data_ptr()


def _pointers(cloud: GaussianCloud) -> dict[str, int]:
    """Addresses of a cloud's tensors that `_readable` has checked, or that were just made."""
    names = ("means", "log_scales", "quats", "logits", "sh")
    return {name: tensor.data_ptr() for name, tensor in zip(names, _tensors(cloud), strict=True)}


def _five(tensors: Any) -> Any:
    return (ctypes.c_void_p * 5)(*(cpu_library.pointer(tensor, torch.float32) for tensor in tensors))


def _world_to_camera_gradient(step: Any) -> Tensor:
    values = list(step.pose)
    rows = [[*values[3 * i : 3 * i + 3], values[9 + i]] for i in range(3)]
    return torch.tensor([*rows, [0.0] * 4])


def _converted(rendering: Rendering, source: GaussianCloud) -> Rendering:
    """Pictures in the dtype and on the device of the cloud that was given."""
    if source.dtype == torch.float32 and source.device.type == "cpu":
        return rendering

    def convert(tensor: Tensor | None) -> Tensor | None:
        if tensor is None:
            return None
        return tensor.to(source.device, source.dtype if tensor.is_floating_point() else tensor.dtype)

    return Rendering(**{name: convert(tensor) for name, tensor in vars(rendering).items()})


BACKEND = Backend("cpu", torch.device("cpu"), check, forward, backward, backward_adam)
