"""Colour corrections: neutral at first, neutral in the mean, and able to undo what a camera did to its photos."""

import numpy as np
import pytest
import torch
from support.clouds import cloud_of

from splat.camera import Camera
from splat.metrics import ssim
from splat.ops.photometric_loss import image_loss
from splat.rendering.types import Rendering
from splat.scene import Photo
from splat.training.config.config import TrainConfig
from splat.training.hooks.appearance_features import APPEARANCE_FEATURES, apply_appearance
from splat.training.losses.image import composite, photometric, training_loss
from splat.training.per_photo import bilateral_grid
from splat.training.per_photo import exposure as appearance
from splat.training.per_photo.parameters import PhotoParameters
from splat.training.step_context import StepContext
from splat.training.training_view import TrainingView

CAMERA = Camera(30.0, 30.0, 16.0, 12.0, 32, 24, torch.eye(4, dtype=torch.float64))


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


def test_a_grid_is_interpolated_linearly_over_luma_and_place():
    # Wang et al. 2024, "Bilateral guided radiance field processing": an affine transform for each pixel, sliced from
    # the grid at (x, y, luma) trilinearly; the outermost nodes lie on the borders.
    random = np.random.default_rng(0)
    rgb, grid = random.random((5, 7, 3)), random.normal(size=bilateral_grid.GRID)
    expected = rgb.copy()
    for row in range(5):
        for column in range(7):
            luma = rgb[row, column] @ [0.299, 0.587, 0.114]
            at = np.array([luma * 7, (row + 0.5) / 5 * 15, (column + 0.5) / 7 * 15])
            low = np.floor(at).astype(int)
            affine = np.zeros(12)
            for corner in np.ndindex(2, 2, 2):
                weight = np.prod(np.where(corner, at - low, 1 - (at - low)))
                affine += weight * grid[(slice(None), *np.minimum(low + corner, [7, 15, 15]))]
            expected[row, column] += affine.reshape(3, 4) @ [*rgb[row, column], 1]
    got = bilateral_grid.apply_grid(torch.tensor(rgb), torch.tensor(grid))  # coordinates are float32
    np.testing.assert_allclose(got, expected, atol=1e-5)


def test_the_roughness_of_a_grid_is_the_mean_square_of_its_steps():
    grid = np.random.default_rng(1).normal(size=(12, 3, 4, 5))
    expected = sum((np.diff(grid, axis=axis) ** 2).mean() for axis in (1, 2, 3))
    assert bilateral_grid.total_variation(torch.tensor(grid)).item() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("step", "fraction", "expected"),
    [(0, 0.0, 2e-5), (250, 0.0, 2e-3 * 0.2575), (10, 1 / 14, 2e-3 * 0.505 * 0.01 ** (1 / 14)), (5000, 1.0, 2e-5)],
)
def test_the_rate_of_the_grids_warms_up_and_falls(step, fraction, expected):
    assert bilateral_grid.grid_rate(step, fraction) == pytest.approx(expected)


def test_appearance_features_are_affine_maps_of_colours():
    cloud = cloud_of(6, 1, 2).map(torch.Tensor.double)
    random = np.random.default_rng(3)
    features, maps = random.normal(size=(6, 2)), random.normal(size=(3, 3, 4))
    sh = cloud.sh.numpy()
    changed = cloud.replace(extras={APPEARANCE_FEATURES: torch.tensor(features)})
    got = apply_appearance(changed, torch.tensor(maps)).sh.numpy()
    bands = np.array([0.28209479177387814, 0.3, -0.2, 0.45])  # of the harmonics in one direction; the first is constant
    for row in range(6):
        affine = maps[0] + features[row, 0] * maps[1] + features[row, 1] * maps[2]
        colour = 0.5 + bands @ sh[row]
        np.testing.assert_allclose(0.5 + bands @ got[row], colour + affine @ [*colour, 1])


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


def test_the_photometric_loss_is_that_of_3dgs_and_nothing_else():
    rgb, photo = picture(1), Photo((255 * picture(2)).to(torch.uint8))
    view = TrainingView(0, photo, CAMERA, (0.0, 0.0, 0.0))
    drawn = Rendering(rgb, torch.ones(24, 32), None, None, None, torch.zeros(0), None, torch.zeros(0, 2))
    target = photo.rgb / 255
    expected = 0.8 * (rgb - target).abs().mean() + 0.2 * (1 - ssim(rgb, target))
    for loss in (photometric, training_loss(TrainConfig())):
        assert loss(drawn, view, StepContext()).loss == pytest.approx(float(expected), rel=1e-4)


def test_transparent_photos_are_compared_on_the_background():
    photo = Photo(torch.full((1, 2, 3), 200, dtype=torch.uint8), alpha=torch.tensor([[255, 51]], dtype=torch.uint8))
    assert composite(photo, (1.0, 0.0, 0.5))[0].tolist() == [[200, 200, 200], [244, 40, 142]]
    half = Photo(photo.rgb, alpha=torch.full((1, 2), 128, dtype=torch.uint8))
    assert composite(half, (0.0, 0.0, 0.0))[0, 0].tolist() == [100] * 3  # 100.39
