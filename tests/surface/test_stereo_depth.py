"""Stereo between pictures of a textured plane finds the plane, on every side; matchers are told apart and checked."""

import numpy as np
import pytest
import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth import stereo_matcher
from splat.errors import InputError
from splat.rendering import RenderOptions, render
from splat.surface.cameras import cameras_around
from splat.surface.depth.rasterized_depth import rays, rendered_depth
from splat.surface.depth.render_depth_maps import observe
from splat.surface.depth.rendered_stereo import consensus, stereo_depth, with_far
from splat.surface.depth.stereo_rig import SIDES, Partner
from splat.surface.options import MeshOptions
from splat.surface.pipeline import mesh_cloud

CAMERA = Camera(200.0, 210.0, 80.0, 60.0, 160, 120, torch.eye(4, dtype=torch.float64))


def photograph(camera: Camera, slope: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    """Picture and depth of the textured plane z = 4 + slope·x."""
    x = (np.arange(camera.width) + 0.5 - camera.cx) / camera.fx
    y = (np.arange(camera.height)[:, None] + 0.5 - camera.cy) / camera.fy
    pose = camera.world_to_camera.numpy()
    origin = -pose[:3, 3]
    z = (4 + slope * origin[0] - origin[2]) / (1 - slope * x) + 0 * y
    u, v = origin[0] + x * z, origin[1] + y * z
    waves = [np.sin(a * u + b * v + c) for a, b, c in ((9, 4, 0), (-5, 11, 1), (17, -13, 2), (23, 19, 3), (3, 29, 4))]
    tones = np.stack([sum(waves[k:] + waves[:k][:2]) for k in range(3)], -1)
    return np.clip(127 + 25 * tones, 0, 255).astype(np.uint8), z


@pytest.mark.parametrize("side", SIDES)
def test_a_plane_is_found_from_every_side(side):
    left, z = photograph(CAMERA)
    partner = Partner(side, 0.25)
    right, _ = photograph(partner.camera(CAMERA))
    depth, weight = stereo_depth(CAMERA, left, [(partner, right)], (3.5, 4.5), stereo_matcher.semiglobal)
    known = depth > 0
    assert known.mean() > 0.7 and ((weight > 0) == known).all()
    assert np.median(np.abs(depth - z)[known]) < 0.035  # a tenth of a pixel of disparity
    assert (np.abs(depth - z)[known] < 0.12).mean() > 0.97


def test_opposite_pairs_complete_each_other():
    left, z = photograph(CAMERA)
    pairs = [(partner, photograph(partner.camera(CAMERA))[0]) for partner in (Partner(side, 0.25) for side in SIDES)]
    one, _ = stereo_depth(CAMERA, left, pairs[:1], (3.5, 4.5), stereo_matcher.semiglobal)
    four, _ = stereo_depth(CAMERA, left, pairs, (3.5, 4.5), stereo_matcher.semiglobal)
    assert (four > 0).mean() > max(0.99, (one > 0).mean())
    assert np.abs(four - z)[four > 0].mean() < 0.03


def test_consensus_takes_the_heaviest_group():
    values = np.array([1.0, 1.02, 2.0, 0.0], np.float32).reshape(4, 1, 1)
    weights = np.array([1.0, 3.0, 3.5, 9.0], np.float32).reshape(4, 1, 1)
    value, weight = consensus(values, weights, 0.05)
    assert value[0, 0] == pytest.approx((1.0 + 3 * 1.02) / 4) and weight[0, 0] == 4


def test_the_wide_pair_speaks_only_of_what_is_far():
    narrow = np.array([2.0, 5.0, 5.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0])
    wide = np.array([9.0, 6.0, 1.0, 0.0]), np.array([0.7, 0.7, 0.7, 0.0])
    depth, weight = with_far(narrow, wide, np.array([False, True, True, True]), 4.0)
    assert depth.tolist() == [2, 6, 5, 0]
    assert weight[0] == 1 and weight[1] == 0.7 and 0 < weight[2] < 0.1 and weight[3] == 0


def test_far_walls_are_matched_by_a_wider_pair():
    g = torch.Generator().manual_seed(0)
    flat = torch.rand(20000, 2, generator=g) * 16 - 8
    room = GaussianCloud(
        means=torch.cat([flat, torch.full((20000, 1), 8.0)], 1), log_scales=torch.full((20000, 3), 0.05).log(),
        quats=torch.tensor([[1.0, 0, 0, 0]]).expand(20000, 4).contiguous(),
        logit_opacities=torch.full((20000,), 5.0), sh=torch.rand(20000, 1, 3, generator=g) * 3 - 1.5,
    )  # fmt: skip
    # The cameras look at a point two units away; the wall is at eight, 57 baselines.
    views = [
        Camera.look_at(
            torch.tensor([x, y, 0.0]), torch.tensor([0.0, 0.0, 2.0]), torch.tensor([0.0, -1, 0]), 160, 120, 60
        )
        for x, y in ((0.3, 0), (-0.3, 0.1), (0, -0.3), (0.1, 0.3))
    ]
    maps = observe(room, views, MeshOptions(backend="cpu"), RenderOptions())
    errors = []
    for index, camera in enumerate(views):
        pose, depth = camera.world_to_camera.double().numpy(), maps[index].depth.astype(float)
        along = rays(camera).double().numpy() @ pose[:3, :3]  # world directions, z of the camera 1
        true = (8 - float(camera.position[2])) / along[..., 2]
        assert (depth > 0).mean() > 0.6
        errors.append(np.median(np.abs(depth - true)[depth > 0]))
    assert np.mean(errors) < 0.2  # 0.43 with the narrow pair alone


def test_learned_matchers_are_padded_flipped_and_checked():
    def network(left, right):
        assert left.shape == (1, 3, 128, 160) and left.shape == right.shape
        return [torch.zeros(1), torch.full((1, 1, 128, 160), 7.0)]

    picture = np.zeros((120, 160, 3), np.uint8)
    found = stereo_matcher.both_ways(stereo_matcher.learned(network), picture, picture, 1, 20, 1.0)
    assert np.isnan(found[:, :7]).all() and (found[:, 7:] == 7).all()
    disagreeing = iter((5.0, 9.0))
    found = stereo_matcher.both_ways(
        lambda a, b, low, high: np.full((120, 160), next(disagreeing)), picture, picture, 1, 20, 1.0
    )
    assert np.isnan(found).all()


def test_matchers_by_name():
    assert stereo_matcher.load("sgbm") is stereo_matcher.semiglobal
    assert stereo_matcher.load("splat.depth.stereo_matcher:semiglobal") is stereo_matcher.semiglobal
    for name in ("nothing.here:f", "splat.depth.stereo_matcher:nope", "splat.depth.stereo_matcher:BLOCK"):
        with pytest.raises(InputError, match="matcher"):
            stereo_matcher.load(name)


# ---- whole clouds ----


def wall(count: int = 3000, opacity: float = 6.0) -> GaussianCloud:
    """Flat Gaussians on the unit sphere."""
    g = torch.Generator().manual_seed(0)
    normals = torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1)
    half = torch.nn.functional.normalize(normals + torch.tensor([0.0, 0.0, 1.0]), dim=1)
    quats = torch.cat([torch.zeros(count, 1), half], 1)  # half a turn about the bisector takes z to the normal
    return GaussianCloud(
        means=normals, log_scales=torch.log(torch.tensor([0.06, 0.06, 0.003])).expand(count, 3).contiguous(),
        quats=quats, logit_opacities=torch.full((count,), opacity), sh=torch.rand(count, 1, 3, generator=g) * 3 - 1.5,
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["expected", "median", "plane"])
def test_rendered_depths_of_a_sphere(kind):
    from support.shapes import sphere_depth

    camera = Camera.look_at(torch.tensor([0.0, 0, 3]), torch.zeros(3), torch.tensor([0.0, 1, 0]), 64, 64, 30.0)
    drawing = RenderOptions()
    rendering = render(wall(), camera, "cpu", depth=True, normal=True)
    depth = rendered_depth(wall(), camera, rendering, kind, drawing, "cpu").numpy()
    true = sphere_depth(camera)
    middle = true < 2.2
    assert np.abs(depth - true)[middle].mean() < {"plane": 0.015, "median": 0.035, "expected": 0.05}[kind]


