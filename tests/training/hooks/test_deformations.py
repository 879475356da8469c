"""Sensitivity pruning, GES and the 3D smoothing filter: what is rendered, and its derivatives."""

import dataclasses
import math

import pytest
import torch
from support.method_runs import SHORT, context_at
from support.scenes import ring, ring_scene, truth
from torch.nn.functional import interpolate

from splat.cloud import FIELDS, GaussianCloud
from splat.rendering import RenderOptions, render
from splat.rendering.types import Rendering
from splat.scene import Photo
from splat.training import population as edit
from splat.training import schedules, trainer
from splat.training.config.methods import (
    GesConfig,
    PruneConfig,
    SmoothConfig,
)
from splat.training.hooks import ges, mip_filter, sensitivity_pruning
from splat.training.hooks.chain_rule import deform_with_pullback
from splat.training.losses.image import composite
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


def test_sensitivity_is_the_sum_of_squared_slopes():
    setup = trainer.set_up(ring_scene(views=2, size=16), SHORT)
    state = trainer.begin(setup, schedules.Schedule(10, None))
    sampler = dataclasses.replace(trainer.context_of(setup, state).view_sampler, options=RenderOptions())
    cloud = truth(3).map(torch.Tensor.double)
    opacities = cloud.opacities.clone()

    def picture(values):
        return render(cloud.replace(logit_opacities=torch.logit(values)), sampler.view_at(0).camera, "reference").rgb

    step = 1e-4
    exact = torch.zeros(3, dtype=torch.float64)
    for row in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[row] = step
        exact[row] = (((picture(opacities + shift) - picture(opacities - shift)) / (2 * step)) ** 2).sum()
    draws = 300
    single = cloud.map(torch.Tensor.float)
    total = sum(sensitivity_pruning.sensitivity(single, sampler, 1, number).double() for number in range(draws))
    assert torch.allclose(total / draws, exact, rtol=0.3)


def test_removals_are_evenly_spaced():
    config = PruneConfig(fraction=0.5, times=3, start=0.2, stop=0.6)
    hits = [step for step in range(1, 101) if sensitivity_pruning.due(config, (step - 1) / 100, step / 100)]
    assert hits == pytest.approx([20, 40, 60], abs=1)


def with_columns() -> GaussianCloud:
    cloud = truth(5).map(torch.Tensor.double)
    g = torch.Generator().manual_seed(2)
    columns = {"shape": torch.randn(5, generator=g, dtype=torch.float64) * 5, "filter": torch.full((5,), 0.07).double()}
    return cloud.replace(extras=columns)


@pytest.mark.parametrize("hook", [ges.hook(GesConfig(shape=True)), mip_filter.hook(SmoothConfig(filter=0.2))])
def test_the_pullback_agrees_with_finite_differences(hook):
    cloud = with_columns()
    g = torch.Generator().manual_seed(1)
    weights = {name: torch.randn(getattr(cloud, name).shape, generator=g, dtype=torch.float64) for name in FIELDS}

    def value(changed):
        drawn = hook.deform(changed, None)
        return sum((weights[name] * getattr(drawn, name)).sum() for name in FIELDS).item()

    _, pullback = deform_with_pullback((hook,), cloud)
    found, of_photo = pullback(weights)
    assert not of_photo and ("shape" in found) == (hook.name == "ges") and "filter" not in found
    for name, gradient in found.items():
        extra = name not in FIELDS
        tensor = cloud.extras[name] if extra else getattr(cloud, name)
        shift = torch.zeros_like(tensor)
        shift.view(-1)[2] = 1e-6
        up, down = (
            cloud.replace(extras=dict(cloud.extras) | {name: each}) if extra else cloud.replace(**{name: each})
            for each in (tensor + shift, tensor - shift)
        )
        assert gradient.view(-1)[2].item() == pytest.approx((value(up) - value(down)) / 2e-6, rel=1e-5, abs=1e-7)


def test_a_shape_multiplies_the_scales_and_folding_keeps_the_picture():
    cloud = with_columns()
    width = 2 * torch.sigmoid(0.1 * cloud.extras["shape"])
    drawn = ges.shaped(cloud)
    assert torch.allclose(drawn.scales, cloud.scales * width[:, None]) and "shape" not in drawn.extras
    population = edit.populate(cloud)
    context = dataclasses.replace(context_at(30, 100, 10), previous_fraction=0.24, fraction=0.25)
    ges.fold_and_prune(population, context)
    assert torch.allclose(ges.shaped(population.cloud).scales, drawn.scales)
    assert (population.cloud.extras["shape"] == 0).all()


