"""The reference renderer against closed forms, a naive scalar renderer, and finite differences."""

import math

import numpy as np
import pytest
import torch
from support.cases import camera, case, random_cloud

from splat import GaussianCloud
from splat.camera import Camera
from splat.cloud import FIELDS
from splat.errors import BackendError
from splat.rendering import ImageGradients, RenderOptions, reference, render
from splat.sh import rgb_to_dc

F64 = torch.float64


def ahead(size: int = 11, focal: float = 20.0) -> Camera:
    """A camera at the origin looking along +z; the middle pixel's centre lies on the axis."""
    return Camera(focal, focal, size / 2, size / 2, size, size, torch.eye(4, dtype=F64))


def balls(depths: list[float], opacities: list[float], rgbs: list[list[float]], scale: float = 0.2) -> GaussianCloud:
    """Isotropic Gaussians on the camera's axis."""
    n = len(depths)
    return GaussianCloud(
        means=torch.tensor([[0.0, 0.0, z] for z in depths], dtype=F64),
        log_scales=torch.full((n, 3), math.log(scale), dtype=F64),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]] * n, dtype=F64),
        logit_opacities=torch.logit(torch.tensor(opacities, dtype=F64)),
        sh=rgb_to_dc(torch.tensor(rgbs, dtype=F64))[:, None],
    )


def test_single_gaussian_closed_form():
    scale, depth, opacity, focal = 0.2, 2.0, 0.7, 20.0
    view = ahead(focal=focal)
    rendering = render(balls([depth], [opacity], [[0.9, 0.2, 0.4]], scale), view, "reference", depth=True)
    variance = (scale * focal / depth) ** 2 + 0.3
    i = torch.arange(11, dtype=F64) - 5
    alpha = opacity * torch.exp(-(i[:, None] ** 2 + i[None] ** 2) / (2 * variance))
    alpha[alpha < 1 / 255] = 0
    assert torch.allclose(rendering.alpha, alpha, atol=1e-14)
    assert torch.allclose(rendering.rgb, alpha[..., None] * torch.tensor([0.9, 0.2, 0.4], dtype=F64), atol=1e-14)
    assert torch.allclose(rendering.depth[alpha > 0], torch.tensor(depth, dtype=F64))
    assert torch.all(rendering.median_depth[alpha > 0.5] == depth) and torch.all(
        rendering.median_depth[alpha < 0.5] == 0
    )
    assert rendering.radii.tolist() == [math.ceil(math.sqrt(variance * 2 * math.log(255 * opacity)))]
    assert torch.allclose(rendering.weights, alpha.sum()[None]) and torch.allclose(
        rendering.means2d, torch.full((1, 2), 5.5, dtype=F64)
    )


