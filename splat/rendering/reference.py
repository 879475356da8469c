"""The `reference` backend: the equations of 3D Gaussian splatting in plain PyTorch, any dtype; slow, the ground truth.

A Gaussian with centre μ and covariance Σ is seen through world_to_camera (R, t) and the pinhole linearised at R μ + t,
with derivative J, as the 2D Gaussian Σ₂ = J R Σ Rᵀ Jᵀ + 0.3·I (Zwicker et al., EWA splatting, 2001; Kerbl et al. 2023,
eq. 5). Front to back, each pixel blends C = Σ cᵢ αᵢ Tᵢ with αᵢ = min(0.99, oᵢ exp(−½ dᵀ Σ₂⁻¹ d)) and
Tᵢ = Π_{j<i} (1 − αⱼ). The constants stand in `types`.

Work goes block by block over the image, so memory stays bounded (some 100 MB); the backward pass repeats each block's
forward pass with autograd.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from splat import sh as spherical
from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.rendering.backend import Backend
from splat.rendering.types import (
    ALPHA_MAX,
    ALPHA_MIN,
    COMPENSATION_MIN,
    TRANSMITTANCE_MIN,
    CloudGradients,
    ImageGradients,
    Rendering,
    RenderOptions,
)

BLOCK = 32  # pixels a side
PAIRS = 1 << 20  # most (pixel, Gaussian) pairs looked at together


@dataclass(frozen=True)
class Projection:
    """The M visible Gaussians projected onto the image plane, nearest first.

    Attributes:
        rows: (M,) their rows in the cloud.
        means2d: (M, 2) centres, pixels.
        conics: (M, 3) inverse 2D covariance A, B, C: distance² = A dx² + 2 B dx dy + C dy².
        opacities: (M,) after anti-aliasing compensation.
        features: (M, 8) what is blended: RGB, z-depth, normal in camera axes, z-depth squared.
        extents: (M, 2) half-size of the box outside which α < 1/255, pixels.
    """

    rows: Tensor
    means2d: Tensor
    conics: Tensor
    opacities: Tensor
    features: Tensor
    extents: Tensor


@dataclass(frozen=True)
class Context:
    """What `backward` needs of a `forward` call."""

    cloud: GaussianCloud
    camera: Camera
    options: RenderOptions
    world_to_camera: Tensor


@dataclass(frozen=True)
class Block:
    """Some pixels, and the visible Gaussians that may reach them.

    Attributes:
        ys, xs: (P,) pixel indices.
        members: (m,) indices into a `Projection`, nearest first.
    """

    ys: Tensor
    xs: Tensor
    members: Tensor


_PICTURES = {"rgb": (3,), "alpha": (), "depth": (), "normal": (3,), "median_depth": (), "square_depth": ()}


def check() -> None:
    """None: the reference always runs."""
    return None


def forward(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor | None = None
) -> tuple[Rendering, Context]:
    """Render ``cloud``; ``world_to_camera`` (4, 4) replaces the camera's own."""
    world_to_camera = (camera.world_to_camera if world_to_camera is None else world_to_camera).detach().to(cloud.means)
    cloud = cloud.detach()
    with torch.no_grad():
        projection = project(cloud, camera, options, world_to_camera)
        pictures = {
            name: cloud.means.new_zeros(camera.height, camera.width, *channels) for name, channels in _PICTURES.items()
        }
        weights = cloud.means.new_zeros(len(cloud))
        for block in blocks(projection, camera):
            picture, block_weights = shade(projection, block, options.background)
            for name, values in picture.items():
                pictures[name][block.ys, block.xs] = values
            weights.index_add_(0, projection.rows[block.members], block_weights.sum(0))
        radii = torch.zeros(len(cloud), dtype=torch.int32, device=cloud.device)
        radii[projection.rows] = projection.extents.amax(1).ceil().to(torch.int32)
        means2d = cloud.means.new_zeros(len(cloud), 2)
        means2d[projection.rows] = projection.means2d
    rendering = Rendering(
        rgb=pictures["rgb"],
        alpha=pictures["alpha"],
        depth=pictures["depth"] if options.depth else None,
        median_depth=pictures["median_depth"] if options.depth else None,
        normal=pictures["normal"] if options.normal else None,
        radii=radii,
        weights=weights if options.weights else None,
        means2d=means2d,
        square_depth=pictures["square_depth"] if options.square_depth else None,
    )
    return rendering, Context(cloud, camera, options, world_to_camera)


