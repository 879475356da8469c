"""Depth maps of a known sphere come back as that sphere: closed, right size, right side out, nothing unobserved."""

import sys

import numpy as np
import pytest
import torch
from support.shapes import cameras_around, sphere_depth, store_of, volume

from splat.camera import Camera
from splat.errors import InputError
from splat.surface import pipeline
from splat.surface.fusion import tsdf
from splat.surface.fusion.contraction import Space
from splat.surface.fusion.marching_cubes import marching_cubes
from splat.surface.fusion.truncation import disagreement
from splat.surface.options import MeshOptions


@pytest.fixture(scope="module")
def sphere_maps():
    cameras = cameras_around(16, 120)
    return store_of(cameras, [sphere_depth(camera) for camera in cameras])


def meshed(maps, **options):
    options = {"resolution": 48} | options
    return pipeline.mesh_maps(maps, MeshOptions(**options), lambda *_: None, pipeline.Clock(), [])


@pytest.mark.parametrize("unbounded", [False, True])
def test_sphere_is_closed_and_exact(sphere_maps, unbounded):
    result = meshed(sphere_maps, unbounded=unbounded)
    mesh = result.mesh
    error = np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1)
    assert mesh.watertight and mesh.open_edges == 0 and result.dropped == 0
    assert error.mean() < 0.12 * result.space.voxel and error.max() < result.space.voxel
    assert volume(mesh) == pytest.approx(4 / 3 * np.pi, rel=0.02)
    assert (mesh.colours == 200).all()


def test_tiles_leave_no_trace(sphere_maps, monkeypatch):
    whole = meshed(sphere_maps).mesh
    monkeypatch.setattr("splat.surface.fusion.marching_cubes.TILE", 2)
    tiled = meshed(sphere_maps).mesh
    assert tiled.watertight and len(tiled.faces) == len(whole.faces)
    order = [np.lexsort(np.round(each.vertices, 6).T) for each in (whole, tiled)]
    assert np.allclose(whole.vertices[order[0]], tiled.vertices[order[1]], atol=1e-5)


def test_nothing_where_nothing_was_seen():
    cameras = [camera for camera in cameras_around(24, 120) if float(camera.position[2]) > 1.0]
    maps = store_of(cameras, [sphere_depth(camera) for camera in cameras])
    mesh = meshed(maps).mesh
    assert not mesh.watertight
    seen = np.zeros(len(mesh.vertices), bool)
    for index, camera in enumerate(cameras):
        xy, z = (each.numpy() for each in camera.project(torch.from_numpy(mesh.vertices)))
        column, row = xy.astype(int).T
        near = [maps[index].depth[row + i, column + j] for i in (-1, 0, 1) for j in (-1, 0, 1)]
        # Nothing is said farther behind a surface than the truncation.
        seen |= (np.abs(np.stack(near) - z) < 4 * 2 * 1.05 / 48).any(0)
    assert seen.all()
    assert mesh.vertices[:, 2].min() > -0.9  # the far side was never seen


def test_an_empty_pixel_carves_what_one_view_imagines():
    cameras = cameras_around(16, 120)
    depths = [sphere_depth(camera) for camera in cameras]
    depths[3] = np.minimum(depths[3], np.where(np.isfinite(depths[3]), 1.2, np.inf))  # floats before the sphere
    mesh = meshed(store_of(cameras, depths)).mesh
    assert np.abs(np.linalg.norm(mesh.vertices, axis=1) - 1).max() < 0.1


def test_field_is_the_truncated_distance():
    camera = cameras_around(3, 64)[1]
    pose = camera.world_to_camera
    maps = store_of([camera], [np.full((64, 64), 2.0)])
    space = Space(np.zeros(3), 0.05)
    field = tsdf.fuse(maps, space, tsdf.find_blocks(maps, space, 4.0, None), 4.0)
    cells = field.blocks[:, None] * 8 + np.stack(np.meshgrid(*[np.arange(8)] * 3, indexing="ij"), -1).reshape(-1, 3)
    z = (space.to_world(cells) @ pose[:3, :3].numpy().T + pose[:3, 3].numpy())[..., 2].ravel()
    known = field.weight.ravel() > 0
    assert known.any()
    assert np.allclose(field.distance.ravel()[known], np.clip((2.0 - z) / 0.2, -1, 1)[known], atol=1e-5)
    assert (z[known] < 2.2 + 1e-6).all()


