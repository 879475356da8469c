"""Splitting, Taming and Turbo-GS against independent float64 truth."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from support.method_runs import SHORT, config_with, context_at
from support.scenes import ring, ring_scene, truth

from splat.rendering import render
from splat.runs.train import train
from splat.training import population as edit
from splat.training import schedules, trainer
from splat.training.config.densify import DensifyConfig, resolve
from splat.training.strategies import splitting, taming, turbo


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


def test_two_that_share_an_opacity_cover_as_much_as_one():
    opacity = torch.tensor([0.01, 0.5, 0.99])
    shared = splitting.shared_opacity(opacity)
    assert torch.allclose(1 - (1 - shared) ** 2, opacity, atol=1e-6)


def test_halves_have_the_moments_of_their_parent():
    parents = truth(6).map(torch.Tensor.double)
    one, other = splitting.split_along_axis(parents, small=0.0, factor=1.6)
    assert torch.allclose((one.means + other.means) / 2, parents.means)
    offset = (one.means - other.means) / 2

    def covariance(cloud):
        return cloud.rotations @ torch.diag_embed(cloud.scales**2) @ cloud.rotations.transpose(1, 2)

    # Mixture of the two: their covariance plus the spread of their centres.
    mixed = covariance(one) + offset[:, :, None] * offset[:, None, :]
    assert torch.allclose(mixed, covariance(parents), atol=1e-9)
    clone, _ = splitting.split_along_axis(parents, small=10.0, factor=1.6)
    assert torch.equal(clone.means, parents.means) and torch.equal(clone.log_scales, parents.log_scales)


def test_growing_hardly_changes_the_picture_and_forgets_moments_only_where_it_must():
    population = edit.populate(truth(8), ("grad2d",))
    for tensor in population.adam.m.values():
        tensor += 1
    camera = ring(1, 48)[0]
    before = render(population.cloud, camera, "reference").rgb
    chosen = torch.arange(8) % 2 == 0
    splitting.densify(population, chosen, torch.zeros(8, dtype=torch.bool), small=0.0, factor=1.2)
    after = render(population.cloud, camera, "reference").rgb
    assert len(population) == 12 and edit.aligned(population)
    assert (after - before).abs().mean() < 0.012
    assert (population.adam.m["means"][:8:2] == 0).all() and (population.adam.m["sh"][:8] == 1).all()


def test_the_budget_is_the_papers_parabola_and_exact_at_the_end():
    config = DensifyConfig(start=0.0, stop=1.0, every=1)
    counts = [taming.budget(config, context_at(step, 29, 3_000_000, 200_000)) for step in (1, 2, 3, 4, 29)]
    assert counts == [389_774, 572_889, 749_346, 919_143, 3_000_000]


@pytest.mark.parametrize("gradient", [0.0, 1e9])
@pytest.mark.parametrize("name", ["taming", "turbo"])
def test_a_budget_is_met_exactly_whatever_the_candidates(scene, name, gradient):
    config = dataclasses.replace(config_with(name), gaussians=97, steps=20)
    config = dataclasses.replace(config, densify=dataclasses.replace(config.densify, gradient=gradient))
    assert len(train(scene, config).cloud) == 97


def test_a_run_begins_with_a_share_of_its_budget_however_many_points_there_are(scene):
    for first, rows in ((1.0, 30), (0.5, 15), (0.001, 1)):
        taming_config = dataclasses.replace(SHORT.taming, first=first)
        config = dataclasses.replace(config_with("taming"), gaussians=30, taming=taming_config)
        setup = trainer.set_up(scene, config)
        state = trainer.begin(setup, schedules.Schedule(20, None))
        assert len(state.cloud) == rows == trainer.context_of(setup, state).first_count


def test_the_faintest_make_room_but_never_all():
    opacities = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.001])
    to_prune = torch.tensor([False, False, False, False, True])
    for share, rows in ((0.0, [4]), (0.2, [4]), (0.4, [1, 4]), (0.6, [1, 3, 4]), (1.0, [0, 1, 3, 4])):
        assert taming.with_faintest(opacities, to_prune, share).nonzero()[:, 0].tolist() == rows


def test_draws_follow_the_score_without_replacement():
    score = torch.tensor([1.0, 2.0, 4.0, 8.0])
    candidates = torch.tensor([True, True, False, True])
    chosen = torch.stack(
        [splitting.choose(score, candidates, 1, torch.Generator().manual_seed(seed)) for seed in range(4000)]
    )
    assert torch.allclose(chosen.double().mean(0), torch.tensor([1 / 11, 2 / 11, 0, 8 / 11]).double(), atol=0.025)
    assert splitting.choose(score, candidates, 9, torch.Generator()).tolist() == candidates.tolist()


def test_pixel_sums_agree_with_naive_ones_in_float64(scene):
    """Each Gaussian's αT, drawn alone in white among black ones, against the sums by gradients."""
    setup = trainer.set_up(scene, config_with("taming"))
    state = trainer.begin(setup, schedules.Schedule(10, None))
    sampler = trainer.context_of(setup, state).view_sampler
    cloud = truth(7).replace(logit_opacities=torch.linspace(-1.0, 3.0, 7))
    view = sampler.view_at(2)
    height, width = view.photo.rgb.shape[:2]
    weight = torch.rand(height, width, generator=torch.Generator().manual_seed(3))
    centres = sampler.render(cloud, view)[0].means2d
    (spread, error), blend = taming.spreads(sampler, cloud, view, weight, centres)
    exact = cloud.map(torch.Tensor.double)
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    for row in range(7):
        colours = torch.full((7, 1, 3), -0.5 / 0.28209479177387814, dtype=torch.float64)
        colours[row] *= -1
        share = render(exact.replace(sh=colours), view.camera, "reference").rgb[..., 0]
        distance = (centres[row, 0].double() - x) ** 2 + (centres[row, 1].double() - y) ** 2
        assert blend[row].item() == pytest.approx(share.sum().item(), rel=1e-3, abs=1e-3)
        assert error[row].item() == pytest.approx((share * weight.double()).sum().item(), rel=1e-3, abs=1e-3)
        expected = math.sqrt(share.sum() * (share * distance).sum())
        assert spread[row].item() == pytest.approx(expected, rel=1e-2, abs=1e-2)
        assert expected >= (share * distance.sqrt()).sum() * (1 - 1e-9)  # Jensen