def backward(context: Context, grads: ImageGradients) -> CloudGradients:
    """Gradients of Σ (picture · its gradient) for the cloud and ``world_to_camera``, by autograd in two stages.

    Stage one goes block by block from the pictures to the projected Gaussians; stage two from those to the cloud.
    """
    cloud, world_to_camera = context.cloud, context.world_to_camera.clone().requires_grad_()
    leaves = [getattr(cloud, name).clone().requires_grad_() for name in FIELDS]
    with torch.enable_grad():
        projection = project(GaussianCloud(*leaves), context.camera, context.options, world_to_camera)
    seen = detached(projection)
    sums = [torch.zeros_like(t) for t in (seen.means2d, seen.conics, seen.opacities, seen.features)]
    means2d_abs = torch.zeros_like(seen.means2d)
    asked = {name: gradient for name, gradient in vars(grads).items() if gradient is not None}
    for block in blocks(seen, context.camera):
        block_gradients = _block_gradients(seen, block, context.options.background, asked)
        for total, gradient in zip(sums, (block_gradients[0].sum(0), *block_gradients[1:]), strict=True):
            total.index_add_(0, block.members, gradient)
        means2d_abs.index_add_(0, block.members, block_gradients[0].abs().sum(0))

    outputs = (projection.means2d, projection.conics, projection.opacities, projection.features)
    gradients = torch.autograd.grad(outputs, [*leaves, world_to_camera], sums, allow_unused=True)
    zeros = [
        torch.zeros_like(t) if g is None else g for t, g in zip([*leaves, world_to_camera], gradients, strict=True)
    ]
    full = [cloud.means.new_zeros(len(cloud), 2) for _ in range(2)]
    for target, values in zip(full, (sums[0], means2d_abs), strict=True):
        target[seen.rows] = values
    return CloudGradients(*zeros, *full)


# ---- from the cloud to the image plane ----


def project(cloud: GaussianCloud, camera: Camera, options: RenderOptions, world_to_camera: Tensor) -> Projection:
    """The visible Gaussians on the image plane, nearest first, ties by row. Differentiable."""
    rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
    local_all = cloud.means @ rotation.T + translation
    front = (local_all[:, 2] >= options.near).nonzero().squeeze(1)
    cloud, local = cloud.select(front), local_all[front]

    # det(Σ₂ + blur) = det Σ₂ + blur · trace + blur²; det Σ₂ as a sum of squared minors (Cauchy–Binet) cannot cancel.
    half = jacobian(local, camera) @ rotation @ (cloud.rotations * cloud.scales[:, None, :])
    sharp_xx, sharp_yy = half[:, 0].square().sum(1), half[:, 1].square().sum(1)
    xy = (half[:, 0] * half[:, 1]).sum(1)
    sharp_det = torch.linalg.cross(half[:, 0], half[:, 1]).square().sum(1)
    blur = options.blur
    det = sharp_det + blur * (sharp_xx + sharp_yy) + blur * blur
    xx, yy = sharp_xx + blur, sharp_yy + blur

    opacities = cloud.opacities
    if options.antialiased:
        opacities = opacities * (sharp_det / det).clamp_min(COMPENSATION_MIN**2).sqrt()
    means2d = torch.stack(
        [camera.fx * local[:, 0] / local[:, 2] + camera.cx, camera.fy * local[:, 1] / local[:, 2] + camera.cy], 1
    )
    with torch.no_grad():
        reach = 2 * torch.log(opacities.clamp_min(ALPHA_MIN) / ALPHA_MIN)  # where α = 1/255, as a squared distance
        extents = torch.stack([(reach * xx).sqrt(), (reach * yy).sqrt()], 1)
        size = extents.new_tensor([camera.width, camera.height])
        touches = ((means2d + extents > 0) & (means2d - extents < size)).all(1)
        visible = (touches & (opacities >= ALPHA_MIN)).nonzero().squeeze(1)
        order = visible[torch.sort(local[visible, 2], stable=True).indices]
    z = local[:, 2:]
    features = torch.cat([colours(cloud, rotation, translation, options), z, normals(cloud, local, rotation), z * z], 1)
    return Projection(
        rows=front[order],
        means2d=means2d[order],
        conics=torch.stack([yy / det, -xy / det, xx / det], 1)[order],
        opacities=opacities[order],
        features=features[order],
        extents=extents[order],
    )


