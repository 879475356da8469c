"""The parts that regularise a run, each against numpy, finite differences or a hand-made case."""

import math

import numpy as np
import torch

from splat.camera import Camera, unproject
from splat.cloud import GaussianCloud
from splat.depth.multi_view_stereo import DepthMap
from splat.priors import depth_prior
from splat.priors.depth_prior import depth_hook, normal_hook, surface_normals
from splat.priors.points import floater_removal, proximity_unpooling
from splat.priors.views import co_regularization
from splat.rendering import render
from splat.scene.images import Photo
from splat.training.hooks.dropout import POSITION_STEP, gaussian_dropout, scale_position_step
from splat.training.population import populate
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView
from splat.viewpoints.interpolation import blend, pairs, virtual_cameras, warped

CAMERA = Camera(40.0, 40.0, 24.0, 16.0, 48, 32, torch.eye(4, dtype=torch.float64))


def cloud(count: int = 30, seed: int = 0) -> GaussianCloud:
    g = torch.Generator().manual_seed(seed)
    means = torch.rand(count, 3, generator=g) * torch.tensor([2.0, 1.4, 1.0]) + torch.tensor([-1.0, -0.7, 2.0])
    return GaussianCloud(
        means=means,
        log_scales=torch.full((count, 3), math.log(0.2)),
        quats=torch.tensor([[1.0, 0, 0, 0]]).repeat(count, 1),
        logit_opacities=torch.linspace(-2, 6, count),
        sh=torch.rand(count, 1, 3, generator=g),
    )


# ---- correlation ----


def test_correlation_is_numpys_and_forgets_scale_and_offset():
    g = torch.Generator().manual_seed(1)
    a, b = torch.rand(2, 12, 15, generator=g, dtype=torch.float64)
    weight = (torch.rand(12, 15, generator=g) > 0.3).double()
    expected = 1 - np.corrcoef(a[weight > 0], b[weight > 0])[0, 1]
    assert abs(float(depth_prior.correlation_loss(a, b, weight)) - expected) < 1e-9
    assert abs(float(depth_prior.correlation_loss(3 * a + 7, 0.2 * b - 1, weight)) - expected) < 1e-9


def test_correlation_gradients():
    g = torch.Generator().manual_seed(2)
    a, b, w = torch.rand(3, 9, 10, generator=g, dtype=torch.float64)
    a.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: depth_prior.correlation_loss(x, b, w), a)
    assert torch.autograd.gradcheck(lambda x: depth_prior.local_correlation_loss(x, b, w, 0, 3), a)


def test_correlation_with_nothing_known_is_zero_with_zero_gradient():
    a = torch.rand(8, 8, requires_grad=True)
    loss = depth_prior.correlation_loss(a, torch.rand(8, 8), torch.zeros(8, 8))
    loss.backward()
    assert float(loss.detach()) == 0 and float(a.grad.abs().sum()) == 0


# ---- depth and normals ----


def plane_depth() -> torch.Tensor:
    """z-depth of the plane z = 3 + 0.4 x."""
    x = (torch.arange(48) + 0.5 - 24) / 40
    return (3 / (1 - 0.4 * x)).expand(32, 48).clone()


def test_normals_of_a_plane():
    normals, known = surface_normals(plane_depth(), CAMERA)
    expected = torch.tensor([0.4, 0.0, -1.0]) / math.sqrt(1.16)
    assert bool(known[1:-1, 1:-1].all()) and not bool(known[0].any())
    assert (normals[known] - expected).abs().max() < 1e-4


def test_depth_and_normal_terms_fall_along_their_gradients():
    drawn = render(cloud(), CAMERA, "reference", depth=True, normal=True)
    sure = torch.ones(32, 48)
    maps = [DepthMap(plane_depth(), sure, sure > 0)]
    view = TrainingView(0, Photo(torch.zeros(32, 48, 3, dtype=torch.uint8)), CAMERA, (0.0, 0.0, 0.0))
    context = StepContext()
    for hook, name in ((depth_hook(maps, 1.0, 0), "depth"), (normal_hook(maps, [CAMERA], 1.0), "normal")):
        before, gradients = hook.penalty(drawn, view, context)
        slope = getattr(gradients, name)
        assert slope.isfinite().all() and float(slope.abs().max()) > 0
        step = 1e-3 * slope / slope.norm()
        moved = type(drawn)(**{**vars(drawn), name: getattr(drawn, name) - step})
        after, _ = hook.penalty(moved, view, context)
        assert after < before
        assert abs((before - after) / (1e-3 * float(slope.norm())) - 1) < 0.2
    assert depth_hook(maps, 1.0, 0).penalty(drawn, TrainingView(None, view.photo, CAMERA, (0, 0, 0)), context)[0] == 0


