"""Camera: projection against hand-worked pixels, poses that look where they should."""

import pytest
import torch

from splat import Camera


def test_projection_of_known_points():
    camera = Camera(100, 200, 31.5, 20.0, 64, 48, torch.eye(4))
    pixels, depth = camera.project(torch.tensor([[0.0, 0.0, 2.0], [1.0, -0.5, 4.0]]))
    assert torch.allclose(pixels, torch.tensor([[31.5, 20.0], [31.5 + 25.0, 20.0 - 25.0]]))
    assert depth.tolist() == [2.0, 4.0]


def test_look_at_faces_the_target_upright():
    up = torch.tensor([0.0, 0.0, 1.0])
    camera = Camera.look_at(torch.tensor([3.0, -2.0, 1.5]), torch.tensor([0.0, 0.5, 0.2]), up, 80, 60, 60)
    assert torch.allclose(camera.position, torch.tensor([3.0, -2.0, 1.5], dtype=torch.float64))
    points = torch.tensor([[0.0, 0.5, 0.2], [0.0, 0.5, 0.4]], dtype=torch.float64)
    pixels, depth = camera.project(points)
    assert torch.allclose(pixels[0], torch.tensor([40.0, 30.0], dtype=torch.float64))
    assert pixels[1, 1] < pixels[0, 1] and (depth > 0).all()
    assert torch.allclose(camera.world_to_camera @ camera.camera_to_world, torch.eye(4, dtype=torch.float64))


def test_resized_camera_scales_pixels():
    camera = Camera(100, 110, 30, 25, 64, 48, torch.eye(4, dtype=torch.float64))
    point = torch.tensor([[0.2, -0.1, 1.0]], dtype=torch.float64)
    small, _ = camera.resized(32, 12).project(point)
    full, _ = camera.project(point)
    assert torch.allclose(small, full * torch.tensor([0.5, 0.25], dtype=torch.float64))


def test_senseless_cameras_are_refused():
    with pytest.raises(ValueError, match="image size"):
        Camera(1, 1, 0, 0, 0, 4, torch.eye(4))
    with pytest.raises(ValueError, match="focal"):
        Camera(-1, 1, 0, 0, 4, 4, torch.eye(4))


def test_unprojected_pixels_project_back_and_rays_lead_there():
    up = torch.tensor([0.0, 0.0, 1.0])
    camera = Camera.look_at(torch.tensor([3.0, -2.0, 1.5]), torch.tensor([0.0, 0.5, 0.2]), up, 7, 5, 60)
    camera = camera.replace(fx=9.0, cx=3.1)
    depth = 1 + torch.rand(5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    points = camera.unproject(depth)
    xy, z = camera.project(points.reshape(-1, 3))
    assert torch.allclose(z.reshape(5, 7), depth)
    assert torch.allclose(xy.reshape(5, 7, 2)[4, 6], torch.tensor([6.5, 4.5], dtype=torch.float64))
    assert torch.allclose(xy.reshape(5, 7, 2), camera.pixel_centres())
    origin, directions = camera.rays()
    assert torch.allclose(origin, torch.tensor([3.0, -2.0, 1.5], dtype=torch.float64))
    assert torch.allclose(origin + depth[..., None] * directions, points)
    some = torch.tensor([[0.0, 0.0], [3.1, 2.5]])
    assert torch.allclose(camera.rays(some)[1][1], camera.forward)
    xy, z = camera.project(camera.unproject(torch.tensor([2.0, 3.0]), some))
    assert torch.allclose(xy, some.double(), atol=1e-9) and torch.allclose(z, torch.tensor([2.0, 3.0]).double())