@pytest.mark.parametrize("method", ["stereo", "median"])
def test_a_sphere_of_gaussians_becomes_a_sphere(method):
    cameras = cameras_around(wall(), 16, 160)
    result = mesh_cloud(wall(), cameras, MeshOptions(method=method, resolution=48, backend="cpu"))
    radius = np.linalg.norm(result.mesh.vertices, axis=1)
    assert np.abs(np.median(radius) - 1) < 0.035 and (np.abs(radius - 1) < 0.08).mean() > 0.95
    assert result.mesh.colours.std() > 20


def test_clouds_without_a_surface_say_so():
    cameras = cameras_around(wall(), 6, 64)
    fog = wall().replace(logit_opacities=torch.full((3000,), -6.0))
    with pytest.raises(InputError, match="no view shows a surface"):
        mesh_cloud(fog, cameras, MeshOptions(backend="cpu"))
    with pytest.raises(InputError, match="no Gaussians"):
        mesh_cloud(GaussianCloud.empty(), cameras, MeshOptions(backend="cpu"))
    with pytest.raises(InputError, match="give a scene with more photos"):
        mesh_cloud(wall(), cameras[:1], MeshOptions(backend="cpu"))


def test_without_texture_or_from_inside_there_is_a_mesh_or_a_sentence():
    plain = wall().replace(sh=torch.zeros(3000, 1, 3))
    result = mesh_cloud(plain, cameras_around(plain, 12, 120), MeshOptions(resolution=32, backend="cpu"))
    assert (np.abs(np.linalg.norm(result.mesh.vertices, axis=1) - 1) < 0.1).mean() > 0.9
    inside = [
        Camera.look_at(torch.zeros(3), torch.tensor(target), torch.tensor([0.0, 1, 0]), 80, 80, 90.0)
        for target in ([1.0, 0, 0], [-1.0, 0, 0], [0, 0.1, 1.0], [0, 0.1, -1.0])
    ]
    result = mesh_cloud(wall(), inside, MeshOptions(resolution=32, backend="cpu"))
    assert len(result.mesh.faces) > 100
