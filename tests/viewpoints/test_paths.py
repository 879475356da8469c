"""Camera paths: smooth, through their keys, around scenes of every layout, and files."""

import json
import math
from pathlib import Path

import pytest
import torch

from splat.camera import Camera
from splat.errors import InputError
from splat.scene.scene import Points, Scene, View
from splat.viewpoints import paths as camera_paths
from splat.viewpoints import splines


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def looking(x: float, y: float, z: float, at=(0.0, 0.0, 0.0), roll: float = 0.0) -> Camera:
    up = vector(math.sin(roll), 0.1 * roll, math.cos(roll))
    return Camera.look_at(vector(x, y, z), vector(*at), up, 64, 48)


def scene_of(cameras) -> Scene:
    views = tuple(View(f"{i:03d}.png", camera, None) for i, camera in enumerate(cameras))
    none = torch.zeros(0, dtype=torch.int64)
    points = Points(
        torch.zeros(1, 3).double(), torch.zeros(1, 3), torch.zeros(1), torch.zeros(2, dtype=torch.int64), none
    )
    return Scene("test", Path("test"), "colmap", views, points)


def ring(count=24, radius=3.0, height=1.0, first=0.0, last=2 * math.pi) -> list[Camera]:
    angles = [first + (last - first) * i / count for i in range(count)]
    return [looking(radius * math.cos(a) + 5, radius * math.sin(a) - 2, height + 1, (5.0, -2.0, 1.0)) for a in angles]


def angle_between(a: Camera, b: Camera) -> float:
    turn = a.world_to_camera[:3, :3] @ b.world_to_camera[:3, :3].T
    return math.acos(min(1.0, max(-1.0, (float(turn.trace()) - 1) / 2)))


KEYS = [looking(3, 0, 1), looking(2, 2.5, 0.2, (0.3, 0, 0)), looking(-1, 3, 2, roll=0.2), looking(-3, -1, 0.5)]


@pytest.mark.parametrize("closed", [False, True])
def test_a_path_passes_its_cameras(closed):
    path = camera_paths.through(KEYS, 4001, closed)
    assert len(path) == 4001
    for key in KEYS:
        nearest = min(path, key=lambda c: float((c.position - key.position).norm()))
        assert float((nearest.position - key.position).norm()) < 4e-3
        assert angle_between(nearest, key) < 4e-3
    torch.testing.assert_close(path[0].world_to_camera, KEYS[0].world_to_camera, atol=1e-12, rtol=0)
    if not closed:
        torch.testing.assert_close(path[-1].world_to_camera, KEYS[-1].world_to_camera, atol=1e-12, rtol=0)


@pytest.mark.parametrize("closed", [False, True])
def test_a_path_has_no_jumps_in_speed(closed):
    path = camera_paths.through(KEYS, 2000, closed)
    if closed:
        path = [*path, *path[:3]]
    places = torch.stack([camera.position for camera in path])
    axes = torch.stack([camera.world_to_camera[:3, :3] for camera in path])
    for values in (places, axes):
        speed = values.diff(dim=0)
        assert float(speed.diff(dim=0).norm(dim=-1).max()) < 0.02 * float(speed.norm(dim=-1).max())
    pace = places.diff(dim=0).norm(dim=1)
    assert float(pace.max() / pace.min()) < 3
    identity = torch.eye(3, dtype=torch.float64).expand(len(path), 3, 3)
    torch.testing.assert_close(axes @ axes.transpose(1, 2), identity, atol=1e-12, rtol=0)


def test_an_even_turn_stays_even():
    """About a fixed axis at a steady rate the curve is the great circle itself."""
    axis = torch.nn.functional.normalize(vector(0.3, -0.5, 0.8), dim=0)
    knots = torch.tensor([0.0, 1.0, 2.5, 3.0], dtype=torch.float64)

    def turned(time: torch.Tensor) -> torch.Tensor:
        x, y, z = (axis * 0.9).tolist()
        generator = vector(0, -z, y, z, 0, -x, -y, x, 0).reshape(3, 3)
        return torch.matrix_exp(generator * time)

    times = torch.linspace(0, 3, 31, dtype=torch.float64)
    result = splines.hermite_rotations(torch.stack([turned(t) for t in knots]), knots, times, closed=False)
    torch.testing.assert_close(result, torch.stack([turned(t) for t in times]), atol=1e-12, rtol=0)


def test_exponential_and_logarithm():
    generator = torch.Generator().manual_seed(0)
    random = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64, generator=generator), dim=1)
    random = random * torch.linspace(0.01, 3.1, 50, dtype=torch.float64)[:, None]
    vectors = torch.cat([random, vector(0, 0, 0)[None], vector(1e-9, 0, 0)[None]])
    torch.testing.assert_close(splines.logarithm(splines.exponential(vectors)), vectors, atol=1e-12, rtol=1e-9)
    torch.testing.assert_close(splines.logarithm(-splines.exponential(vectors)), vectors, atol=1e-12, rtol=1e-9)


