"""Densification strategies on cases worked by hand, and their cap."""

import dataclasses
import math

import pytest
import torch
from support.scenes import ring, truth

from splat.cloud import GaussianCloud
from splat.rendering import render
from splat.training import population as edit
from splat.training.config.densify import AdcConfig, DensifyConfig, McmcConfig, resolve
from splat.training.step_context import StepContext
from splat.training.strategies import adc, mcmc


def blobs(n: int, size: float = 0.005, opacity: float = 0.5) -> GaussianCloud:
    quats = torch.zeros(n, 4)
    quats[:, 0] = 1
    return GaussianCloud(
        means=torch.arange(n)[:, None] * torch.ones(3),
        log_scales=torch.full((n, 3), math.log(size)),
        quats=quats,
        logit_opacities=torch.full((n,), math.log(opacity / (1 - opacity))),
        sh=torch.rand(n, 4, 3, generator=torch.Generator().manual_seed(0)),
    )


def context_at(step: int, steps: int = 1000, cap: int = 1000) -> StepContext:
    return StepContext(step, step / steps, (step - 1) / steps, extent=1.0, max_gaussians=cap, seed=0)


def seen(cloud: GaussianCloud, gradients: list[float], count: float = 2.0) -> edit.Population:
    """A population whose mean screen gradients are ``gradients``."""
    population = edit.populate(cloud, ("grad2d", "count"))
    population.statistics["grad2d"] += count * torch.tensor(gradients)
    population.statistics["count"] += count
    for tensor in population.adam.m.values():
        tensor += 1
    return population


# ---- MCMC ----


def test_dead_gaussians_move_onto_living_ones_with_fresh_moments():
    cloud = blobs(4, opacity=0.9)
    cloud.logit_opacities[1] = cloud.logit_opacities[2] = -8  # opacity 0.0003
    cloud.logit_opacities[3] = -4.9  # 0.0074: alive, but hardly ever drawn
    population = edit.populate(cloud)
    for tensor in population.adam.m.values():
        tensor += 1
    mcmc.relocate(population, 0.005, torch.Generator().manual_seed(0))
    after = population.cloud
    # Both dead rows went onto row 0, which is now shared by three.
    assert torch.equal(after.means[:3], torch.zeros(3, 3))
    expected = 1 - 0.1 ** (1 / 3)
    assert after.opacities[:3].tolist() == pytest.approx([expected] * 3, abs=1e-5)
    for name in ("means", "log_scales", "quats", "logit_opacities", "sh"):
        values = getattr(after, name)
        assert torch.equal(values[1], values[0]) and torch.equal(values[2], values[0])
        moments = population.adam.m[name]
        assert (moments[:3] == 0).all() and (moments[3] == 1).all()
    assert after.opacities[3].item() == pytest.approx(0.0074, abs=1e-4)


def test_sharing_keeps_the_picture():
    cloud = truth(12)
    camera = ring(1, 64)[0]
    before = render(cloud, camera, "reference").rgb
    population = edit.populate(cloud.clone())
    mcmc.grow(population, 6, 0.005, torch.Generator().manual_seed(3))
    after = render(population.cloud, camera, "reference").rgb
    plain = render(GaussianCloud.concat([cloud, cloud.select(slice(0, 6))]), camera, "reference").rgb
    assert len(population) == 18
    assert (after - before).abs().mean() < 0.01
    assert (after - before).abs().mean() < 0.5 * (plain - before).abs().mean()  # copying as is changes it more


def test_mcmc_growth_follows_the_paper_or_reaches_the_cap_in_time():
    slow = StepContext(
        10_000, 1 / 3, 0.3333, 1.0, max_gaussians=1_000, seed=0
    )  # 51 changes left until half of 30 000 steps
    assert mcmc.target_count(100, 0.5, 990, slow) == 1_000
    assert mcmc.target_count(100, 0.5, 500, slow) == 525
    late = StepContext(
        1000, 0.4, 0.3996, 1.0, max_gaussians=1_600, seed=0
    )  # 2.5 changes left after this one: 1.6^(1/3.5) needed
    assert mcmc.target_count(100, 0.5, 1000, late) == math.floor(1000 * 1.6 ** (1 / 3.5))
    past = StepContext(2000, 0.8, 0.7996, 1.0, max_gaussians=1_600, seed=0)
    assert mcmc.target_count(100, 0.5, 1000, past) == 1_600


def test_mcmc_changes_only_when_due():
    densify = resolve("mcmc", DensifyConfig(every=10, start=0.1, stop=0.5))
    for step, changes in ((50, False), (105, False), (110, True), (500, True), (510, False)):
        population = edit.populate(blobs(100))
        mcmc.refine(densify, McmcConfig(), population, context_at(step))
        assert (len(population) > 100) == changes, step


# ---- ADC ----

EARLY = (resolve("adc", DensifyConfig(every=10, start=0.0, stop=0.5)), AdcConfig(reset_every=0.3))


def test_small_hot_gaussians_are_cloned():
    population = seen(blobs(3, size=0.005), [0.0, 3e-4, 1e-4])
    adc.grow_and_prune(*EARLY, population, context_at(20))
    assert len(population) == 4
    assert torch.equal(population.cloud.sh[3], population.cloud.sh[1])
    assert torch.equal(population.cloud.means[3], population.cloud.means[1])
    assert (population.adam.m["means"][1] == 1).all() and (population.adam.m["means"][3] == 0).all()


