"""The demo scene: its files against pycolmap and brute-force ray casting, its rasterizer against brute force."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import PIL.Image
import pycolmap
import pytest

from splat.errors import InputError
from splat.scene import demo
from splat.scene.demo import bake, making, patterns, shapes, still_life
from splat.triangle_raster import NOTHING, rasterize


def quick_light(patch: pytest.MonkeyPatch) -> None:
    """Fewer light samples and coarser textures: the tests look at geometry."""
    build = still_life.build

    def coarse(seed: int) -> list[shapes.Patch]:
        return [replace(p, texels=tuple(max(2, n // 3) for n in p.texels)) for p in build(seed)]

    patch.setattr(still_life, "build", coarse)
    patch.setattr(bake, "LAMP_SAMPLES", 3)
    patch.setattr(bake, "SKY_SAMPLES", 6)


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        quick_light(patch)
        calls = []
        folder = demo.make(
            tmp_path_factory.mktemp("demo") / "scene", views=12, width=160, progress=lambda *c: calls.append(c)
        )
    assert calls == [(i + 1, 12) for i in range(12)]
    return folder


def read_mesh(path: Path) -> tuple[np.ndarray, np.ndarray]:
    plyfile = pytest.importorskip("plyfile")
    ply = plyfile.PlyData.read(path)
    vertices = np.stack([ply["vertex"][k] for k in "xyz"], 1).astype(float)
    return vertices, np.stack(list(ply["face"]["vertex_indices"]))


def first_hit(origin, direction, vertices, faces) -> float:
    """Distance along a ray to the nearest triangle (Möller and Trumbore 1997)."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    e1, e2 = b - a, c - a
    p = np.cross(direction, e2)
    det = (e1 * p).sum(1)
    det[np.abs(det) < 1e-14] = np.nan
    s = origin - a
    u, q = (s * p).sum(1) / det, np.cross(s, e1)
    v, t = (q @ direction) / det, (q * e2).sum(1) / det
    hit = (u >= -1e-6) & (v >= -1e-6) & (u + v <= 1 + 1e-6) & (t > 1e-6)
    return float(t[hit].min()) if hit.any() else np.inf


def test_it_is_a_colmap_scene(scene):
    model = pycolmap.Reconstruction(scene / "sparse" / "0")
    assert model.num_reg_images() == 12
    assert [c.model.name for c in model.cameras.values()] == ["PINHOLE"]
    assert sorted(image.name for image in model.images.values()) == sorted(p.name for p in (scene / "images").iterdir())
    camera = next(iter(model.cameras.values()))
    with PIL.Image.open(scene / "images" / "0003.png") as image:
        assert image.size == (camera.width, camera.height) == (160, 120)
    meta = json.loads((scene / "meta.json").read_text())
    assert meta["points"] == model.num_points3D() > 1000
    assert meta["test_images"] == ["0000.png", "0008.png"]
    assert not [p for p in scene.parent.iterdir() if p != scene]


def test_tracks_are_true(scene):
    """Every keypoint lies where its point projects (up to the noise), and the point is really seen there."""
    model = pycolmap.Reconstruction(scene / "sparse" / "0")
    vertices, faces = read_mesh(scene / "mesh_gt.ply")
    errors, depths = [], []
    rng = np.random.default_rng(0)
    for image in model.images.values():
        matrix = image.cam_from_world().matrix()
        camera = model.cameras[image.camera_id]
        seen = [p for p in image.points2D if p.has_point3D()]
        world = np.array([model.points3D[p.point3D_id].xyz for p in seen])
        local = world @ matrix[:, :3].T + matrix[:, 3]
        xy = local[:, :2] / local[:, 2:] * camera.params[:2] + camera.params[2:]
        errors.append(xy - np.array([p.xy for p in seen]))
        centre = -matrix[:, :3].T @ matrix[:, 3]
        for k in rng.choice(len(seen), 6, replace=False):
            ray = world[k] - centre
            depths.append(np.linalg.norm(ray) * (1 - first_hit(centre, ray, vertices, faces)))
    errors = np.concatenate(errors)
    assert np.abs(errors.mean(0)).max() < 0.02
    assert errors.std() == pytest.approx(0.3, rel=0.05)
    # Metres between the point and the first triangle on the way to it; a wire may slip between two samples.
    assert (np.abs(depths) < 0.02).mean() > 0.95
    assert np.median(np.abs(depths)) < 1e-6
    assert all(len(point.track.elements) >= 3 for point in model.points3D.values())