def test_terms_are_divided_by_the_median_of_what_is_positive():
    terms = {"a": (2.0, torch.tensor([0.0, 1.0, 3.0, 5.0])), "b": (7.0, torch.zeros(4))}
    assert taming.combined(terms).tolist() == pytest.approx([0, 2 / 3, 2, 10 / 3])


def test_edges_and_errors_weigh_pixels():
    target = torch.zeros(8, 8, 3)
    target[:, 4:] = 1
    weight = taming.pixel_weights(torch.zeros(8, 8, 3), target, None)
    assert weight[3].tolist() == pytest.approx([0, 0, 0, 0, 100, 50, 50, 50])
    mask = torch.ones(8, 8, dtype=torch.bool)
    mask[3] = False
    assert (taming.pixel_weights(torch.zeros(8, 8, 3), target, mask)[3] == 0).all()


def test_the_exponent_is_that_of_the_losses_and_grows_when_they_stall():
    law = [(step, 3.0 * step**-0.4) for step in range(50, 2000, 20)]
    assert turbo.exponent(law, trust=0.5) == pytest.approx(0.4, abs=1e-6)
    stalled = [*law, *[(step, law[-1][1]) for step in range(2000, 2400, 20)]]
    assert turbo.exponent(stalled, trust=0.5) > turbo.exponent(stalled, trust=0.0)
    assert turbo.exponent(law[:3], trust=0.5) == 0.0
    # Twenty losses, the last four of which stay: all of the lag is in the slope of the last fifth, which is 0.
    steps = [200.0 * 1.2**k for k in range(20)]
    losses = [3.0 * min(step, steps[16]) ** -0.4 for step in steps]
    x, y = np.log(steps), np.log(losses)
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    found = turbo.exponent(list(zip(steps, losses, strict=True)), trust=0.5)
    assert found == pytest.approx(-slope + 0.5 * math.tanh(-slope), abs=1e-6)


def test_the_turbo_budget_goes_from_the_first_to_the_cap():
    config = resolve("turbo", DensifyConfig(start=0.0, stop=0.5, every=10))
    law = tuple((step, step**-0.3) for step in range(101, 400, 10))
    counts = [turbo.budget(config, context_at(step, 1000, 1000, 100, law)) for step in range(10, 501, 10)]
    assert counts == sorted(counts) and counts[-1] == 1000 and 100 <= counts[0] < 400
    t = 1 + 99 * 0.5
    assert counts[24] == pytest.approx(100 + 900 * (t**0.3 - 1) / (100**0.3 - 1), abs=1)


def test_colour_errors_are_read_from_the_second_moments():
    population = edit.populate(truth(2))
    gradients = torch.tensor([[0.3, 0.0, 0.4], [0.0, 0.0, 0.0]])  # of colours
    for _ in range(20):
        second = population.adam.v["sh"][:, 0]
        second.copy_(0.999 * second + 0.001 * (0.28209479 * gradients) ** 2)
    assert turbo.colour_error(population, 20).tolist() == pytest.approx([0.5, 0.0], rel=1e-4)