def test_two_or_equal_cameras_make_a_path():
    path = camera_paths.through([KEYS[0], KEYS[0], KEYS[1]], 30)
    assert all(camera.world_to_camera.isfinite().all() for camera in path)
    still = camera_paths.through([KEYS[0], KEYS[0]], 5)
    torch.testing.assert_close(still[3].world_to_camera, KEYS[0].world_to_camera, atol=1e-9, rtol=0)
    with pytest.raises(InputError, match="at least two"):
        camera_paths.through(KEYS[:1], 5)


def test_an_orbit_goes_all_around():
    path = camera_paths.orbit(scene_of(ring()), 60)
    focus = vector(5, -2, 1)
    arms = torch.stack([camera.position for camera in path]) - focus
    torch.testing.assert_close(arms[:, 2], torch.ones(60).double(), atol=1e-6, rtol=0)
    torch.testing.assert_close(arms.norm(dim=1), torch.full((60,), math.sqrt(10)).double(), atol=1e-6, rtol=0)
    for camera, arm in zip(path, arms, strict=True):
        torch.testing.assert_close(camera.forward, -arm / arm.norm(), atol=1e-6, rtol=0)
        assert float(camera.world_to_camera[1, 2]) < 0  # the image's y axis points down in the world
    steps = torch.atan2(arms[:, 1], arms[:, 0])
    steps = (steps.roll(-1) - steps + math.pi) % (2 * math.pi) - math.pi
    torch.testing.assert_close(steps.abs(), torch.full((60,), 2 * math.pi / 60).double(), atol=1e-6, rtol=0)


def test_an_orbit_stays_where_photos_were_taken():
    first, last = 0.4, 1.6
    for path in (
        camera_paths.orbit(scene_of(ring(first=first, last=last)), 80),
        camera_paths.spiral(scene_of(ring(first=first, last=last)), 80),
    ):
        arms = torch.stack([camera.position for camera in path]) - vector(5, -2, 1)
        angle = torch.atan2(arms[:, 1], arms[:, 0])
        assert float(angle.min()) > first - 0.05
        assert float(angle.max()) < last + 0.05
        assert float(angle.max() - angle.min()) > 0.8


def test_a_spiral_climbs_and_returns():
    low, high = ring(radius=3, height=0.5), ring(radius=2, height=2.5)
    path = camera_paths.spiral(scene_of([*low, *high]), 120, turns=2)
    arms = torch.stack([camera.position for camera in path]) - vector(5, -2, 1)
    height = arms[:, 2]
    assert float(height[0]) == pytest.approx(0.5, abs=0.1)
    assert float(height[60]) == pytest.approx(2.5, abs=0.1)
    assert float(arms[0].norm()) == pytest.approx(math.hypot(3, 0.5), rel=0.02)
    assert float(arms[60].norm()) == pytest.approx(math.hypot(2, 2.5), rel=0.02)


def test_cameras_straight_above_have_an_orbit():
    above = [looking(0.0, 0.0, 3.0 + 0.1 * i, (0.0, 0.001 * i, 0.0)) for i in range(3)]
    assert all(c.world_to_camera.isfinite().all() for c in camera_paths.orbit(scene_of(above), 8))


def test_files_come_back_as_they_were(tmp_path):
    camera_paths.write(tmp_path / "path.json", KEYS, 24.0)
    cameras, fps = camera_paths.read(tmp_path / "path.json")
    assert fps == 24.0
    for a, b in zip(cameras, KEYS, strict=True):
        torch.testing.assert_close(a.world_to_camera, b.world_to_camera, atol=1e-9, rtol=0)
        assert (a.fx, a.cx, a.cy, a.width, a.height) == pytest.approx((b.fx, b.cx, b.cy, b.width, b.height))


def test_a_file_has_opengl_axes(tmp_path):
    """Identity in OpenGL looks along −z with +y up."""
    identity = torch.eye(4).reshape(-1).tolist()
    content = {"render_width": 40, "render_height": 20, "camera_path": [{"camera_to_world": identity, "fov": 90.0}]}
    (tmp_path / "p.json").write_text(json.dumps(content))
    (camera,), fps = camera_paths.read(tmp_path / "p.json")
    assert fps == 30.0
    assert camera.fy == pytest.approx(10.0)
    assert camera.forward.tolist() == [0, 0, -1]
    xy, depth = camera.project(vector(0, 1, -1)[None])
    assert depth.tolist() == [1]
    assert xy[0].tolist() == pytest.approx([20, 0])


def path_file(camera_to_world: list[float]) -> str:
    frame = {"camera_to_world": camera_to_world, "fov": 50}
    return json.dumps({"render_width": 4, "render_height": 4, "camera_path": [frame]})


@pytest.mark.parametrize(
    "content",
    ["{", "[]", '{"render_width": 4, "render_height": 4, "camera_path": []}', path_file([1, 2]), path_file([2] * 16)],
)
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(InputError, match=r"p\.json( is no camera path|: its text)"):
        camera_paths.read(tmp_path / "p.json")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"p\.json: no such file"):
        camera_paths.read(tmp_path / "p.json")
