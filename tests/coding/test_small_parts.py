"""Orders, neighbours, weights, gzip and guards against their definitions, written out plainly."""

import gzip as standard
import os
from pathlib import Path

import numpy as np
import pytest
from support.clouds import cloud_of

from splat.cloud_arrays import GaussianArrays
from splat.coding import deflate, importance, limits, morton, neighbours
from splat.errors import InputError


def test_bits_are_spread_to_every_third_place():
    values = np.random.default_rng(0).integers(0, 1 << 21, 200, dtype=np.uint64)
    expected = [sum((int(value) >> bit & 1) << 3 * bit for bit in range(21)) for value in values]
    assert morton.spread_bits(values).tolist() == expected


def test_rows_follow_the_z_order_of_their_bounding_box():
    means = (np.random.default_rng(1).random((300, 3)) * [4, 1, 9] + [70, -30, 2]).astype(np.float32)
    low, high = means.min(0).astype(np.float64), means.max(0).astype(np.float64)
    cells = ((means - low) / (high - low) * ((1 << 21) - 1)).astype(np.int64)
    keys = [sum((int(c[axis]) >> bit & 1) << (3 * bit + axis) for axis in range(3) for bit in range(21)) for c in cells]
    assert morton.morton(means).tolist() == sorted(range(300), key=lambda row: keys[row])
    assert morton.morton(means[:0]).shape == (0,)


@pytest.mark.parametrize(("count", "wanted"), [(40, 3), (2, 3), (3, 3), (4, 3), (1, 3)])
def test_neighbours_are_those_of_the_table_of_distances(monkeypatch, count, wanted):
    monkeypatch.setattr(neighbours, "PIECE", 7)
    points = np.random.default_rng(2).integers(0, 4, (count, 3)).astype(np.float32)  # many are equal
    table = np.linalg.norm(points[:, None] - points[None], axis=2)
    np.fill_diagonal(table, np.inf)
    seen = []
    for rows, distances, others in neighbours.nearest(points, wanted):
        seen += rows.tolist()
        np.testing.assert_allclose(distances, np.sort(table[rows], axis=1)[:, : min(wanted, count - 1)], atol=1e-6)
        np.testing.assert_allclose(table[rows[:, None], others], distances, atol=1e-6)
    assert sorted(seen) == (list(range(count)) if count > 1 else [])


def test_importance_is_the_largest_face_times_the_opacity():
    table = GaussianArrays.of(cloud_of(101, 0, 3))
    scales = np.exp(np.sort(table.log_scales.astype(np.float64), axis=1))
    weight = scales[:, 1] * scales[:, 2] / (1 + np.exp(-table.logit_opacities.astype(np.float64)))
    expected = np.clip(weight / np.sort(weight)[50], 1 / 30, 30)
    np.testing.assert_allclose(importance.importance(table, 30.0), expected, rtol=1e-5)
    assert importance.importance(table.map(lambda array: array[:0]), 30.0).shape == (0,)


@pytest.mark.parametrize("spread", np.linspace(0.5, 3, 11))
def test_steps_differ_where_the_weighted_squared_error_falls_enough(monkeypatch, spread):
    weights = np.exp(np.random.default_rng(3).normal(size=500) * spread)
    got = importance.step_factors(weights, 0.5, 0.0)
    monkeypatch.setattr(importance, "WORTH_IT", np.inf)
    mixed = importance.step_factors(weights, 0.5, 0.0)
    ratio = (weights * mixed * mixed).sum() / weights.sum()
    np.testing.assert_array_equal(got, mixed if ratio < 0.4 else np.ones(500))


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 128, 200])
def test_blocks_make_one_gzip_stream(monkeypatch, size):
    monkeypatch.setattr(deflate, "BLOCK", 64)
    data = np.random.default_rng(4).integers(0, 3, size, dtype=np.uint8).tobytes()
    assert standard.decompress(deflate.gzip([data[:5], data[5:]], 6)) == data


def test_claims_are_believed_up_to_their_limits(monkeypatch):
    path = Path("x")
    size = 1000 * 4 * (3 + 3 + 4 + 1 + 3 * 16)  # bytes of 1000 Gaussians of degree 3
    assert limits.memory_bytes(1000, 3) == size
    limits.check_claim(path, 1000, 3, 2.0, 2000)
    limits.check_claim(path, 0, 0, 2.0, 0)
    for count, degree, have in (
        (-1, 3, 2000),
        (1 << 31, 3, 1 << 40),
        (1000, -1, 2000),
        (1000, 5, 2000),
        (1000, 3, 1999),
    ):
        with pytest.raises(InputError):
            limits.check_claim(path, count, degree, 2.0, have)
    monkeypatch.setattr(limits, "BELIEVED", size - 1)
    enough = -(-size // 256)
    assert limits.padding(1000, 3, enough - 1) == 1
    limits.check_claim(path, 1000, 3, 0.0, enough)
    with pytest.raises(InputError, match="not believed"):
        limits.check_claim(path, 1000, 3, 0.0, enough - 1)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": size // 4000}.get)
    limits.check_claim(path, 1000, 3, 0.0, enough)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4000, "SC_PHYS_PAGES": size // 4000 - 1}.get)
    with pytest.raises(InputError, match="this machine"):
        limits.check_claim(path, 1000, 3, 0.0, enough)
