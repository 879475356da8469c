"""Digits of single Gaussians, against finite differences and in a scene where one hides another; fitting to renders."""

from pathlib import Path

import torch

from splat.cloud import GaussianCloud
from splat.compression import compress
from splat.compression.finetuning.straight_through import DETAIL_EXTRA
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.compression.rate_control.per_gaussian_precision import per_gaussian_precision, squared_gradients
from splat.compression.rate_control.search import Goal
from splat.compression.rate_control.target_format import TargetFormat
from splat.compression.rate_control.task import CompressionTask
from splat.compression.rate_control.with_renders import fit_to_renders
from splat.rendering import RenderOptions, render
from splat.viewpoints.around_cloud import views_around


def ball(count: int, seed: int = 0) -> GaussianCloud:
    g = torch.Generator().manual_seed(seed)
    means = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    return GaussianCloud(
        means, torch.randn(count, 3, generator=g) * 0.3 - 1.8, torch.randn(count, 4, generator=g),
        torch.full((count,), 1.5), 0.5 * torch.randn(count, 1, 3, generator=g),
    )  # fmt: skip


def test_squared_gradients_are_those_of_pictures():
    cloud, cameras = ball(12), views_around(ball(12), 2, side=24)
    found = squared_gradients(cloud, cameras, probes=400)["log_scales"]

    def pictures(cloud: GaussianCloud) -> torch.Tensor:
        return torch.stack([render(cloud, camera).rgb for camera in cameras]).double()

    for row in (0, 5):
        total = 0.0
        for axis in range(3):
            ends = []
            for change in (1e-2, -1e-2):
                moved = cloud.log_scales.clone()
                moved[row, axis] += change
                ends.append(pictures(cloud.replace(log_scales=moved)))
            total += float(((ends[0] - ends[1]) / 2e-2).square().sum()) / 3
        assert 0.6 * total < float(found[row]) < 1.6 * total


def test_what_is_hidden_needs_fewer_digits():
    shell = ball(400)
    shell = shell.replace(logit_opacities=torch.full((400,), 6.0), log_scales=shell.log_scales * 0 - 1.9)
    inner = ball(60, 1)
    inner = inner.replace(means=0.2 * inner.means)
    cloud = GaussianCloud.concat([shell, inner])
    digits = per_gaussian_precision(cloud, views_around(shell, 6, side=40), probes=2)
    assert digits[400:].float().mean() < digits[:400].float().mean() - 0.5
    assert per_gaussian_precision(GaussianCloud.empty(), []).shape == (0,)


def test_fitting_to_renders_wins_decibels(monkeypatch):
    monkeypatch.setattr("splat.viewpoints.around_cloud.SIDE", 40)
    cloud, options = ball(150), RenderOptions()
    metric, target = FidelityMetric.to_renders(cloud, options), TargetFormat(Path("a.splatz"))
    digits = cloud.replace(extras={DETAIL_EXTRA: per_gaussian_precision(cloud, metric.cameras)})
    before = target.trial(digits, 50.0, metric)
    task = CompressionTask(cloud, target, Goal(size=before.size + 20), metric, options, slope=0.24)
    after = fit_to_renders(task, before, digits)
    assert after.psnr > before.psnr + 0.3 and after.size <= before.size + 20
    found = compress(cloud, fidelity=35)
    assert found.psnr >= 35