def jacobian(local: Tensor, camera: Camera) -> Tensor:
    """(M, 2, 3) derivative of the pinhole projection at camera-space points (M, 3).

    Beyond the image plus a margin of 0.3·tan(half field of view) the point is pulled back to that limit: far outside,
    the linearisation explodes.
    """
    x, y, z = local.unbind(1)
    slopes = []
    for value, focal, centre, size in (
        (x, camera.fx, camera.cx, camera.width),
        (y, camera.fy, camera.cy, camera.height),
    ):
        margin = 0.3 * size / (2 * focal)
        slopes.append((value / z).clamp(-(centre / focal + margin), (size - centre) / focal + margin))
    zero = torch.zeros_like(z)
    rows = [camera.fx / z, zero, -camera.fx * slopes[0] / z, zero, camera.fy / z, -camera.fy * slopes[1] / z]
    return torch.stack(rows, 1).reshape(-1, 2, 3)


def colours(cloud: GaussianCloud, rotation: Tensor, translation: Tensor, options: RenderOptions) -> Tensor:
    """(M, 3) RGB of each Gaussian as seen from the camera centre, clamped at 0 from below."""
    degree = cloud.sh_degree if options.sh_degree is None else min(options.sh_degree, cloud.sh_degree)
    directions = torch.nn.functional.normalize(cloud.means + translation @ rotation, dim=1)
    basis = spherical.basis(directions, degree)
    return (0.5 + torch.einsum("nk,nkc->nc", basis, cloud.sh[:, : basis.shape[1]])).clamp_min(0)


def normals(cloud: GaussianCloud, local: Tensor, rotation: Tensor) -> Tensor:
    """(M, 3) shortest axis of each Gaussian in camera axes (the first of equals), turned towards the camera."""
    a, b, c = cloud.log_scales.detach().unbind(1)
    shortest = torch.where(c < torch.minimum(a, b), 2, torch.where(b < a, 1, 0))
    axis = cloud.rotations[torch.arange(len(cloud), device=cloud.device), :, shortest] @ rotation.T
    away = (axis * local).sum(1, keepdim=True).detach() > 0
    return torch.where(away, -axis, axis)


# ---- from the image plane to pixels ----


