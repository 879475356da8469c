"""Quantization-aware training: the grid of codes against the file, and fine-tuning through it."""

from pathlib import Path

import torch
from support.scenes import ring_scene, truth

from splat import formats
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression import finetune
from splat.compression.finetuning.straight_through import Rounding, with_ordered_axes
from splat.formats.splatz import container
from splat.rendering import RenderOptions, render


def blobs(count: int, degree: int = 2, seed: int = 0) -> GaussianCloud:
    g = torch.Generator().manual_seed(seed)
    sh = 0.3 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    sh[:, 1:] *= 0.3
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    log_scales, quats = torch.randn(count, 3, generator=g) - 4, torch.randn(count, 4, generator=g)
    return GaussianCloud(means, log_scales, quats, 2 * torch.randn(count, generator=g), sh)


def match(cloud: GaussianCloud, found: GaussianCloud) -> torch.Tensor:
    """(N,) row of ``found`` nearest to each row of ``cloud``."""
    rows = torch.cdist(cloud.means.double(), found.means.double()).argmin(1)
    assert len(rows.unique()) == len(cloud) == len(found)
    return rows


def test_rounding_row_by_row_is_what_the_file_holds(tmp_path):
    cloud = with_ordered_axes(blobs(1500, 2))
    rounding = Rounding.of(cloud, 75)
    formats.write(cloud, tmp_path / "a.splatz", quality=75.0)
    found, expected = formats.read(tmp_path / "a.splatz"), rounding.rounded(cloud)
    found = found.select(match(expected, found))
    largest = expected.covariances.abs().amax((1, 2))
    gap = (found.covariances - expected.covariances).abs().amax((1, 2))
    assert (gap < 1e-4 * largest).all()  # half turns about own axes aside
    for name in ("log_scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)
    finer = (found.means - cloud.means).abs() <= (expected.means - cloud.means).abs() + 1e-3
    assert finer.double().mean() > 0.95


def test_the_price_points_to_smaller_files_and_leaves_zeros_alone():
    cloud = with_ordered_axes(blobs(1500, 2))
    cloud.sh[:100, 1:] = 0
    rounding = Rounding.of(cloud, 45)
    slope = rounding.rate_gradient(cloud)
    assert slope.shape == cloud.sh.shape and not slope[:, 0].any() and not slope[:100].any()
    assert float((slope * cloud.sh).sum()) > 0  # towards zero
    found = cloud.replace(sh=cloud.sh - 0.1 * float(cloud.sh[:, 1:].std()) / float(slope[100:, 1:].std()) * slope)
    sizes = [len(container.encode(GaussianArrays.of(each), grid=rounding.grid)) for each in (cloud, found)]
    assert sizes[1] < 0.97 * sizes[0]


def test_files_on_the_grid_of_training_hold_what_was_drawn():
    cloud = with_ordered_axes(blobs(400, 1))
    rounding = Rounding.of(cloud, 60)
    fewer = cloud.select(torch.arange(400) % 3 > 0)  # their own grid would be another
    found = container.decode(container.encode(GaussianArrays.of(fewer), grid=rounding.grid), Path("a")).cloud()
    expected = rounding.rounded(fewer)
    found = found.select(match(expected, found))
    for name in ("log_scales", "opacities", "sh"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-4, atol=1e-4)


def test_training_on_the_rounded_beats_rounding_afterwards():
    options = RenderOptions(background=(0.1, 0.1, 0.1))
    scene = ring_scene(views=6, size=32, backend="auto")
    start = with_ordered_axes(truth())
    rounding = Rounding.of(start, 22.0)
    found = finetune(start, scene, 80, options, pace=(1.0, 0.2), rounding=rounding)

    def error(cloud: GaussianCloud) -> float:
        coded = container.decode(container.encode(GaussianArrays.of(cloud), grid=rounding.grid), Path("a")).cloud()
        views = [(render(coded, view.camera, options=options).rgb, view.load().rgb / 255) for view in scene.train_views]
        return sum(float((picture - photo).square().mean()) for picture, photo in views)

    assert error(found) < 0.9 * error(start)
