"""Camera: projection against hand-worked pixels, poses that look where they should."""

import pytest
import torch

from splat import Camera


def test_projection_of_known_points():
    camera = Camera(100, 200, 31.5, 20.0, 64, 48, torch.eye(4))
    pixels, depth = camera.project(torch.tensor([[0.0, 0.0, 2.0], [1.0, -0.5, 4.0]]))
    assert torch.allclose(pixels, torch.tensor([[31.5, 20.0], [31.5 + 25.0, 20.0 - 25.0]]))
    assert depth.tolist() == [2.0, 4.0]


def test_rays_of_known_pixels():
    camera = Camera(100, 200, 31.5, 20.0, 64, 48, torch.eye(4))
    assert camera.pixel_centres()[3, 7].tolist() == [7.5, 3.5]
    directions = camera.directions(camera.pixel_centres())
    assert directions.shape == (48, 64, 3)
    assert directions[3, 7].tolist() == pytest.approx([(7.5 - 31.5) / 100, (3.5 - 20.0) / 200, 1.0])
    assert camera.directions(torch.tensor([31.5, 220.0])).tolist() == [0.0, 1.0, 1.0]
    assert camera.directions(camera.pixel_centres(torch.float32)).dtype == torch.float32


def test_unprojection_inverts_projection():
    position, target = torch.tensor([3.0, -2.0, 1.5]), torch.tensor([0.0, 0.5, 0.2])
    camera = Camera.look_at(position, target, torch.tensor([0.0, 0.0, 1.0]), 9, 7, 60).replace(cx=3.2, fy=11.0)
    generator = torch.Generator().manual_seed(0)
    depth = 1 + torch.rand(7, 9, generator=generator)
    pixels, back = camera.project(camera.unproject(depth).reshape(-1, 3))
    assert torch.allclose(pixels.reshape(7, 9, 2), camera.pixel_centres())
    assert torch.allclose(back.reshape(7, 9), depth.double())
    points = torch.randn(20, 3, generator=generator, dtype=torch.float64) * 0.3
    pixels, z = camera.project(points)
    assert torch.allclose(camera.unproject(z, pixels), points)
    origin, directions = camera.rays(pixels)
    assert torch.allclose(origin, position.double()) and torch.allclose(origin + z[:, None] * directions, points)


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
