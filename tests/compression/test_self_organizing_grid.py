"""The self-organizing grid against brute force, random orders, and the mirrored blur of SciPy."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from splat.cloud import GaussianCloud
from splat.compression.methods.grid_regularizer import pull, resort
from splat.compression.methods.self_organizing_grid import (
    blurred,
    features,
    grid_order,
    grid_shape,
    roughness,
    smoothness,
    sort_grid,
)
from splat.training.population import aligned, populate


def blobs(count: int, seed: int = 0) -> GaussianCloud:
    g = torch.Generator().manual_seed(seed)
    return GaussianCloud(
        torch.randn(count, 3, generator=g), torch.randn(count, 3, generator=g), torch.randn(count, 4, generator=g),
        torch.randn(count, generator=g), torch.randn(count, 4, 3, generator=g),
    )  # fmt: skip


def test_every_row_once_and_the_same_for_the_same_seed():
    for count in (1, 2, 3, 5, 17, 400, 1001):
        order = grid_order(torch.randn(count, 3, generator=torch.Generator().manual_seed(count)), seed=3)
        assert sorted(order.tolist()) == list(range(count))
    values = torch.randn(900, 5, generator=torch.Generator().manual_seed(0))
    assert torch.equal(grid_order(values, 1), grid_order(values, 1))
    assert grid_shape(1001) == (32, 31)


def test_a_shuffled_plane_becomes_smooth_again():
    """Points of a regular square can be laid out with every neighbour at one step; random orders are at about 10."""
    side = 20
    y, x = np.mgrid[:side, :side].astype(np.float32)
    points = torch.from_numpy(np.stack([x, y], -1).reshape(-1, 2).copy())
    found = roughness(points[grid_order(points)])
    assert roughness(points) == pytest.approx(1.0)
    assert found < 2.0


def test_best_exchange_of_four():
    """On a 2 × 2 grid the result cannot be beaten by any of the 24 orders, measured against the blurred target."""
    for seed in range(5):
        values = torch.randn(4, 3, generator=torch.Generator().manual_seed(seed))
        best = min(roughness(values[list(order)]) for order in itertools.permutations(range(4)))
        assert roughness(values[grid_order(values, seed)]) <= 1.35 * best


def test_sorting_a_cloud_keeps_its_gaussians():
    cloud = blobs(530)
    found = sort_grid(cloud)
    key = cloud.means[:, 0].argsort()
    torch.testing.assert_close(found.means[found.means[:, 0].argsort()], cloud.means[key])
    assert roughness(features(found)) < 0.8 * roughness(features(cloud))
    assert len(sort_grid(GaussianCloud.empty(1))) == 0


def test_blur_is_scipys():
    values = torch.randn(12 * 12 + 5, 2, generator=torch.Generator().manual_seed(1))
    line = np.exp(-(np.arange(-2, 3) ** 2) / 18.0)
    grid = values[:144].reshape(12, 12, 2).numpy()
    expected = ndimage.convolve1d(grid, line / line.sum(), axis=0, mode="mirror")
    expected = ndimage.convolve1d(expected, line / line.sum(), axis=1, mode="mirror")
    np.testing.assert_allclose(blurred(values)[:144].reshape(12, 12, 2), expected, atol=1e-5)
    torch.testing.assert_close(blurred(values)[144:], values[144:])


def test_gradient_of_the_neighbour_loss():
    cloud = blobs(100).to(dtype=torch.float64)
    weights = {"quats": 10.0, "logit_opacities": 1.0}
    _, found = smoothness(cloud, weights)
    leaf = cloud.quats.clone().requires_grad_()
    gap = leaf - blurred(cloud.quats)
    (torch.nn.functional.huber_loss(gap, torch.zeros_like(gap)) * 10 / 11).backward()
    torch.testing.assert_close(found["quats"], leaf.grad)


def test_pulls_make_a_population_smoother_and_sorting_keeps_its_rows_together():
    population = populate(blobs(400))
    population.adam.m["means"].copy_(population.cloud.means)
    resort(population)
    torch.testing.assert_close(population.adam.m["means"], population.cloud.means)
    assert aligned(population)
    losses = [pull(population, 0.2) for _ in range(5)]
    assert losses == sorted(losses, reverse=True) and losses[-1] < 0.8 * losses[0]