def test_the_frequency_error_has_the_slope_of_its_value():
    photo = Photo((torch.rand(60, 70, 3, generator=torch.Generator().manual_seed(0)) * 255).to(torch.uint8))
    view = TrainingView(0, photo, ring(1, 24)[0], (0.0, 0.0, 0.0))
    rgb = torch.rand(60, 70, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    context = StepContext(5, 0.05)
    drawn = Rendering(rgb, rgb[..., 0], None, None, None, torch.ones(1), None, torch.ones(1, 2))
    value, gradients = ges.frequency_error(0.5, drawn, view, context)
    mask = ges.frequency_mask(rgb, 0.05)[..., None]
    difference = (rgb - composite(photo, view.background).double() / 255).abs()
    assert 0 < mask.mean() < 1
    assert value == pytest.approx(0.5 * ((mask * difference).mean() - difference.mean()).item())
    assert torch.allclose(gradients.rgb, 0.5 * (mask - 1) * (rgb - photo.rgb.double() / 255).sign() / rgb.numel())


def test_the_mask_cuts_midway_between_the_extremes_of_the_difference():
    # One bright dot, in the second half: chosen is where the narrow blur rises above the wide one by more than the
    # middle of the difference, whose least value is below 0.
    rgb = torch.zeros(50, 50, 3, dtype=torch.float64)
    rgb[20:30, 20:30] = 1
    small = interpolate(rgb.mean(2)[None, None], scale_factor=0.2, mode="bilinear")
    bands = interpolate(ges.blurred(small, 1.1) - ges.blurred(small, 2.2), size=(50, 50), mode="bilinear")[0, 0]
    middle = (bands.max() + bands.min()) / 2
    assert bands.min() < 0 and torch.equal(ges.frequency_mask(rgb, 0.9), (bands >= middle).double())


def test_a_wide_blur_is_a_convolution_with_a_gaussian():
    image = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    image[..., 20, 20] = 1
    found = ges.blurred(image, 3.0)[0, 0]
    x = torch.arange(-20, 21, dtype=torch.float64)
    line = torch.where(x.abs() <= 9, torch.exp(-(x**2) / 18), 0.0)
    assert torch.allclose(found, torch.outer(line, line) / line.sum() ** 2, atol=1e-12)


def test_the_filter_is_a_share_of_the_finest_pixel_and_keeps_the_mass():
    cameras = ring(6, 48)
    means = torch.tensor([[0.0, 0.0, 0.0], [1.0, 0.3, -0.5], [0.0, 500.0, 0.0]], dtype=torch.float64)
    found = mip_filter.widths(means, cameras, 0.2)
    for row in range(2):
        distances = [camera.project(means[row : row + 1])[1].item() for camera in cameras]
        assert found[row].item() == pytest.approx(math.sqrt(0.2) * min(distances) / cameras[0].fx, rel=1e-6)
    assert found[2] == found[:2].max()  # no view shows it
    cloud = with_columns()
    drawn = mip_filter.filtered(cloud)
    assert torch.allclose(drawn.scales, (cloud.scales**2 + 0.07**2).sqrt())
    mass, before = drawn.opacities * drawn.scales.prod(1), cloud.opacities * cloud.scales.prod(1)
    assert torch.allclose(mass, before)


@pytest.mark.parametrize(("step", "measured"), [(1, True), (2, False), (100, False), (101, True)])
def test_the_filter_is_measured_anew_every_hundredth_step(step, measured):
    setup = trainer.set_up(ring_scene(views=2, size=16), dataclasses.replace(SHORT, smooth=SmoothConfig(filter=0.2)))
    state = trainer.begin(setup, schedules.Schedule(200, None))
    state.cloud.extras[mip_filter.FILTER].fill_(7.0)
    context = dataclasses.replace(trainer.context_of(setup, state), step=step)
    mip_filter.refine(setup.config.smooth, state.population, context)
    assert bool((state.cloud.extras[mip_filter.FILTER] != 7).all()) == measured
