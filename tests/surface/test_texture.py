"""Textures: a sphere painted by its positions reads back right from GLB and OBJ; what cannot hold one says so."""

import numpy as np
import pytest
from support.shapes import cameras_around, sphere_depth, sphere_mesh, store_of

from splat.cli.mesh import FACES, FACES_TEXTURED, MeshCommand, _faces
from splat.errors import InputError
from splat.surface.depth.rasterized_depth import rays
from splat.surface.mesh import mesh_io
from splat.surface.mesh.mesh import Mesh, simplify
from splat.surface.mesh.texture import texture
from splat.surface.options import MeshOptions

trimesh = pytest.importorskip("trimesh")


def colour_of(points: np.ndarray) -> np.ndarray:
    return np.clip(128 + 100 * points, 0, 255)


def photograph(camera, depth) -> np.ndarray:
    """What a camera sees of a sphere whose colour tells the place."""
    pose, depth = camera.world_to_camera.double().numpy(), np.where(np.isfinite(depth), depth, 1)
    local = rays(camera).double().numpy() * depth[..., None]
    return colour_of((local - pose[:3, 3]) @ pose[:3, :3]).astype(np.uint8)


@pytest.fixture(scope="module")
def textured():
    pytest.importorskip("xatlas")
    cameras = cameras_around(16, 120)
    maps = store_of(cameras, [sphere_depth(camera) for camera in cameras])
    # The photos are twice as large as the depth maps.
    large = [camera.resized(240, 240) for camera in cameras]
    photos = [photograph(camera, sphere_depth(camera)) for camera in large]
    return texture(sphere_mesh(1.0, 24), [maps[i] for i in range(16)], 256, 0.05, lambda index: photos[index])


@pytest.mark.parametrize("suffix", [".glb", ".obj"])
def test_a_textured_sphere_reads_back(textured, suffix, tmp_path):
    path = tmp_path / f"a sphere{suffix}"
    mesh_io.write_textured(path, textured)
    loaded = trimesh.load(str(path), process=False, force="mesh")
    material = loaded.visual.material
    picture = material.baseColorTexture if suffix == ".glb" else material.image
    picture = np.asarray(picture.convert("RGB"), float)
    assert max(picture.shape) == 256 and len(loaded.faces) == len(sphere_mesh(1.0, 24).faces)
    places = loaded.visual.uv[loaded.faces].mean(1)  # trimesh counts upwards
    column = (places[:, 0] * picture.shape[1]).astype(int)
    row = ((1 - places[:, 1]) * picture.shape[0]).astype(int)
    middle = loaded.triangles.mean(1)
    error = np.abs(picture[row, column] - colour_of(middle / np.linalg.norm(middle, axis=1, keepdims=True)))
    assert error.mean() < 4 and np.quantile(error, 0.98) < 16
    beside = {each.name for each in tmp_path.iterdir()}
    assert beside == ({"a sphere.glb"} if suffix == ".glb" else {"a sphere.obj", "a_sphere.mtl", "a_sphere.jpg"})


def test_charts_do_not_overlap_and_keep_the_surface(textured):
    assert textured.mesh.areas.sum() == pytest.approx(sphere_mesh(1.0, 24).areas.sum(), rel=1e-5)
    assert textured.places.min() >= 0 and textured.places.max() <= 1
    corners = textured.places[textured.mesh.faces] * textured.image.shape[1::-1]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    used = 0.5 * np.abs(a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]).sum()
    assert 0.3 < used / np.prod(textured.image.shape[:2]) < 1


def test_what_holds_no_texture_says_so(textured, tmp_path):
    with pytest.raises(InputError, match="cannot hold a texture"):
        mesh_io.write_textured(tmp_path / "a.ply", textured)
    with pytest.raises(InputError, match="texture of 3 texels"):
        MeshOptions(texture=3)


def test_faces_by_default():
    def asked(**fields):
        return _faces(MeshCommand("a", "b", **fields))

    assert asked() == FACES and asked(texture=512) == FACES_TEXTURED
    assert asked(faces=0) is None and asked(faces=7, texture=512) == 7


def test_a_closed_shape_stays_closed_when_simplified():
    pytest.importorskip("fast_simplification")
    fine = sphere_mesh(1.0, 96)
    coarse = simplify(Mesh(fine.vertices, fine.faces), 1500)
    assert coarse.watertight and len(coarse.faces) <= 1600
    assert np.abs(np.linalg.norm(coarse.vertices, axis=1) - 1).max() < 0.02
