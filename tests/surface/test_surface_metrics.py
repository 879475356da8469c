"""Scores of shapes whose distances are known, alignment that is undone, drawing, pieces, files."""

import numpy as np
import pytest
import torch
import trimesh
from support.shapes import cameras_around, sphere_depth, sphere_mesh, square, volume

from splat.camera import Camera
from splat.errors import InputError
from splat.surface.evaluation import benchmarks, metrics, registration
from splat.surface.mesh import draw, mesh, mesh_io
from splat.surface.mesh.mesh import Mesh


def rotation(seed: int = 0) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))
    q = q * np.sign(np.diag(r))
    return q if np.linalg.det(q) > 0 else -q


def test_parallel_squares_are_as_far_as_they_are():
    upper, lower = (metrics.sample(square(z=z), 0.005) for z in (0.03, 0.0))
    scores = metrics.compare(upper, lower, [0.029, 0.035])
    assert scores.accuracy == pytest.approx(0.03, rel=0.02) and scores.chamfer == pytest.approx(0.03, rel=0.02)
    assert [f.f1 for f in scores.f_scores] == [0.0, 1.0]


def test_half_a_square_has_half_the_recall():
    half = Mesh(square().vertices * [0.5, 1, 1], square().faces)
    scores = metrics.compare(metrics.sample(half, 0.005), metrics.sample(square(), 0.005), [0.01])
    (f,) = scores.f_scores
    assert f.precision > 0.999 and f.recall == pytest.approx(0.51, abs=0.005)  # half, and a rim of one threshold
    assert f.f1 == pytest.approx(2 * f.recall / (1 + f.recall), rel=1e-3)
    assert scores.accuracy < 0.005 and scores.completeness == pytest.approx(0.125, abs=0.003)


def test_samples_are_even_and_repeat():
    points = metrics.sample(square(2.0), 0.01)
    assert len(points) == 40_000 and np.array_equal(points, metrics.sample(square(2.0), 0.01))
    counts = np.histogram2d(points[:, 0], points[:, 1], bins=4)[0]
    assert np.abs(counts / counts.mean() - 1).max() < 0.1
    inside = metrics.sample(square(2.0), 0.01, (0, 0, -1, 0.5, 0.5, 1))
    assert len(inside) == pytest.approx(2500, rel=0.1) and inside[:, :2].max() <= 0.5


def test_sight_leaves_out_what_lies_behind():
    camera = Camera.look_at(torch.tensor([0.0, 0, 3]), torch.zeros(3), torch.tensor([0.0, 1, 0]), 100, 100, 50.0)
    sight = metrics.Sight.of(sphere_mesh(), [camera])
    points = np.array([[0, 0, 1.0], [0, 0, -1.0], [0, 0, 2.0], [0, 0, 5.0], [1.3, 0, 0]])
    assert sight.seen(points, 0.02).tolist() == [True, False, True, False, True]


def test_umeyama_undoes_a_similarity():
    points = np.random.default_rng(1).normal(size=(50, 3))
    moved = 2.5 * points @ rotation().T + [1, 2, 3]
    found = registration.umeyama(points, moved)
    assert found.scale == pytest.approx(2.5) and np.allclose(found.rotation, rotation())
    assert np.allclose(found.apply(points), moved)
    mirrored = points * [1, 1, -1]
    assert np.linalg.det(registration.umeyama(points, mirrored).rotation) == pytest.approx(1)


def test_icp_brings_a_moved_mesh_back():
    rng = np.random.default_rng(2)
    target = rng.uniform(-1, 1, (4000, 3)) * [1, 0.6, 0.3]
    angle = np.radians(4)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    source = (target - [0.02, -0.03, 0.01]) @ turn
    found = registration.icp(source, target, 0.3)
    assert np.allclose(found.apply(source), target, atol=1e-3)
    with pytest.raises(InputError, match="cannot be aligned"):
        registration.icp(source + 100, target, 0.1)


def test_a_drawn_sphere_has_its_depth():
    camera = cameras_around(5, 90)[2]
    drawn = draw.draw(sphere_mesh(across=160), camera)
    true = sphere_depth(camera)
    both = (drawn.face >= 0) & np.isfinite(true)
    assert both.sum() > 0.97 * max((drawn.face >= 0).sum(), np.isfinite(true).sum())
    assert np.median(np.abs(drawn.depth - true)[both]) < 2e-3
    picture = draw.shaded(sphere_mesh(across=160), camera, drawn)
    assert (picture[~(drawn.face >= 0)] == 255).all() and picture[drawn.face >= 0].std() > 15


def test_a_floor_that_passes_the_camera_is_drawn_whole():
    floor = Mesh(np.array([[-50, 1, -50], [50, 1, -50], [50, 1, 50], [-50, 1, 50]], float), square().faces)
    camera = Camera(50.0, 50.0, 32, 32, 64, 64, torch.eye(4, dtype=torch.float64))
    drawn = draw.draw(floor, camera)
    assert (drawn.face[40:] >= 0).all() and (drawn.face[:32] < 0).all()
    assert drawn.depth[60, 5] == pytest.approx(50 / (60.5 - 32), rel=1e-4)