def blocks(projection: Projection, camera: Camera) -> Iterator[Block]:
    """All pixels in blocks small enough for memory, each with the Gaussians whose box reaches it."""
    low, high = projection.means2d - projection.extents, projection.means2d + projection.extents
    device = projection.means2d.device
    for y0 in range(0, camera.height, BLOCK):
        for x0 in range(0, camera.width, BLOCK):
            y1, x1 = min(y0 + BLOCK, camera.height), min(x0 + BLOCK, camera.width)
            # One pixel of slack: rounding must not drop a Gaussian whose ellipse just reaches a pixel centre.
            inside = (high[:, 0] > x0 - 1) & (low[:, 0] < x1 + 1) & (high[:, 1] > y0 - 1) & (low[:, 1] < y1 + 1)
            members = inside.nonzero().squeeze(1)
            step = max(1, PAIRS // max(1, len(members) * (x1 - x0)))
            for top in range(y0, y1, step):
                rows = torch.arange(top, min(top + step, y1), device=device)
                columns = torch.arange(x0, x1, device=device)
                ys, xs = torch.meshgrid(rows, columns, indexing="ij")
                yield Block(ys.flatten(), xs.flatten(), members)


def falloffs(projection: Projection, block: Block, means2d: Tensor) -> Tensor:
    """(P, m) opacity × exp(−½ distance²) at each pixel, before thresholds; ``means2d`` (P, m, 2) are the centres."""
    dx = block.xs[:, None] + 0.5 - means2d[..., 0]
    dy = block.ys[:, None] + 0.5 - means2d[..., 1]
    a, b, c = projection.conics[block.members].unbind(1)
    return projection.opacities[block.members] * torch.exp(-0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy)


def blend_weights(falloff: Tensor) -> tuple[Tensor, Tensor]:
    """Blending weights αT (P, m) and the transmittance behind each Gaussian (P, m), from `falloffs` nearest first."""
    alpha = torch.where(falloff >= ALPHA_MIN, falloff.clamp_max(ALPHA_MAX), 0)
    with torch.no_grad():  # where the next Gaussian would bring transmittance to 1e-4 or below, the pixel is finished
        alive = torch.cumprod(1 - alpha, 1) > TRANSMITTANCE_MIN
    alpha = alpha * alive
    behind = torch.cumprod(1 - alpha, 1)
    before = torch.cat([torch.ones_like(behind[:, :1]), behind[:, :-1]], 1)
    return alpha * before, behind


def shade(
    projection: Projection, block: Block, background: tuple[float, float, float], means2d: Tensor | None = None
) -> tuple[dict[str, Tensor], Tensor]:
    """Pictures at the block's pixels by name, and the blending weights (P, m).

    ``means2d`` (P, m, 2) gives each pixel centres of its own, to learn what each pixel adds to their gradient.
    """
    if means2d is None:
        means2d = projection.means2d[block.members].expand(len(block.ys), -1, -1)
    weights, behind = blend_weights(falloffs(projection, block, means2d))
    features = projection.features[block.members]
    blended = weights @ features
    total = weights.sum(1)
    seen = total > 0
    left = behind[:, -1] if behind.shape[1] else torch.ones_like(total)
    below_half = behind < 0.5
    first = below_half.int().argmax(1) if behind.shape[1] else None
    median = torch.zeros_like(total)
    if first is not None:
        median = torch.where(below_half.any(1), features[:, 3].detach()[first], 0)
    return {
        "rgb": blended[:, :3] + left[:, None] * weights.new_tensor(background),
        "alpha": 1 - left,
        "depth": torch.where(seen, blended[:, 3] / torch.where(seen, total, 1), 0),
        "normal": blended[:, 4:7],
        "square_depth": torch.where(seen, blended[:, 7] / torch.where(seen, total, 1), 0),
        "median_depth": median,
    }, weights


def _block_gradients(
    seen: Projection, block: Block, background: tuple[float, float, float], asked: dict[str, Tensor]
) -> list[Tensor]:
    """Gradients at one block: per pixel for centres (P, m, 2); summed over pixels for conics, opacities, features."""
    m = block.members
    leaves = [
        seen.means2d[m].expand(len(block.ys), -1, -1).clone().requires_grad_(),
        *(tensor[m].clone().requires_grad_() for tensor in (seen.conics, seen.opacities, seen.features)),
    ]
    everyone = torch.arange(len(m), device=m.device)
    local = Projection(m, seen.means2d[m], *leaves[1:], seen.extents[m])
    with torch.enable_grad():
        pictures, _ = shade(local, Block(block.ys, block.xs, everyone), background, leaves[0])
    outputs = [pictures[name] for name in asked]
    upstream = [gradient[block.ys, block.xs].to(seen.means2d) for gradient in asked.values()]
    if not outputs or not len(m):
        return [torch.zeros_like(leaf) for leaf in leaves]
    gradients = torch.autograd.grad(outputs, leaves, upstream, allow_unused=True)
    return [torch.zeros_like(leaf) if g is None else g for leaf, g in zip(leaves, gradients, strict=True)]


def detached(projection: Projection) -> Projection:
    """The same without autograd history."""
    return Projection(**{name: value.detach() for name, value in vars(projection).items()})


BACKEND = Backend("reference", torch.device("cpu"), check, forward, backward)