def test_memory_bound_makes_voxels_grow(sphere_maps):
    notes: list[str] = []
    options = MeshOptions(resolution=512, megabytes=2)
    result = pipeline.mesh_maps(sphere_maps, options, lambda *_: None, pipeline.Clock(), notes)
    assert result.blocks * 4096 <= 2 << 20 and "MB" in notes[0]


def test_box_crops(sphere_maps):
    mesh = meshed(sphere_maps, box=(-2, -2, 0, 2, 2, 2)).mesh
    assert mesh.vertices[:, 2].min() >= 0 and mesh.vertices[:, 2].max() > 0.95


def test_empty_maps_say_why():
    cameras = cameras_around(4, 32)
    with pytest.raises(InputError, match="no view shows a surface"):
        meshed(store_of(cameras, [np.zeros((32, 32))] * 4))
    with pytest.raises(InputError, match="no view shows a surface"):
        meshed(store_of(cameras, [np.full((32, 32), np.inf)] * 4))


def test_contraction_and_back():
    space = Space(np.array([1.0, -2.0, 0.5]), 0.01, 2.0)
    rng = np.random.default_rng(0)
    world = space.middle + rng.normal(size=(1000, 3)) * rng.uniform(0.1, 8, (1000, 1))
    world = world[np.linalg.norm(world - space.middle, axis=1) < 18]
    assert np.allclose(space.to_world(space.to_grid(world)), world, atol=1e-9)
    step = space.to_world(space.to_grid(world) + 1e-4 * (world - space.middle) / np.linalg.norm(
        world - space.middle, axis=1, keepdims=True))  # fmt: skip
    assert np.allclose(np.linalg.norm(step - world, axis=1) / 1e-4, space.size_at(world), rtol=2e-3)


def test_marching_cubes_without_crossing_gives_nothing():
    field = tsdf.Field(
        Space(np.zeros(3), 1.0), np.zeros((1, 3), np.int64), np.ones((1, 8, 8, 8), np.float32),
        np.ones((1, 8, 8, 8), np.float32), 4.0,
    )  # fmt: skip
    vertices, faces = marching_cubes(field)
    assert len(vertices) == 0 and len(faces) == 0


def test_truncation_follows_how_far_views_disagree():
    # Two errors, even within ±e, differ by less than 2e (1 − √0.03) in 97 % of all cases.
    pose = torch.eye(4, dtype=torch.float64)
    cameras = []
    for place in (0.0, 0.1, 0.2):
        pose = pose.clone()
        pose[0, 3] = -place
        cameras.append(Camera(100.0, 100.0, 60.0, 60.0, 120, 120, pose))
    rng = np.random.default_rng(0)
    found = []
    for error in (0.0, 0.06):
        maps = store_of(cameras, [3 + rng.uniform(-error, error, (120, 120)) for _ in cameras])
        found.append(disagreement([maps[i] for i in range(3)]))
    assert found[0] < 1e-6 and found[1] == pytest.approx(0.12 * (1 - 0.03**0.5), rel=0.03)
    assert disagreement([maps[0]]) == 0


def test_open3d_finds_the_same_sphere_where_it_is_installed(sphere_maps):
    pytest.importorskip("open3d")
    result = meshed(sphere_maps, fusion="open3d", unbounded=False)
    assert not result.notes
    error = np.abs(np.linalg.norm(result.mesh.vertices, axis=1) - 1)
    assert error.mean() < 0.25 * result.space.voxel and volume(result.mesh) == pytest.approx(4 / 3 * np.pi, rel=0.03)
    assert meshed(sphere_maps, fusion="open3d", unbounded=True).notes  # contracted space: ours, and it says so


def test_without_open3d_a_note_says_so_and_ours_fuses(sphere_maps, monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    notes: list[str] = []
    options = MeshOptions(resolution=32, fusion="open3d")
    mesh = pipeline.mesh_maps(sphere_maps, options, lambda *_: None, pipeline.Clock(), notes).mesh
    assert mesh.watertight and "open3d cannot be imported" in notes[0] and "our own" in notes[0]
