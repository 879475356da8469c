"""Training on shrunk and strided photos, against exact geometry."""

import math

import torch
from support.scenes import ring, truth

from splat.rendering import RenderOptions, render
from splat.scene import Photo
from splat.training.config.methods import (
    CoarseConfig,
    DilateConfig,
)
from splat.training.hooks import coarse_to_fine, dilated_rendering
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView


def test_the_factor_falls_in_steps_of_root_two_and_the_count_rises_to_the_cap():
    config = CoarseConfig(start=4.0, until=0.5)
    factors = [coarse_to_fine.factor(config, number / 100) for number in range(101)]
    assert factors[0] == 4 and factors == sorted(factors, reverse=True)
    assert {round(2 * math.log2(each), 9) for each in factors} == {0, 1, 2, 3, 4}
    assert all(each == 1 for each in factors[50:]) and factors[49] > 1
    counts = [coarse_to_fine.cap(config, 100, 1000, number / 100) for number in range(101)]
    assert counts == sorted(counts) and counts[0] == 100 + 900 // 4 and counts[50] == 1000
    assert coarse_to_fine.cap(config, 2000, 1000, 0.0) == 1000


def test_a_dilated_view_has_the_pixels_that_its_camera_sees():
    camera = ring(1, 61)[0].replace(height=58)
    cloud = truth()
    rgb = render(cloud, camera, "reference").rgb.clamp(0, 1)
    mask = torch.arange(58 * 61).reshape(58, 61) % 7 != 0
    photo = Photo((rgb * 255 + 0.5).to(torch.uint8), mask)
    point = torch.tensor([[0.1, 0.2, 0.3]])
    where = camera.project(point)[0]
    found = set()
    for number in range(40):
        view = dilated_rendering.strided(
            DilateConfig(3), TrainingView(0, photo, camera, (0.0,) * 3, point, where), 0.5, 1, number
        )
        seen = render(cloud, view.camera, "reference", RenderOptions(blur=view.blur)).rgb.clamp(0, 1)
        assert (seen - view.photo.rgb / 255).abs().max() < 0.502 / 255
        torch.testing.assert_close(view.pixels, view.camera.project(point)[0], rtol=0, atol=1e-4)
        assert view.photo.mask.shape == view.photo.rgb.shape[:2] and view.photo.mask.is_contiguous()
        found.add((round(view.camera.cx, 3), round(view.camera.cy, 3)))
    assert len(found) == 9  # all offsets
    plain = TrainingView(0, photo, camera, (0.0,) * 3)
    assert dilated_rendering.strided(DilateConfig(3, until=0.5), plain, 0.5, 1, 0) is plain
    assert dilated_rendering.strided(DilateConfig(4), plain, 0.0, 1, 0) is plain  # too small for a grid
    assert dilated_rendering.strided(DilateConfig(2, min_pixels=58 * 61 + 1), plain, 0.0, 1, 0) is plain
    assert dilated_rendering.strided(DilateConfig(2, min_pixels=58 * 61), plain, 0.0, 1, 0) is not plain


def test_a_small_photo_shows_what_its_small_camera_sees():
    camera = ring(1, 90)[0]
    cloud = truth()
    photo = Photo((render(cloud, camera, "reference").rgb.clamp(0, 1) * 255 + 0.5).to(torch.uint8))
    shrink = coarse_to_fine.hook(CoarseConfig(start=4.0), 1 << 20).transform_view
    pixels = torch.tensor([[45.0, 45.0]])
    view = shrink(TrainingView(0, photo, camera, (0.0, 0.0, 0.0), torch.zeros(1, 3), pixels), StepContext(0, 0.0))
    assert view.photo.rgb.shape == (22, 22, 3) and (view.camera.width, view.camera.height) == (22, 22)
    small = render(cloud, view.camera, "reference").rgb
    assert (small - view.photo.rgb / 255).abs().mean() < 0.02
    centre, _ = view.camera.project(torch.zeros(1, 3, dtype=torch.float64))
    assert torch.allclose(centre, view.pixels.double(), atol=1e-5)
    assert shrink(view, StepContext(90, 0.9)) is view
