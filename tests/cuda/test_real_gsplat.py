"""The real package gsplat 1.5.3, where it is installed (no GPU needed): its own PyTorch reference against ours.

Its CUDA parts do not run here. Its projection, SH and tile intersection exist in PyTorch as well; they are put in place
of the CUDA ones, so that its `rasterization` itself, with its signature, shapes and conventions, serves our backend.
"""

import pytest
import torch
from support.cases import GRADIENTS, case, expected

from splat.rendering import gsplat as backend
from splat.rendering import reference
from splat.rendering.types import BLUR, NEAR, TILE
from splat.sh import basis as our_basis

real = pytest.importorskip("gsplat", reason="gsplat is not installed (pip install --no-deps gsplat==1.5.3)")
truth = pytest.importorskip("gsplat.cuda._torch_impl")
rendering = pytest.importorskip("gsplat.rendering")


def intrinsics(camera) -> torch.Tensor:
    rows = [[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]
    return torch.tensor([rows], dtype=torch.float64)


@pytest.mark.parametrize("name", ["plain", "antialiased", "off_centre", "wide", "near_plane"])
def test_projection_equals_theirs(name: str):
    this = case(name)
    cloud, camera, options = this.cloud, this.camera, this.options
    pose = camera.world_to_camera.double()
    covariances, _ = truth._quat_scale_to_covar_preci(cloud.quats, cloud.scales, True, False)
    assert torch.allclose(covariances, cloud.covariances, atol=1e-12)
    sizes = (camera.width, camera.height)
    radii, means2d, depths, conics, factors = truth._fully_fused_projection(
        cloud.means, covariances, pose[None], intrinsics(camera), *sizes, BLUR, options.near, calc_compensations=True
    )
    ours = reference.project(cloud, camera, options, pose)
    rows = ours.rows
    assert torch.allclose(ours.means2d, means2d[0, rows], atol=1e-9)
    assert torch.allclose(ours.features[:, 3], depths[0, rows], atol=1e-9)
    assert torch.allclose(ours.conics, conics[0, rows], rtol=1e-8)
    if options.antialiased:
        theirs = (cloud.opacities * factors[0])[rows]
        assert torch.allclose(ours.opacities, theirs, rtol=1e-8) or float(factors.min()) < 0.005
    # Theirs is 3.33 standard deviations; ours, where α falls below 1/255, at most √(2 ln 255) = 3.329 of them.
    seen = expected(name).rendering
    assert bool((seen.radii <= radii[0].amax(-1)).all()) and int(seen.visible.sum()) > 10


@pytest.mark.parametrize("degree", range(5))
def test_harmonics_equal_theirs(degree: int):
    generator = torch.Generator().manual_seed(degree)
    directions = torch.nn.functional.normalize(torch.randn(50, 3, generator=generator, dtype=torch.float64), dim=1)
    coefficients = torch.randn(50, (degree + 1) ** 2, 3, generator=generator, dtype=torch.float64)
    theirs = truth._spherical_harmonics(degree, directions, coefficients)
    ours = (our_basis(directions, degree)[..., None] * coefficients).sum(1)
    assert torch.allclose(ours, theirs, atol=1e-6)


def test_tiles_of_theirs_hold_all_of_ours():
    this = case("plain")
    seen = expected("plain").rendering
    columns, rows = -(-this.camera.width // TILE), -(-this.camera.height // TILE)
    radii = seen.radii[None, :, None].expand(1, -1, 2).contiguous()
    counts, keys, ids = truth._isect_tiles(
        seen.means2d[None].float(), radii, torch.ones(1, len(this.cloud)), TILE, columns, rows
    )
    assert int(counts.sum()) == len(keys) == len(ids) and bool((keys[1:] >= keys[:-1]).all())


# ---- their rasterization(), with our backend in front ----


@pytest.fixture
def without_cuda(monkeypatch):
    def projection(means, covars, quats, scales, viewmats, Ks, width, height, **more):
        assert covars is None and more["packed"] is False
        covars, _ = truth._quat_scale_to_covar_preci(quats, scales, True, False)
        return truth._fully_fused_projection(
            means, covars, viewmats, Ks, width, height, more["eps2d"], more["near_plane"],
            calc_compensations=more["calc_compensations"],
        )  # fmt: skip

    def blend(means2d, conics, colors, opacities, width, height, tile_size, offsets, ids, *, backgrounds=None, **more):
        assert more.get("packed") is False and tile_size == TILE and colors.shape[0] == 1
        if more.get("absgrad"):
            means2d.absgrad = torch.zeros_like(means2d)
        order = orders[-1]
        ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
        pixels = torch.stack([xs, ys], -1).to(means2d) + 0.5
        offset = pixels[:, :, None] - means2d[0, order]
        a, b, c = conics[0, order].unbind(-1)
        sigma = 0.5 * (a * offset[..., 0] ** 2 + c * offset[..., 1] ** 2) + b * offset[..., 0] * offset[..., 1]
        alpha = opacities[0, order] * torch.exp(-sigma)
        alpha = torch.where(alpha >= 1 / 255, alpha.clamp_max(0.99), 0)
        through = torch.cumprod(1 - alpha, -1)
        before = torch.cat([torch.ones_like(through[..., :1]), through[..., :-1]], -1)
        weight = torch.where(through > 1e-4, alpha * before, 0)
        picture, opaque = (weight[..., None] * colors[0, order]).sum(2), weight.sum(-1, keepdim=True)
        if backgrounds is not None:
            picture = picture + (1 - opaque) * backgrounds[0]
        return picture[None], opaque[None]

    orders: list[torch.Tensor] = []  # nearest first, of every picture

    def tiles(means2d, radii, depths, *sizes, **more):
        valid = (radii[0] > 0).all(-1)
        near = torch.where(valid, depths[0].detach(), torch.inf)
        orders.append(torch.sort(near, stable=True).indices[: int(valid.sum())])
        return None, None, None

    def harmonics(degree, directions, coefficients, masks=None):
        return truth._spherical_harmonics(degree, directions, coefficients)

    monkeypatch.setattr(rendering, "fully_fused_projection", projection)
    monkeypatch.setattr(rendering, "isect_tiles", tiles)
    monkeypatch.setattr(
        rendering, "isect_offset_encode", lambda ids, images, columns, rows: torch.zeros(images, rows, columns)
    )
    monkeypatch.setattr(rendering, "rasterize_to_pixels", blend)
    monkeypatch.setattr(rendering, "spherical_harmonics", harmonics)


def twist(pose: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """∂L/∂(small turn, small shift) after ``pose``, from ∂L/∂pose."""
    turning = gradient[:3] @ pose[:3].T
    return turning - turning.T, gradient[:3, 3]


@pytest.mark.parametrize("name", ["plain", "rgb_only", "antialiased"])
def test_our_backend_through_their_rasterization(name: str, without_cuda):
    this, wanted = case(name), expected(name)
    assert this.options.near == NEAR
    found, context = backend.forward(this.cloud, this.camera, this.options)
    keep = ~wanted.flips
    for picture in ("rgb", "alpha", "depth", "normal"):
        value, right = getattr(found, picture), getattr(wanted.rendering, picture)
        assert (value is None) == (right is None)
        if value is not None:
            assert value.shape == right.shape and float((value - right)[keep].abs().max()) < 1e-6, picture
    assert found.radii.shape == (len(this.cloud),) and found.radii.dtype == torch.int32
    gradients = backend.backward(context, wanted.upstream)
    for field in GRADIENTS[:5]:
        value, right = getattr(gradients, field), getattr(wanted.gradients, field)
        assert float((value - right).norm() / right.norm()) < 1e-5, field
    # Theirs goes through the inverse of the matrix, ours through the transpose: alike along turns and shifts.
    pose = this.camera.world_to_camera.double()
    for value, right in zip(twist(pose, gradients.pose), twist(pose, wanted.gradients.pose), strict=True):
        assert float((value - right).norm() / right.norm()) < 1e-5
    assert not gradients.pose[3].any()
    both = found.visible & wanted.rendering.visible
    assert torch.allclose(gradients.means2d[both], wanted.gradients.means2d[both], atol=1e-7)