def test_nearer_gaussian_covers_the_farther_whatever_the_order_of_rows():
    near, far = 0.6, 0.9
    cloud = balls([3.0, 2.0], [far, near], [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    rendering = render(cloud, ahead(), "reference", background=(0.0, 0.0, 1.0), depth=True)
    weights = [near, (1 - near) * far]
    assert torch.allclose(
        rendering.rgb[5, 5], torch.tensor([weights[1], weights[0], (1 - near) * (1 - far)], dtype=F64)
    )
    assert float(rendering.alpha[5, 5]) == pytest.approx(1 - 0.4 * 0.1)
    assert float(rendering.depth[5, 5]) == pytest.approx((2 * weights[0] + 3 * weights[1]) / sum(weights))
    assert float(rendering.median_depth[5, 5]) == 2.0


def test_blending_stops_before_transmittance_reaches_the_limit():
    # α is capped at 0.99, so T = 0.01 after the first, 2e-4 after the second, and would be 8e-5 after the third.
    rgbs = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    rendering = render(balls([1.0, 2.0, 3.0], [0.9999, 0.98, 0.6], rgbs), ahead(), "reference")
    assert torch.allclose(rendering.rgb[5, 5], torch.tensor([0.99, 0.0098, 0.0], dtype=F64))
    assert float(rendering.alpha[5, 5]) == pytest.approx(1 - 2e-4)


def test_antialiasing_keeps_the_total_of_a_tiny_gaussian():
    # σ below a pixel: the compensated Gaussian integrates to opacity · 2π σ², less the tails cut off at α = 1/255.
    sigma, opacity = 0.2, 0.9
    cloud = balls([2.0], [opacity], [[1.0, 1.0, 1.0]], scale=sigma * 2.0 / 20.0)
    total = float(render(cloud, ahead(), "reference", antialiased=True).alpha.sum())
    assert total == pytest.approx(opacity * 2 * math.pi * sigma**2, rel=0.12)
    blurred = float(render(cloud, ahead(), "reference").alpha.sum())
    assert blurred == pytest.approx(opacity * 2 * math.pi * (sigma**2 + 0.3), rel=0.12)


def test_plane_has_its_depth_and_normal():
    grid = torch.linspace(-2, 2, 15, dtype=F64)
    means = torch.stack(
        [*(g.flatten() for g in torch.meshgrid(grid, grid, indexing="xy")), torch.full((225,), 3.0, dtype=F64)], 1
    )
    n = len(means)
    disc = torch.tensor([0.3, 0.3, 1e-4], dtype=F64).log().expand(n, 3)
    cloud = GaussianCloud(
        means,
        disc,
        torch.tensor([[1.0, 0, 0, 0]], dtype=F64).expand(n, 4),
        torch.full((n,), 3.0, dtype=F64),
        torch.zeros(n, 1, 3, dtype=F64),
    )
    rendering = render(cloud, ahead(), "reference", depth=True, normal=True)
    assert torch.allclose(rendering.depth, torch.tensor(3.0, dtype=F64)) and torch.allclose(
        rendering.median_depth, torch.tensor(3.0, dtype=F64)
    )
    assert torch.allclose(
        rendering.normal, rendering.alpha[..., None] * torch.tensor([0.0, 0.0, -1.0], dtype=F64), atol=1e-12
    )


def test_turning_scene_and_camera_together_changes_nothing():
    cloud, view = random_cloud(40, 4, 3), camera(31, 23)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(1))).Q
    rotation *= torch.linalg.det(rotation)
    shift = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
    move = torch.eye(4, dtype=F64)
    move[:3, :3], move[:3, 3] = rotation, shift
    turned = view.replace(world_to_camera=view.world_to_camera @ torch.linalg.inv(move))
    options = RenderOptions(depth=True, normal=True)
    before, after = (
        render(cloud, view, "reference", options),
        render(cloud.transform(rotation, shift), turned, "reference", options),
    )
    for name in ("rgb", "alpha", "depth", "normal", "means2d"):
        assert torch.allclose(getattr(before, name), getattr(after, name), atol=1e-9), name


