"""Pose refinement finds cameras again that were moved; the depth term pulls towards the sparse points."""

import pytest
import torch
from support.scenes import ring, truth

from splat.camera import Camera
from splat.rendering import render
from splat.training.losses.sparse_depth import disparity_loss
from splat.training.per_photo.parameters import PhotoParameters
from splat.training.per_photo.pose import refined, rotation_of


def test_no_correction_is_no_change():
    pose = ring(3, 16)[1].world_to_camera
    assert torch.allclose(refined(pose, torch.zeros(6, dtype=torch.float64), 2.0), pose)


def test_the_correction_shifts_and_turns_the_camera_about_its_centre():
    camera = ring(3, 16)[1]
    shift, turn = torch.tensor([0.1, -0.2, 0.3]).double(), torch.tensor([0.3, 0.1, -0.4]).double()
    got = camera.replace(world_to_camera=refined(camera.world_to_camera, torch.cat([shift, turn]), 2.0))
    assert torch.allclose(got.position, camera.position + 2.0 * shift)
    assert torch.allclose(got.forward, rotation_of(turn) @ camera.forward)
    assert torch.allclose(rotation_of(turn), torch.linalg.matrix_exp(torch.tensor(
        [[0, 0.4, 0.1], [-0.4, 0, -0.3], [-0.1, 0.3, 0]], dtype=torch.float64)))  # fmt: skip


def test_the_gradient_at_zero_is_right():
    pose = ring(3, 16)[1].world_to_camera
    start = torch.zeros(6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda c: refined(pose, c, 1.5), (start,))
    later = (0.4 * torch.randn(6, generator=torch.Generator().manual_seed(0))).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda c: refined(pose, c, 1.5), (later,))


def test_a_moved_camera_is_found_again():
    cloud, cameras = truth(), ring(2, 40)
    photos = [render(cloud, camera, "reference").rgb for camera in cameras]
    shift, turn = torch.tensor([0.03, -0.02, 0.02]), torch.tensor([0.01, -0.015, 0.01])
    # The second camera errs the other way: corrections have a mean of zero over the photos.
    errors = [torch.cat([shift, turn]), -torch.cat([shift, turn])]
    wrong = [
        c.replace(world_to_camera=refined(c.world_to_camera, e.double(), 1.0))
        for c, e in zip(cameras, errors, strict=True)
    ]
    before = [(w.position - c.position).norm().item() for w, c in zip(wrong, cameras, strict=True)]
    poses = PhotoParameters(2, 6)
    for step in range(240):
        index = step % 2
        leaf = poses.row(index)
        pose = refined(wrong[index].world_to_camera, leaf, 1.0)
        shown = render(cloud, wrong[index], "reference", world_to_camera=pose).rgb
        (shown - photos[index]).square().mean().backward()
        poses.step(index, leaf.grad, 4e-3 * 0.05 ** (step / 240))
    for index, (camera, start) in enumerate(zip(cameras, before, strict=True)):
        found = refined(wrong[index].world_to_camera, poses.values[index], 1.0)
        position = -found[:3, :3].T @ found[:3, 3]
        assert (position - camera.position).norm() < 0.2 * start
        rest = found[:3, :3] @ camera.world_to_camera[:3, :3].T.to(found)
        assert (rest - rest.T).norm() / 8**0.5 < 0.2 * turn.norm()  # sine of the angle that is left


def test_disparity_at_keypoints():
    camera = Camera(10.0, 10.0, 4.0, 3.0, 8, 6, torch.eye(4, dtype=torch.float64))
    points = torch.tensor([[0.0, 0, 2], [0.2, 0, 4], [0, 0, -1]], dtype=torch.float64)
    pixels = torch.tensor([[2.5, 1.5], [6.5, 4.5], [1.5, 1.5]])  # centres of pixels (2, 1), (6, 4), (1, 1)
    depth = torch.full((6, 8), 5.0)
    depth[1, 2] = 2.5
    depth[4, 6] = 0.0  # nothing seen there: disparity 0
    depth.requires_grad_()
    loss = disparity_loss(depth, camera, points, pixels)
    assert loss.item() == pytest.approx(((0.5 - 0.4) + 0.25) / 2)
    loss.backward()
    expected = torch.zeros(6, 8)
    expected[1, 2] = 0.5 / 2.5**2  # d(0.5 − 1/d)/dd / 2: too far, so the gradient says nearer
    assert torch.allclose(depth.grad, expected)


def test_masked_and_outside_keypoints_do_not_count():
    camera = Camera(10.0, 10.0, 4.0, 3.0, 8, 6, torch.eye(4, dtype=torch.float64))
    points = torch.tensor([[0.0, 0, 2], [0.2, 0, 4], [0, 0, 3]], dtype=torch.float64)
    pixels = torch.tensor([[2.5, 1.5], [6.5, 4.5], [8.5, 1.5]])
    mask = torch.ones(6, 8, dtype=torch.bool)
    mask[4, 6] = False
    depth = torch.full((6, 8), 5.0)
    assert disparity_loss(depth, camera, points, pixels, mask).item() == pytest.approx(0.3)
    assert disparity_loss(depth, camera, points, pixels, mask & False).item() == 0