# ---- dropout and the steps of positions ----


def test_hidden_gaussians_are_not_drawn_and_the_step_made_meanwhile_stays():
    own = cloud()
    before = own.logit_opacities.clone()
    with gaussian_dropout(own, 0.5, seed=0, step=1):
        lost = own.logit_opacities < -15
        assert 5 < int(lost.sum()) < 25
        shown = own.opacities[~lost]
        doubled = (2 * before[~lost].sigmoid()).clamp_max(0.99)
        assert torch.allclose(shown, torch.maximum(doubled, before[~lost].sigmoid()), atol=1e-5)
        own.logit_opacities.add_(0.25)
    assert torch.allclose(own.logit_opacities, before + 0.25, atol=1e-5)


def test_dropout_is_unbiased_where_nothing_saturates():
    own = cloud(2000)
    own.logit_opacities.fill_(-2.0)
    total = 0.0
    for step in range(20):
        with gaussian_dropout(own, 0.4, seed=3, step=step):
            total += float(own.opacities.mean()) / 20
    assert abs(total / float(own.opacities.mean()) - 1) < 0.02


def test_positions_make_a_fraction_of_their_step():
    own = cloud()
    freedom = torch.linspace(0, 1, len(own))
    own = own.replace(extras={POSITION_STEP: freedom})
    before = own.means.clone()
    with scale_position_step(own):
        own.means.add_(1.0)
    assert torch.allclose(own.means - before, freedom[:, None].expand(-1, 3), atol=1e-6)


# ---- rows that come and go ----


def test_what_hangs_before_a_known_surface_floats():
    means = torch.tensor([[0.0, 0, 1.0], [0, 0, 2.95], [0, 0, 3.5], [0, 0, -1.0], [9.0, 0, 1.0]])
    own = cloud(5).replace(means=means)
    sure = torch.ones(32, 48)
    found = floater_removal.floaters(own, [DepthMap(plane_depth(), sure, sure > 0)], [CAMERA])
    assert found.tolist() == [True, False, False, False, False]
    unsure = [DepthMap(plane_depth(), 0.2 * sure, sure > 0)]
    assert not bool(floater_removal.floaters(own, unsure, [CAMERA]).any())


def test_a_lonely_gaussian_gets_neighbours_halfway():
    grid = torch.stack(torch.meshgrid(torch.arange(4.0), torch.arange(4.0), indexing="ij"), -1).reshape(-1, 2)
    means = torch.cat([torch.nn.functional.pad(grid, (0, 1)), torch.tensor([[30.0, 0.0, 0.0]])])
    rows = proximity_unpooling.unpooled(cloud(17).replace(means=means))
    assert len(rows) == 3
    nearest = torch.tensor([[3.0, 0, 0], [3.0, 1, 0], [3.0, 2, 0]])
    assert torch.allclose(rows.means.sort(0).values, (0.5 * (nearest + means[-1])).sort(0).values)


def test_gaussians_without_a_counterpart_go():
    own = cloud(10)
    other = own.select(slice(0, 7))
    population = populate(own)
    co_regularization.prune(population, other, extent=0.01)
    assert torch.equal(population.cloud.means, own.means[:7])


# ---- between the photos ----


def test_blend_goes_straight_and_turns_evenly():
    up = torch.tensor([0.0, -1.0, 0.0])
    a = Camera.look_at(torch.tensor([-1.0, 0, 0]), torch.tensor([-1.0, 0, 5]), up, 48, 32)
    b = Camera.look_at(torch.tensor([1.0, 0, 0]), torch.tensor([6.0, 0, 0]), up, 48, 32)
    middle = blend(a, b, 0.5)
    assert torch.allclose(middle.position, torch.zeros(3).double(), atol=1e-9)
    angle = math.degrees(math.acos(float(middle.forward @ a.forward)))
    assert abs(angle - 45) < 1e-6
    assert len(virtual_cameras([a, b, middle], 3)) == 9
    assert pairs([a, b, middle], 1) == [(0, 2), (1, 2)]


def test_warped_points_show_the_nearest_and_nothing_through_gaps():
    depth = torch.full((32, 48), 2.0)
    front = unproject(CAMERA, depth).reshape(-1, 3)[::2]  # every other pixel of a wall at 2 m
    back = unproject(CAMERA, torch.full((32, 48), 4.0)).reshape(-1, 3)
    red, blue = torch.tensor([255, 0, 0]).byte(), torch.tensor([0, 0, 255]).byte()
    colours = torch.cat([red.expand(len(front), 3), blue.expand(len(back), 3)])
    picture, seen = warped(torch.cat([front, back]), colours, CAMERA)
    assert bool((picture[seen] == red).all())
    assert abs(float(seen.float().mean()) - 0.5) < 0.02