def naive(cloud: GaussianCloud, view: Camera, options: RenderOptions) -> tuple[np.ndarray, np.ndarray]:
    """RGB and alpha by scalar loops straight from the equations, with numpy's inverse and determinant."""
    pose = view.world_to_camera.numpy()
    splats = []
    for i in range(len(cloud)):
        t = pose[:3, :3] @ cloud.means[i].numpy() + pose[:3, 3]
        if t[2] < options.near:
            continue
        limits = [
            (-(c / f + 0.15 * s / f), (s - c) / f + 0.15 * s / f)
            for c, f, s in ((view.cx, view.fx, view.width), (view.cy, view.fy, view.height))
        ]
        u, v = (min(max(t[k] / t[2], limits[k][0]), limits[k][1]) for k in (0, 1))
        jacobian = np.array([[view.fx, 0, -view.fx * u], [0, view.fy, -view.fy * v]]) / t[2]
        half = jacobian @ pose[:3, :3]
        sharp = half @ cloud.covariances[i].numpy() @ half.T
        covariance = sharp + 0.3 * np.eye(2)
        opacity = 1 / (1 + math.exp(-float(cloud.logit_opacities[i])))
        if options.antialiased:
            opacity *= math.sqrt(max(0.005**2, np.linalg.det(sharp) / np.linalg.det(covariance)))
        direction = cloud.means[i].numpy() + pose[:3, :3].T @ pose[:3, 3]
        x, y, z = direction / np.linalg.norm(direction)
        basis = np.array([0.5 * math.sqrt(1 / math.pi), *(math.sqrt(3 / (4 * math.pi)) * np.array([-y, z, -x]))])
        colour = np.maximum(0, 0.5 + basis @ cloud.sh[i, :4].numpy())
        centre = np.array([view.fx * t[0] / t[2] + view.cx, view.fy * t[1] / t[2] + view.cy])
        splats.append((t[2], opacity, centre, np.linalg.inv(covariance), colour))
    splats.sort(key=lambda splat: splat[0])
    rgb, alpha = np.zeros((view.height, view.width, 3)), np.zeros((view.height, view.width))
    for row in range(view.height):
        for column in range(view.width):
            left = 1.0
            for _, opacity, centre, inverse, colour in splats:
                d = np.array([column + 0.5, row + 0.5]) - centre
                a = min(0.99, opacity * math.exp(-0.5 * d @ inverse @ d))
                if a < 1 / 255:
                    continue
                if left * (1 - a) <= 1e-4:
                    break
                rgb[row, column] += left * a * colour
                left *= 1 - a
            rgb[row, column] += left * np.array(options.background)
            alpha[row, column] = 1 - left
    return rgb, alpha


@pytest.mark.parametrize("antialiased", [False, True])
def test_equals_a_naive_scalar_renderer(antialiased: bool):
    cloud, view = random_cloud(25, 1, 4, scale=0.05 if antialiased else 0.3, spread=1.5), camera(17, 12, fov=80, seed=2)
    options = RenderOptions(background=(0.3, 0.6, 0.1), antialiased=antialiased)
    rgb, alpha = naive(cloud, view, options)
    rendering = render(cloud, view, "reference", options)
    assert np.abs(rendering.rgb.numpy() - rgb).max() < 1e-12 and np.abs(rendering.alpha.numpy() - alpha).max() < 1e-12


@pytest.mark.parametrize("antialiased", [False, True])
def test_every_gradient_equals_finite_differences(antialiased: bool):
    cloud, view = random_cloud(5, 2, 11, scale=0.3, spread=0.7), camera(9, 7, seed=6)
    options = RenderOptions(background=(0.2, 0.4, 0.8), antialiased=antialiased, depth=True, normal=True)

    def pictures(*tensors):
        rendering = render(GaussianCloud(*tensors[:5]), view, "reference", options, world_to_camera=tensors[5])
        return rendering.rgb, rendering.alpha, rendering.depth, rendering.normal

    inputs = [getattr(cloud, name).clone().requires_grad_() for name in FIELDS]
    pose = view.world_to_camera.clone().requires_grad_()
    torch.autograd.gradcheck(pictures, (*inputs, pose), eps=1e-6, atol=1e-5, rtol=1e-4, fast_mode=False)


def test_screen_gradients_are_sums_of_each_pixels_share():
    this = case("single")
    cloud = random_cloud(5, 1, 2, spread=0.4)
    rendering, context = reference.forward(cloud, this.camera, RenderOptions())
    upstream = torch.randn(rendering.rgb.shape, generator=torch.Generator().manual_seed(0), dtype=F64)
    found = reference.backward(context, ImageGradients(rgb=upstream))
    signed, unsigned = torch.zeros_like(found.means2d), torch.zeros_like(found.means2d)
    for row in range(16):
        for column in range(16):
            one = torch.zeros_like(upstream)
            one[row, column] = upstream[row, column]
            share = reference.backward(context, ImageGradients(rgb=one)).means2d
            signed, unsigned = signed + share, unsigned + share.abs()
    assert torch.allclose(found.means2d, signed, atol=1e-12) and torch.allclose(found.means2d_abs, unsigned, atol=1e-12)
    assert torch.all(unsigned > 0)


