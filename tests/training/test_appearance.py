"""Colour corrections: neutral at first, neutral in the mean, and able to undo what a camera did to its photos."""

import pytest
import torch

from splat.ops.photometric_loss import image_loss
from splat.scene import Photo
from splat.training.losses.image import composite
from splat.training.per_photo import bilateral_grid
from splat.training.per_photo import exposure as appearance
from splat.training.per_photo.parameters import PhotoParameters


def picture(seed: int = 0, height: int = 24, width: int = 32) -> torch.Tensor:
    small = torch.rand(1, 3, 6, 8, generator=torch.Generator().manual_seed(seed))
    big = torch.nn.functional.interpolate(small, (height, width), mode="bilinear")
    return big[0].permute(1, 2, 0).contiguous()


def test_corrections_begin_neutral():
    rgb = picture()
    assert torch.equal(appearance.expose(rgb, torch.zeros(3, 4)), rgb)
    assert torch.allclose(bilateral_grid.apply_grid(rgb, torch.zeros(bilateral_grid.GRID)), rgb)


def test_a_constant_grid_is_an_exposure():
    rgb = picture()
    exposure = 0.1 * torch.randn(3, 4, generator=torch.Generator().manual_seed(2))
    grid = exposure.reshape(12, 1, 1, 1).expand(bilateral_grid.GRID)
    assert torch.allclose(bilateral_grid.apply_grid(rgb, grid), appearance.expose(rgb, exposure), atol=1e-6)


def test_a_grid_follows_luma_and_place():
    rgb = torch.zeros(8, 8, 3)
    rgb[:, 4:] = 1.0  # right half white
    grid = torch.zeros(bilateral_grid.GRID)
    grid[3, 4:] = 0.5  # bright pixels get red
    grid[7, :, 8:] = 0.25  # lower rows get green
    got = bilateral_grid.apply_grid(rgb, grid) - rgb
    assert torch.allclose(got[:, :4, 0], torch.zeros(8, 4)) and torch.allclose(got[:, 4:, 0], torch.full((8, 4), 0.5))
    assert got[0, 0, 1] == 0 and got[7, 0, 1] == pytest.approx(0.25)


def test_total_variation():
    grid = torch.zeros(bilateral_grid.GRID)
    assert bilateral_grid.total_variation(grid) == 0
    grid += torch.arange(16.0)  # differences of one along x only
    assert bilateral_grid.total_variation(grid).item() == pytest.approx(1.0)


def test_exposures_recover_gains_without_a_colour_cast():
    """Photos of one picture with different gains: corrections explain the differences, their mean stays neutral."""
    truth = 0.25 + 0.4 * picture()
    gains = [0.8, 1.0, 1.3]
    exposures = PhotoParameters(3, 3, 4)
    shared = torch.zeros_like(truth)
    for step in range(240):
        index = step % 3
        leaf = exposures.row(index)
        shown = appearance.expose(truth + shared, leaf)
        target = (truth * gains[index] * 255).round().to(torch.uint8)
        found = image_loss(shown.detach().contiguous(), target, None, 0.0)
        (shown * found.grad).sum().backward()
        exposures.step(index, leaf.grad, 0.01 * 0.1 ** (step / 240))
        assert exposures.values.mean(0).abs().max() < 1e-6
    errors = [
        (appearance.expose(truth, exposures.values[i]) * 1 - truth * gain).abs().mean().item()
        for i, gain in enumerate(gains)
    ]
    mean_gain = sum(gains) / 3  # what all photos share cannot be explained by corrections of zero mean
    assert max(errors) < abs(mean_gain - 1) * 0.5 + 0.02


def test_only_the_shown_photo_steps():
    rows = PhotoParameters(3, 2)
    rows.step(1, torch.tensor([1.0, -1.0]), 0.3)
    assert rows.steps.tolist() == [0, 1, 0]
    # Adam's first step has length rate; the mean over photos is taken off all of them.
    assert torch.allclose(rows.values, torch.tensor([[0.1, -0.1], [-0.2, 0.2], [0.1, -0.1]]), atol=1e-6)
    assert rows.first[0].abs().sum() == 0 and rows.first[1].abs().sum() > 0


def test_transparent_photos_are_compared_on_the_background():
    photo = Photo(torch.full((1, 2, 3), 200, dtype=torch.uint8), alpha=torch.tensor([[255, 51]], dtype=torch.uint8))
    assert composite(photo, (1.0, 0.0, 0.5))[0].tolist() == [[200, 200, 200], [244, 40, 142]]
