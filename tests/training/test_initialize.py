"""The first Gaussians: sizes from neighbours, colours from points, never more than the cap."""

import math

import pytest
import torch
from support.scenes import ring_scene

from splat.training.initialize import initialize, neighbour_distances


def test_distance_to_three_neighbours():
    points = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 2], [50, 0, 0]], dtype=torch.float64)
    found = neighbour_distances(points)
    assert found[0].item() == pytest.approx(math.sqrt((1 + 4 + 4) / 3))
    assert found[1].item() == pytest.approx(math.sqrt((1 + 5 + 5) / 3))
    assert neighbour_distances(points[:2]).tolist() == [1, 1]
    assert neighbour_distances(points[:1]).tolist() == [1]


def test_first_gaussians():
    scene = ring_scene(views=2, size=16, points=30)
    cloud = initialize(scene, cap=100, opacity=0.3, scale=0.5, sh_degree=2)
    assert len(cloud) == 30 and cloud.sh_degree == 2
    assert torch.allclose(cloud.means.double(), scene.points.xyz, atol=1e-6)
    assert torch.allclose(cloud.opacities, torch.tensor(0.3))
    spacing = neighbour_distances(scene.points.xyz)
    assert torch.allclose(cloud.scales, 0.5 * spacing.float()[:, None].expand(30, 3), rtol=1e-5)
    assert torch.allclose(0.5 + 0.28209479 * cloud.sh[:, 0], scene.points.rgb / 255, atol=1e-5)
    assert (cloud.sh[:, 1:] == 0).all()


def test_more_points_than_the_cap():
    scene = ring_scene(views=2, size=16, points=30)
    cloud = initialize(scene, cap=12, opacity=0.1, scale=1.0, sh_degree=0, seed=4)
    again = initialize(scene, cap=12, opacity=0.1, scale=1.0, sh_degree=0, seed=4)
    other = initialize(scene, cap=12, opacity=0.1, scale=1.0, sh_degree=0, seed=5)
    assert len(cloud) == 12 and torch.equal(cloud.means, again.means) and not torch.equal(cloud.means, other.means)
    # Fewer points lie farther apart, and the Gaussians are as large as that asks for.
    assert torch.allclose(cloud.scales[:, 0].double(), neighbour_distances(cloud.means.double()), rtol=1e-4)


def test_points_in_one_place_have_a_finite_size():
    scene = ring_scene(views=2, size=16, points=30)
    scene.points.xyz[:] = scene.points.xyz[0]
    cloud = initialize(scene, cap=100, opacity=0.1, scale=1.0, sh_degree=0)
    assert cloud.finite().all() and (cloud.scales > 0).all()