def test_large_hot_gaussians_are_split():
    population = seen(blobs(3, size=0.05), [0.0, 3e-4, 1e-4])
    adc.grow_and_prune(*EARLY, population, context_at(20))
    cloud = population.cloud
    assert len(cloud) == 4 and cloud.means[:2, 0].tolist() == [0, 2]  # the parent is gone
    assert torch.allclose(cloud.log_scales[2:], torch.tensor(math.log(0.05 / 1.6)))
    assert ((cloud.means[2:] - 1).norm(dim=1) < 0.05 * 5).all() and not torch.equal(cloud.means[2], cloud.means[3])
    assert cloud.opacities.tolist() == pytest.approx([0.5] * 4)


def test_children_of_a_split_spread_like_their_parent():
    parent = blobs(1).replace(log_scales=torch.tensor([[0.0, -1.0, -3.0]]), quats=torch.tensor([[0.8, 0.2, -0.5, 0.3]]))
    many = GaussianCloud.concat([parent] * 20_000)
    children = adc.split(many, 1.6, torch.Generator().manual_seed(0))
    covariance = torch.cov(children.means.T)
    assert torch.allclose(covariance, parent.covariances[0], atol=0.03)


def test_transparent_and_oversized_gaussians_are_pruned():
    cloud = blobs(4, size=0.005)
    cloud.logit_opacities[0] = -6  # 0.0025
    cloud.log_scales[2] = math.log(0.2)
    early = seen(cloud.clone(), [0.0] * 4)
    adc.grow_and_prune(*EARLY, early, context_at(20))
    assert early.cloud.means[:, 0].tolist() == [1, 2, 3]
    late = seen(cloud.clone(), [0.0] * 4)
    adc.grow_and_prune(*EARLY, late, context_at(400))  # after the first opacity reset
    assert late.cloud.means[:, 0].tolist() == [1, 3]


def test_limits_of_pruning_are_a_share_of_the_scene_and_an_opacity_that_stays():
    cloud = blobs(3, size=0.005)
    cloud.log_scales[2] = math.log(0.2)
    densify = dataclasses.replace(EARLY[0], prune_opacity=cloud.opacities[0].item())
    for extent, kept in ((1.0, [0, 1]), (4.0, [0, 1, 2])):
        population = seen(cloud.clone(), [0.0] * 3)
        adc.grow_and_prune(densify, EARLY[1], population, dataclasses.replace(context_at(400), extent=extent))
        assert population.cloud.means[:, 0].tolist() == kept


def test_opacity_reset():
    population = seen(blobs(3, opacity=0.5), [0.0] * 3)
    population.cloud.logit_opacities[1] = -5
    adc.refine(*EARLY, population, context_at(300))
    assert population.cloud.opacities.tolist() == pytest.approx([0.01, 0.00669, 0.01], abs=1e-5)
    assert (population.adam.m["logit_opacities"] == 0).all() and (population.adam.m["means"] == 1).all()


def test_statistics_start_anew_after_each_change():
    population = seen(blobs(3), [0.0] * 3)
    adc.refine(*EARLY, population, context_at(15))
    assert (population.statistics["count"] == 2).all()
    adc.refine(*EARLY, population, context_at(20))
    assert (population.statistics["count"] == 0).all()


@pytest.mark.parametrize("size", [0.005, 0.05])
def test_adc_under_a_cap_grows_the_steepest(size):
    gradients = [3e-4, 9e-4, 2.5e-4, 8e-4, 0.0]
    population = seen(blobs(5, size=size), gradients)
    population.cloud.logit_opacities[4] = -9  # pruned, which makes room for one more
    adc.grow_and_prune(*EARLY, population, context_at(20, cap=6))
    assert len(population) == 6
    colours = population.cloud.sh[:, 0, 0].tolist()
    original = blobs(5).sh[:, 0, 0].tolist()
    twice = [row for row in range(5) if colours.count(original[row]) == 2]
    assert twice == [1, 3]


@pytest.mark.parametrize("cap", [3, 40, 57, 300])
@pytest.mark.parametrize("name", ["adc", "mcmc"])
def test_cap_is_never_exceeded(name, cap):
    g = torch.Generator().manual_seed(cap)
    start = min(40, cap)
    cloud = blobs(start)
    cloud.log_scales.uniform_(-6, -2, generator=g)
    cloud.logit_opacities.uniform_(-7, 3, generator=g)
    population = edit.populate(cloud, ("grad2d", "count") if name == "adc" else ())
    for step in range(10, 800, 10):
        for values in population.statistics.values():
            values.copy_(
                torch.rand(len(population), generator=g) * 1e-3 if values is population.statistics["grad2d"] else 1
            )
        if name == "adc":
            adc.refine(*EARLY, population, context_at(step, cap=cap))
        else:
            mcmc.refine(resolve("mcmc", DensifyConfig(every=10)), McmcConfig(), population, context_at(step, cap=cap))
        assert 0 < len(population) <= cap
    if name == "mcmc":
        assert len(population) == cap
