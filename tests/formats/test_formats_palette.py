"""Codebooks and palettes against exhaustive and plain methods; decimation against its moments."""

import numpy as np
import pytest
import torch
from support.clouds import cloud_of

from splat.cloud_arrays import GaussianArrays
from splat.coding import decimate as merging
from splat.coding import scalar_kmeans, vector_kmeans
from splat.coding.importance import importance, step_factors


def decimate(cloud, count):
    return merging.decimate(GaussianArrays.of(cloud), count).cloud()


def test_codebook_is_as_good_as_the_best():
    """Dynamic programming over all cuts of the sorted values finds the true optimum."""
    n, k = 400, 16
    values = np.sort(np.random.default_rng(0).exponential(size=n))
    total, squares = (np.concatenate([[0.0], part.cumsum()]) for part in (values, values**2))
    start, end = np.meshgrid(np.arange(n + 1), np.arange(n + 1), indexing="ij")
    length = np.maximum(end - start, 1)
    cost = squares[end] - squares[start] - (total[end] - total[start]) ** 2 / length
    cost[end <= start] = np.inf
    best = np.where(np.arange(n + 1) == 0, 0.0, np.inf)
    for _ in range(k):
        best = (best[:, None] + cost).min(0)
    codes = scalar_kmeans.fit(values, size=k)
    error = ((codes[scalar_kmeans.nearest(values, codes)] - values) ** 2).sum()
    assert best[n] * 0.999 <= error <= best[n] * 1.1


def test_codebook_keeps_few_values_exactly_and_heeds_weights():
    values = np.random.default_rng(1).normal(size=200).astype(np.float32)
    codes = scalar_kmeans.fit(np.repeat(values, 5))
    assert np.array_equal(codes[scalar_kmeans.nearest(values, codes)], values)
    assert scalar_kmeans.fit(np.zeros(0)).shape == (256,)
    many = np.random.default_rng(2).normal(size=5000)
    weights = np.where(many > 1, 1e4, 1.0)
    plain, heavy = scalar_kmeans.fit(many), scalar_kmeans.fit(many, weights)

    def error(codes: np.ndarray) -> float:
        return float(np.abs(codes[scalar_kmeans.nearest(many, codes)] - many)[many > 1].mean())

    assert error(heavy) < 0.5 * error(plain)


def test_palette_is_close_to_plain_k_means():
    random = torch.Generator().manual_seed(0)
    points = torch.randn(6000, 9, generator=random) @ torch.diag(torch.linspace(2, 0.2, 9))
    weights = torch.rand(6000, generator=random) + 0.1
    codes, label = map(torch.from_numpy, vector_kmeans.fit(points.numpy(), weights.numpy(), 300))
    assert len(codes) == 300 and label.max() < 300
    plain = points[torch.randperm(6000, generator=random)[:300]].clone()
    for _ in range(10):
        nearest = torch.cdist(points, plain).argmin(1)
        sums = torch.zeros_like(plain).index_add_(0, nearest, points * weights[:, None])
        total = torch.zeros(len(plain)).index_add_(0, nearest, weights)
        plain = torch.where((total > 0)[:, None], sums / total.clamp_min(1e-30)[:, None], plain)
    nearest = torch.cdist(points, plain).argmin(1)

    def error(codes: torch.Tensor, label: torch.Tensor) -> float:
        return float((weights * (points - codes[label]).square().sum(1)).sum())

    assert error(codes, label) <= 1.08 * error(plain, nearest)


@pytest.mark.parametrize("count, size", [(1, 1), (5, 64), (300, 64), (300, 1)])
def test_palette_of_few(count, size):
    points = cloud_of(count, 1).sh[:, 1:].reshape(count, 9).numpy()
    codes, label = vector_kmeans.fit(points, np.ones(count, np.float32), size)
    assert len(codes) <= size and label.shape == (count,)
    if count <= size:
        assert np.array_equal(codes[label], points)
    repeated = points[:1].repeat(100, 0)
    assert np.array_equal(vector_kmeans.fit(repeated, np.ones(100, np.float32), 8)[0], points[:1])


def test_codes_go_to_cells_by_weight_up_to_what_they_can_hold():
    random = np.random.default_rng(5)
    for total in (10, 60, 200):
        weight, limit = random.exponential(size=12) ** 3, random.integers(1, 12, 12)
        given = vector_kmeans._apportion(weight, limit, total)
        assert given.sum() == max(12, min(total, limit.sum())) and (given <= limit).all() and (given >= 1).all()
        free = given < limit
        assert (np.diff(given[free][np.argsort(weight[free])]) >= 0).all()  # a heavier cell has no fewer


def test_a_point_sees_the_codes_of_the_cells_that_are_nearest():
    random = np.random.default_rng(6)
    home = np.repeat(np.arange(40), 10)
    points = (np.stack([home, 0 * home], 1) + [100, 50] + random.normal(size=(400, 2)) * 0.05).astype(np.float32)
    means = np.array([points[home == each].mean(0) for each in range(40)])
    start = (means + random.normal(size=(40, 2)) * 0.1).astype(np.float32)
    codes, choice = vector_kmeans._refine(points, np.ones(400, np.float32), start, np.arange(40), 3)
    np.testing.assert_allclose(codes, means, atol=1e-4)
    np.testing.assert_array_equal(choice, home)


def test_steps_are_finer_where_it_shows():
    weights = np.exp(np.random.default_rng(0).normal(size=4000) * 2.5)
    factors = step_factors(weights, 0.5, 0.3)
    assert set(np.log2(factors)) <= {-3.0, -2.0, -1.0, 0.0, 1.0}
    assert abs(np.log2(factors).mean() - 0.3) < 0.05
    assert factors[weights > 20].max() <= factors[weights < 0.05].min()
    assert (step_factors(np.ones(10), 0.5, 0.3) == 1).all()
    assert len(step_factors(np.ones(0), 0.5, 0.3)) == 0
    assert (importance(GaussianArrays.of(cloud_of(100)), 10.0) <= 10).all()


def test_decimation_keeps_mass_mean_and_colour():
    cloud = cloud_of(400, 1)
    small = decimate(cloud, 100)
    assert len(small) == 100 and small.finite().all()
    one = decimate(cloud.select(slice(0, 2)), 1)
    pair = cloud.select(slice(0, 2))
    s = pair.scales.double()
    area = (((s[:, 0] * s[:, 1]) ** 1.6075 + (s[:, 0] * s[:, 2]) ** 1.6075 + (s[:, 1] * s[:, 2]) ** 1.6075) / 3) ** (
        1 / 1.6075
    )
    w = pair.opacities.double() * area
    w = w / w.sum()
    mean = (w[:, None] * pair.means.double()).sum(0)
    spread = pair.means.double() - mean
    covariance = (w[:, None, None] * (pair.covariances.double() + spread[:, :, None] * spread[:, None, :])).sum(0)
    assert torch.allclose(one.means[0].double(), mean, atol=1e-5)
    assert torch.allclose(one.covariances[0].double(), covariance, atol=1e-5)
    assert torch.allclose(one.sh[0].double(), (w[:, None, None] * pair.sh.double()).sum(0), atol=1e-6)


def test_decimation_merges_twins_first():
    cloud = cloud_of(50, 0)
    twins = cloud.select(slice(0, 10))
    both = cloud.concat([cloud, twins.replace(means=twins.means + 1e-5)])
    small = decimate(both, 50)
    distance = torch.cdist(small.means.double(), cloud.means.double()).amin(0)
    assert (distance < 1e-4).all()
