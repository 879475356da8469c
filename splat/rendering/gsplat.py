"""The `gsplat` backend: nerfstudio's CUDA rasterizer behind the same interface, as an alternative and for comparison.

Imported only when chosen; written for gsplat 1.5.3. It has no median depth (None here), and caps α at its own value, so
pictures differ from the other backends' by a few thousandths where a Gaussian is all but opaque. Its camera gradient
agrees with the others' for rigid motions of the camera, not for changes that are not rigid.
"""

from dataclasses import dataclass
from importlib import import_module, util
from types import ModuleType

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.errors import BackendError
from splat.rendering import reference
from splat.rendering.backend import Backend, probe
from splat.rendering.types import CloudGradients, ImageGradients, Rendering, RenderOptions

INSTALL = "install it with: pip install gsplat==1.5.3 (it needs a GPU and the CUDA toolkit), or use --backend cpu"


@dataclass(frozen=True)
class Context:
    """What `backward` needs: gsplat's own autograd graph.

    Attributes:
        pictures: by name, with history.
        leaves: the cloud's five tensors and ``world_to_camera``.
        means2d: (1, N, 2) gsplat's projected centres in each of its calls, which get an attribute ``absgrad`` in the
            backward pass.
    """

    pictures: dict[str, Tensor]
    leaves: list[Tensor]
    means2d: list[Tensor]


def check() -> str | None:
    """None when gsplat renders a test Gaussian correctly here, else what is missing."""
    if util.find_spec("gsplat") is None:
        return f"gsplat is not installed; {INSTALL}"
    if not torch.cuda.is_available():
        return "gsplat is installed but PyTorch sees no CUDA GPU; use --backend cpu"
    try:
        fault = probe(BACKEND)
    except (ImportError, RuntimeError, OSError, TypeError, AttributeError, BackendError) as error:
        return f"gsplat is installed but does not run ({_first_line(error)}); {INSTALL}"
    return None if fault is None else f"gsplat is installed but {fault}; {INSTALL}"


def forward(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor | None = None
) -> tuple[Rendering, Context]:
    """Render ``cloud``; ``world_to_camera`` (4, 4) replaces the camera's own.

    Weights, normals and the squared depth take another pass each.
    """
    world_to_camera = (
        (camera.world_to_camera if world_to_camera is None else world_to_camera)
        .detach()
        .to(cloud.means)
        .requires_grad_()
    )
    leaves = [getattr(cloud, name).detach().requires_grad_() for name in FIELDS]
    with torch.enable_grad():
        leafy = GaussianCloud(*leaves)
        degree = cloud.sh_degree if options.sh_degree is None else min(options.sh_degree, cloud.sh_degree)
        background = torch.tensor([options.background], dtype=cloud.dtype, device=cloud.device)
        mode = "RGB+ED" if options.depth else "RGB"
        drawn, alpha, facts = _draw(
            leafy,
            camera,
            options,
            world_to_camera,
            leafy.sh,
            sh_degree=degree,
            backgrounds=background,
            render_mode=mode,
            absgrad=True,
        )
        pictures = {"rgb": drawn[0, ..., :3], "alpha": alpha[0, ..., 0]}
        centres = [facts["means2d"]]
        if options.depth:
            pictures["depth"] = drawn[0, ..., 3]
        if options.normal:
            local = leafy.means @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
            normals = reference.normals(leafy, local, world_to_camera[:3, :3])
            drawn, _, more = _draw(leafy, camera, options, world_to_camera, normals, absgrad=True)
            pictures["normal"] = drawn[0]
            centres.append(more["means2d"])
        if options.square_depth:
            square = (leafy.means @ world_to_camera[2, :3] + world_to_camera[2, 3])[:, None].square().expand(-1, 3)
            drawn, opaque, more = _draw(leafy, camera, options, world_to_camera, square, absgrad=True)
            seen = opaque[0, ..., 0] > 0
            pictures["square_depth"] = torch.where(seen, drawn[0, ..., 0] / torch.where(seen, opaque[0, ..., 0], 1), 0)
            centres.append(more["means2d"])
    shape = (len(cloud),)
    radii = (
        facts["radii"].reshape(*shape, -1).amax(1).to(torch.int32)
        if len(cloud)
        else torch.zeros(shape, dtype=torch.int32)
    )
    rendering = Rendering(
        rgb=pictures["rgb"].detach(),
        alpha=pictures["alpha"].detach(),
        depth=pictures["depth"].detach() if options.depth else None,
        median_depth=None,
        normal=pictures["normal"].detach() if options.normal else None,
        radii=radii,
        weights=_weights(cloud.detach(), camera, options, world_to_camera.detach()) if options.weights else None,
        means2d=centres[0].detach()[0] * (radii > 0)[:, None],
        square_depth=pictures["square_depth"].detach() if options.square_depth else None,
    )
    return rendering, Context(pictures, [*leaves, world_to_camera], centres)


def backward(context: Context, grads: ImageGradients) -> CloudGradients:
    """Gradients of Σ (picture · its gradient) for every cloud tensor and ``world_to_camera``."""
    asked = [name for name in context.pictures if getattr(grads, name) is not None]
    wanted = [*context.leaves, *context.means2d]
    zeros = [torch.zeros_like(tensor) for tensor in wanted]
    if asked:
        outputs = [context.pictures[name] for name in asked]
        upstream = [getattr(grads, name).to(outputs[0]) for name in asked]
        gradients = torch.autograd.grad(outputs, wanted, upstream, allow_unused=True, retain_graph=True)
        zeros = [zero if gradient is None else gradient for zero, gradient in zip(zeros, gradients, strict=True)]
    zeros[5] = torch.cat([zeros[5][:3], torch.zeros_like(zeros[5][3:])])  # gsplat inverts the whole matrix
    absolute = sum(getattr(centres, "absgrad", torch.zeros_like(centres)) for centres in context.means2d)
    return CloudGradients(*zeros[:6], means2d=sum(zeros[6:])[0], means2d_abs=absolute[0])


def _draw(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor, colours: Tensor, **more
):
    intrinsics = [[camera.fx, 0.0, camera.cx], [0.0, camera.fy, camera.cy], [0.0, 0.0, 1.0]]
    return _gsplat().rasterization(
        means=cloud.means,
        quats=cloud.quats,
        scales=cloud.scales,
        opacities=cloud.opacities,
        colors=colours,
        viewmats=world_to_camera[None],
        Ks=torch.tensor([intrinsics], dtype=cloud.dtype, device=cloud.device),
        width=camera.width,
        height=camera.height,
        near_plane=options.near,
        eps2d=options.blur,
        packed=False,
        rasterize_mode="antialiased" if options.antialiased else "classic",
        **more,
    )


def _weights(cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor) -> Tensor:
    """(N,) Σ αT over pixels: the gradient of the summed picture with respect to the colours."""
    with torch.enable_grad():
        ones = torch.ones(len(cloud), 3, dtype=cloud.dtype, device=cloud.device, requires_grad=True)
        picture = _draw(cloud, camera, options, world_to_camera, ones)[0]
        return torch.autograd.grad(picture[..., 0].sum(), ones)[0][:, 0]


def _gsplat() -> ModuleType:
    try:
        return import_module("gsplat")
    except ImportError as error:
        raise BackendError(f"gsplat cannot be imported ({_first_line(error)}); {INSTALL}") from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


BACKEND = Backend("gsplat", torch.device("cuda"), check, forward, backward)