def test_gradient_of_means2d_is_what_a_shifted_picture_costs():
    # Moving the principal point moves every projected centre and nothing else.
    this, step = case("plain"), 1e-6
    options = RenderOptions()
    shifted = [
        reference.forward(this.cloud, this.camera.replace(cx=this.camera.cx + sign * step), options)[0]
        .rgb[20, 30]
        .sum()
        for sign in (1, -1)
    ]
    rendering, context = reference.forward(this.cloud, this.camera, options)
    upstream = torch.zeros_like(rendering.rgb)
    upstream[20, 30] = 1
    found = reference.backward(context, ImageGradients(rgb=upstream)).means2d[:, 0].sum()
    # The clamp of the Jacobian follows the principal point too, but no Gaussian near this pixel is clamped.
    assert float(found) == pytest.approx(float(shifted[0] - shifted[1]) / (2 * step), rel=1e-4)


def test_memory_stays_bounded_by_splitting_blocks(monkeypatch):
    this = case("opaque")
    whole = reference.forward(this.cloud, this.camera, this.options)[0]
    monkeypatch.setattr(reference, "PAIRS", 1000)
    split = reference.forward(this.cloud, this.camera, this.options)[0]
    assert torch.allclose(whole.rgb, split.rgb, atol=1e-13) and torch.allclose(whole.weights, split.weights, atol=1e-12)


@pytest.mark.parametrize("field", ["means", "log_scales", "quats", "logit_opacities"])
def test_rows_that_are_no_numbers_are_not_drawn(field: str):
    cloud, view = random_cloud(20, 1, 3), camera(20, 15)
    bad = cloud.clone()
    getattr(bad, field)[::3] = math.nan
    keep = torch.arange(20) % 3 != 0
    found, alone = (render(drawn, view, "reference") for drawn in (bad, cloud.select(keep)))
    assert torch.equal(found.rgb, alone.rgb) and not found.visible[::3].any()


def test_empty_cloud_shows_the_background():
    cloud = GaussianCloud.empty(2, dtype=F64)
    cloud = cloud.replace(means=cloud.means.requires_grad_())
    rendering = render(cloud, ahead(), "reference", background=(0.1, 0.2, 0.3), depth=True)
    assert (
        torch.allclose(rendering.rgb, torch.tensor([0.1, 0.2, 0.3], dtype=F64).expand(11, 11, 3))
        and not rendering.depth.any()
    )
    rendering.rgb.sum().backward()
    assert cloud.means.grad.shape == (0, 3)


def test_render_says_what_is_wrong():
    cloud, view = balls([2.0], [0.5], [[1.0, 1.0, 1.0]]), ahead()
    with pytest.raises(BackendError, match="no rendering backend 'metal'"):
        render(cloud, view, "metal")
    with pytest.raises(TypeError):
        render(cloud, view, "reference", colour=True)
    with pytest.raises(TypeError):
        render(cloud, view, "reference", RenderOptions(), depth=True)


def test_render_notices_a_tensor_changed_before_the_backward_pass():
    cloud = balls([2.0], [0.5], [[1.0, 1.0, 1.0]])
    cloud = cloud.replace(means=cloud.means.requires_grad_())
    loss = render(cloud, ahead(), "reference").rgb.sum()
    with torch.no_grad():
        cloud.means.add_(1.0)
    with pytest.raises(RuntimeError, match="modified"):
        loss.backward()


def test_auto_takes_the_reference_for_double_precision():
    cloud, view = balls([2.0], [0.5], [[1.0, 1.0, 1.0]]), ahead()
    assert torch.equal(render(cloud, view).rgb, render(cloud, view, "reference").rgb)