def test_small_pieces_go_and_largest_stay():
    big, small = sphere_mesh(), sphere_mesh(0.05, 16)
    both = Mesh(
        np.concatenate([big.vertices, small.vertices + 3]), np.concatenate([big.faces, small.faces + len(big.vertices)])
    )
    kept, dropped = mesh.drop_small_pieces(both, 0.1)
    assert dropped == 1 and kept.watertight and len(kept.vertices) == len(big.vertices)
    assert mesh.drop_small_pieces(both, 0.0)[1] == 0 and mesh.drop_small_pieces(both, 0.0, 1)[1] == 1
    assert mesh.drop_small_pieces(both, 1e9)[1] == 1  # never nothing


def test_simplified_sphere_stays_one():
    simple = mesh.simplify(sphere_mesh(across=96), 800)
    assert 600 <= len(simple.faces) <= 850 and simple.watertight
    assert volume(simple) == pytest.approx(4 / 3 * np.pi, rel=0.02)


@pytest.mark.parametrize("suffix", [".ply", ".obj", ".glb"])
def test_files_are_read_back_by_us_and_by_trimesh(tmp_path, suffix):
    rng = np.random.default_rng(0)
    own = sphere_mesh(across=12)
    own = Mesh(own.vertices, own.faces, rng.integers(0, 256, (len(own.vertices), 3)).astype(np.uint8))
    path = tmp_path / f"a{suffix}"
    mesh_io.write(path, own)
    other = trimesh.load(str(path), process=False, force="mesh")
    assert other.is_watertight and other.volume == pytest.approx(volume(own), rel=1e-5)
    back = mesh_io.read(path)
    assert np.allclose(back.vertices, own.vertices, atol=1e-6) and np.array_equal(back.faces, own.faces)
    assert np.abs(back.colours.astype(int) - own.colours).max() <= 1


def test_bad_files_are_refused(tmp_path):
    (tmp_path / "a.ply").write_bytes(b"ply\nnonsense")
    with pytest.raises(InputError, match="a.ply"):
        mesh_io.read(tmp_path / "a.ply")
    with pytest.raises(InputError, match="does not exist"):
        mesh_io.read(tmp_path / "none.ply")
    with pytest.raises(InputError, match="let it end in"):
        mesh_io.check_suffix(tmp_path / "a.stl")


# ---- protocols ----


def test_dtu_distances_of_nested_spheres():
    scan = metrics.sample(sphere_mesh(51.0), 0.5)
    accuracy, completeness, chamfer = benchmarks.dtu(sphere_mesh(50.0, 128), scan, spacing=1.0)
    assert accuracy == pytest.approx(1.05, abs=0.1) and completeness == pytest.approx(1.15, abs=0.15)
    assert chamfer == pytest.approx((accuracy + completeness) / 2)


def test_dtu_counts_only_what_was_observable_and_above_the_plane():
    scan = metrics.sample(sphere_mesh(50.0, 128), 0.5)
    far = sphere_mesh(50.0, 128)
    both = Mesh(
        np.concatenate([far.vertices, far.vertices + [0, 0, 115]]),
        np.concatenate([far.faces, far.faces + len(far.vertices)]),
    )
    seen = benchmarks.Observability(np.ones((101, 101, 101), bool), np.full(3, -50.0), 1.0)
    assert benchmarks.dtu(both, scan, seen, spacing=2.0)[0] < 0.5 < benchmarks.dtu(both, scan, spacing=2.0)[0]
    lower = far.keep(far.vertices[far.faces][..., 2].max(1) < 0)
    assert benchmarks.dtu(lower, scan, plane=np.array([0, 0, -1.0, -5]), spacing=2.0)[1] < 1.5


def test_spread_keeps_points_apart_and_covers():
    points = np.random.default_rng(0).uniform(size=(3000, 3))
    kept = benchmarks.spread(points, 0.1)
    gaps = metrics.cKDTree(kept).query(kept, 2)[0][:, 1]
    assert gaps.min() >= 0.1 and metrics.distances(points, kept).max() <= 0.1


def test_masks_cull_what_they_do_not_show():
    cameras = cameras_around(16, 100)
    masks = [np.isfinite(sphere_depth(camera)) for camera in cameras]
    big = sphere_mesh(0.9)
    both = Mesh(
        np.concatenate([big.vertices, big.vertices * 0.1 + 1.2]),
        np.concatenate([big.faces, big.faces + len(big.vertices)]),
    )
    kept = benchmarks.cull_by_masks(both, cameras, masks)
    assert len(kept.faces) == len(big.faces)


def test_tanks_and_temples_registers_before_it_judges():
    shape = metrics.sample(Mesh(sphere_mesh().vertices * [1, 0.7, 0.4], sphere_mesh().faces), 0.02)
    angle = np.radians(2)
    turn = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    moved = (shape / 1.02) @ turn + 0.02
    score, found = benchmarks.tanks_and_temples(moved, shape, 0.02, registration.Similarity.identity())
    assert score.f1 > 0.98 and found.scale == pytest.approx(1.02, rel=0.01)
