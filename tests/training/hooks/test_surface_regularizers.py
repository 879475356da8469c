"""Surface regularisers: normals of a known plane, gradients against finite differences, flattening, a whole run."""

import math

import torch
from support.scenes import ring_scene

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth.normals import normals_from_depth
from splat.rendering import RenderOptions, reference
from splat.runs.train import train
from splat.training.config import config as settings
from splat.training.hooks import surface_regularizers
from splat.training.losses import surface as surface_losses


def camera(width: int = 24, height: int = 18) -> Camera:
    return Camera(20.0, 22.0, width / 2 + 0.3, height / 2 - 0.2, width, height, torch.eye(4, dtype=torch.float64))


def plane_depth(normal: torch.Tensor, offset: float, view: Camera) -> torch.Tensor:
    """Depth of the plane n·x = offset."""
    y, x = torch.meshgrid(
        torch.arange(view.height, dtype=torch.float64), torch.arange(view.width, dtype=torch.float64), indexing="ij"
    )
    rays = torch.stack([(x + 0.5 - view.cx) / view.fx, (y + 0.5 - view.cy) / view.fy, torch.ones_like(x)], -1)
    return offset / (rays @ normal)


def test_normals_of_a_tilted_plane_are_its_normal():
    normal = torch.nn.functional.normalize(torch.tensor([0.02, -0.03, -1.0], dtype=torch.float64), dim=0)
    depth = plane_depth(normal, -3.0, camera())
    found, known = normals_from_depth(depth, camera())
    assert known[1:-1, 1:-1].all() and not known[0].any() and not known[:, -1].any()
    assert torch.allclose(found[known], normal.expand_as(found[known]), atol=1e-9)


def test_edges_and_holes_have_no_normal():
    depth = torch.full((18, 24), 2.0)
    depth[:, 12:] = 3.0
    depth[5, 5] = 0
    _, known = normals_from_depth(depth, camera())
    assert not known[:, 11:13].any() and not known[5, 4:7].any() and not known[4:7, 5].any()
    assert known[10, 3] and known[10, 20]


def test_gradients_match_finite_differences():
    torch.manual_seed(0)
    view = camera(7, 6)
    depth = (2 + 0.01 * torch.rand(6, 7, dtype=torch.float64)).requires_grad_()
    normal = (torch.rand(6, 7, 3, dtype=torch.float64) - 0.5).requires_grad_()
    alpha = torch.rand(6, 7, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda d, n: surface_losses.normal_consistency(d, n, alpha, view), (depth, normal))


def test_distortion_is_the_sum_over_pairs():
    torch.manual_seed(1)
    weights, z = torch.rand(5, 4, 6, dtype=torch.float64) / 8, 1 + 3 * torch.rand(5, 4, 6, dtype=torch.float64)
    alpha = weights.sum(-1)
    depth, square = (weights * z).sum(-1) / alpha, (weights * z * z).sum(-1) / alpha
    pairs = weights[..., :, None] * weights[..., None, :] * (z[..., :, None] - z[..., None, :]) ** 2
    expected = (0.5 * pairs.sum((-1, -2)) / depth**2).mean()
    assert torch.isclose(surface_losses.distortion(alpha, depth, square), expected, rtol=1e-12)
    assert surface_losses.distortion(alpha, 0 * depth, 0 * square) == 0  # nothing seen


def test_distortion_gradients_reach_the_cloud():
    # In float64 through the reference rasterizer, against central differences of the whole chain.
    g = torch.Generator().manual_seed(2)
    view = camera(12, 10)
    means = torch.randn(8, 3, generator=g, dtype=torch.float64) * 0.4 + torch.tensor([0.0, 0.0, 3.0])
    fields = {
        "means": means, "log_scales": torch.full((8, 3), -1.2, dtype=torch.float64),
        "quats": torch.randn(8, 4, generator=g, dtype=torch.float64),
        "logit_opacities": torch.randn(8, generator=g, dtype=torch.float64),
        "sh": torch.zeros(8, 1, 3, dtype=torch.float64),
    }  # fmt: skip
    options = RenderOptions(depth=True, square_depth=True)

    def drawn(tensors):
        return reference.forward(GaussianCloud(**tensors), view, options)

    def loss(tensors):
        picture = drawn(tensors)[0]
        z = picture.depth if frozen is None else frozen
        spread = (picture.square_depth - picture.depth**2) / z.clamp_min(1e-9) ** 2
        return float(torch.where(picture.depth > 0, picture.alpha**2 * spread, 0).mean())

    rendering, context = drawn(fields)
    frozen = rendering.depth
    value, gradients = surface_losses.surface_gradients(rendering, view, 0.0, 2.0)
    assert math.isclose(value, 2 * loss(fields), rel_tol=1e-9)
    found = reference.backward(context, gradients)
    for name in ("means", "logit_opacities", "log_scales"):
        for row in (1, 5):
            step = torch.zeros_like(fields[name])
            step[row] = 1e-6
            difference = loss(fields | {name: fields[name] + step}) - loss(fields | {name: fields[name] - step})
            slope = float(getattr(found, name)[row].sum())
            assert math.isclose(slope, 2 * difference / 2e-6, rel_tol=2e-3, abs_tol=1e-8), (name, row)


def test_flatten_shrinks_the_shortest_axis_to_a_floor():
    log_scales = torch.tensor([[0.0, -1.0, -0.5], [0.0, 0.0, math.log(0.01)], [0.0, 0.0, 0.0]])
    cloud = GaussianCloud.empty().replace(
        means=torch.zeros(3, 3), log_scales=log_scales.clone(), quats=torch.ones(3, 4),
        logit_opacities=torch.zeros(3), sh=torch.zeros(3, 1, 3),
    )  # fmt: skip
    surface_regularizers.flatten(cloud, 0.1)
    assert torch.allclose(cloud.log_scales[0], torch.tensor([0.0, -1.1, -0.5]))
    assert torch.equal(cloud.log_scales[1], log_scales[1])  # flatter than needed already: left alone
    assert math.isclose(float(cloud.log_scales[2].sum()), -0.1, rel_tol=1e-5)
    for _ in range(100):
        surface_regularizers.flatten(cloud, 0.1)
    assert math.isclose(float(cloud.log_scales[0].amin()), -0.5 + math.log(0.05), rel_tol=1e-5)


def test_a_run_with_the_preset_makes_flatter_gaussians():
    scene = ring_scene(backend="cpu")
    own = settings.preset("surface").surface

    def flatness(surface: settings.SurfaceConfig) -> float:
        config = settings.TrainConfig(steps=60, gaussians=400, sh_degree=0, surface=surface)
        scales = train(scene, config).cloud.log_scales.sort(dim=1).values
        return float((scales[:, 1] - scales[:, 0]).mean())

    strong = settings.SurfaceConfig(normals=own.normals, start=0.2, flatten=2 * own.flatten)
    assert flatness(strong) > flatness(settings.SurfaceConfig()) + 0.05