def test_point_colours_are_those_of_the_pictures(scene):
    model = pycolmap.Reconstruction(scene / "sparse" / "0")
    image = next(i for i in model.images.values() if i.name == "0005.png")
    pixels = np.asarray(PIL.Image.open(scene / "images" / "0005.png")).astype(int)
    seen = [p for p in image.points2D if p.has_point3D()]
    x, y = np.clip(np.array([p.xy for p in seen]).astype(int).T, 0, [[159], [119]])
    difference = np.abs(pixels[y, x] - np.array([model.points3D[p.point3D_id].color for p in seen]).astype(int))
    assert np.median(difference) < 20


def test_equal_arguments_give_equal_files(tmp_path, monkeypatch):
    quick_light(monkeypatch)
    one = making.make(tmp_path / "one", 8, 64, 5, lambda *c: None, 1)
    two = making.make(tmp_path / "two", 8, 64, 5, lambda *c: None, 3)
    files = sorted(p.relative_to(one) for p in one.rglob("*") if p.is_file())
    assert len(files) == 8 + 5 + 2
    for name in files:
        assert (one / name).read_bytes() == (two / name).read_bytes(), name


def test_other_files_are_not_replaced(tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(InputError, match="already holds other files"):
        demo.make(tmp_path)
    with pytest.raises(InputError, match="at least 8"):
        demo.make(tmp_path / "x", views=3)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def brute_force(points, faces, one_sided, width, height):
    """Nearest triangle per sample by testing every triangle."""
    y, x = np.mgrid[:height, :width] + 0.5
    best, face = np.full((height, width), -np.inf), np.full((height, width), NOTHING)
    for index, corner in enumerate(faces):
        (ax, ay, an), (bx, by, bn), (cx, cy, cn) = points[corner]
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if not np.isfinite(an + bn + cn) or area == 0 or (area > 0 and one_sided[index]):
            continue
        wb = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
        wc = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
        inside = (wb >= 0) & (wc >= 0) & (wb + wc <= 1)
        nearness = an + wb * (bn - an) + wc * (cn - an)
        better = inside & (nearness > best)
        best, face = np.where(better, nearness, best), np.where(better, index, face)
    return face, best


def test_rasterizer_equals_brute_force():
    rng = np.random.default_rng(1)
    middle = rng.uniform(-10, 60, (80, 1, 2))
    corners = middle + rng.normal(0, 1, (80, 3, 2)) * rng.choice([0.4, 4, 30], (80, 1, 1))
    points = np.concatenate([corners, rng.uniform(0.2, 1, (80, 3, 1))], -1).reshape(-1, 3)
    points[7, 2] = np.nan
    faces = np.arange(240).reshape(-1, 3).astype(np.int32)
    one_sided = rng.random(80) < 0.5
    seen = rasterize(points, faces, one_sided, 52, 41)
    face, nearness = brute_force(points, faces, one_sided, 52, 41)
    assert (seen.face == face).all()
    assert np.isfinite(nearness).any()
    hit = face != NOTHING
    assert np.allclose(seen.nearness[hit], nearness[hit], rtol=1e-5)


def test_a_mesh_is_drawn_without_cracks():
    rng = np.random.default_rng(2)
    v, u = np.meshgrid(np.linspace(-3, 67, 24), np.linspace(-3, 67, 24), indexing="ij")
    points = np.stack([u + rng.uniform(-1, 1, u.shape), v + rng.uniform(-1, 1, u.shape), 0 * u + 1], -1).reshape(-1, 3)
    faces = shapes.grid_faces(24, 24)
    assert (rasterize(points, faces, np.zeros(len(faces), bool), 64, 64).face != NOTHING).all()


def volume(grids) -> float:
    """Signed volume inside closed surfaces; positive when their triangles face outwards."""
    total = 0.0
    for grid in grids:
        a, b, c = (grid.reshape(-1, 3)[shapes.grid_faces(*grid.shape[:2])[:, k]] for k in range(3))
        total += (a * np.cross(b, c)).sum() / 6
    return total


def test_surfaces_face_outwards():
    assert volume([shapes.sphere((1.0, 2.0, 3.0), 0.5, 60, 120)]) == pytest.approx(4 / 3 * np.pi * 0.125, rel=0.01)
    assert volume(shapes.box((1.0, 2.0, 3.0))) == pytest.approx(6.0)
    angle = np.linspace(0, 2 * np.pi, 201)[:-1]
    # A bent ring, so that the frame carried along it comes back turned.
    ring = np.stack([2 * np.cos(angle), 2 * np.sin(angle), 0.4 * np.sin(2 * angle)], 1)
    torus = shapes.closed_tube(ring, 0.3, 24)
    length = np.linalg.norm(np.roll(ring, -1, 0) - ring, axis=1).sum()
    assert volume([torus]) == pytest.approx(np.pi * 0.09 * length, rel=0.03)
    assert np.linalg.norm(np.diff(torus, axis=1), axis=-1).max() < 0.12
    assert np.allclose(np.linalg.norm(torus[:, :-1] - ring, axis=-1), 0.3)


def test_normals_of_a_ball_point_away_from_its_centre():
    grid = shapes.sphere((0.0, 0.0, 0.0), 2.0, 40, 80)
    assert (np.abs(bake.grid_normals(grid) - grid / 2).max()) < 0.02


def test_resample_keeps_corners_and_straight_lines():
    grid = np.stack(np.meshgrid(np.arange(4.0), np.arange(5.0)), -1)
    fine = shapes.resample(grid, 9, 13)
    assert np.allclose(fine, np.stack(np.meshgrid(np.linspace(0, 3, 13), np.linspace(0, 4, 9)), -1))


def test_colours_are_linear_and_noise_is_smooth():
    assert patterns.colour("#ff8000") == pytest.approx([1.0, 0.2158605, 0.0], abs=1e-6)
    line = np.stack([np.linspace(-3, 3, 2001), np.full(2001, 0.3), np.full(2001, -7.7)], -1)
    values = patterns.noise(line, 1.0, 1)
    assert values.min() >= 0 and values.max() <= 1 and values.std() > 0.1
    assert np.abs(np.diff(values)).max() < 0.006


def test_a_ball_throws_a_shadow():
    patches = [
        shapes.Patch(shapes.disc(1.5, 0.0, 9), (2, 2), lambda p, u, v: p, casts_shadow=False),
        shapes.Patch(shapes.sphere((0.0, 0.0, 0.5), 0.3, 21, 41), (2, 2), lambda p, u, v: p),
    ]
    mesh = bake.assemble(patches)
    below, beside = [0.0, 0.0, 0.0], [1.2, 0.0, 0.0]
    points, normal = np.array([below, beside], np.float32), np.array([[0, 0, 1]] * 2, np.float32)
    up = np.array([0.0, 0.0, 1.0])
    assert bake.sky_shadow(mesh.vertices, mesh.faces[mesh.caster], points, normal, up).tolist() == [0, 1]
    # From (−3.6, 0, 3) the ray to `beside` passes 0.23 m from the ball's centre, the ray to `below` 0.38 m.
    lamp = np.array([-3.6, 0.0, 3.0])
    assert bake.lamp_shadow(mesh.vertices, mesh.faces[mesh.caster], points, normal, lamp).tolist() == [1, 0]
