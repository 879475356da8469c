"""transforms.json of Blender, nerfstudio and instant-ngp."""

import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from support.scene_models import CAMERAS, make_model, ring_poses

from splat.scene import load_scene
from splat.scene.readers.json_lens import Values, lens_of

GL = np.diag([1.0, -1.0, -1.0, 1.0])


def write(
    root: Path, name: str, files: list[str], poses, suffix: str = "", frame_values=lambda k: {}, mode="RGB", **meta
):
    """A transforms file whose cameras are exactly ``poses`` (world-to-camera, OpenCV)."""
    frames = []
    for k, (file, pose) in enumerate(zip(files, poses, strict=True)):
        path = root / (file + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new(mode, (64, 48), (k, k, k, 200)[: len(mode)]).save(path)
        frames.append({"file_path": file, "transform_matrix": (np.linalg.inv(pose) @ GL).tolist(), **frame_values(k)})
    (root / name).write_text(json.dumps({"frames": frames, **meta}))


def check_poses(views, poses) -> None:
    for view, pose in zip(views, poses, strict=True):
        np.testing.assert_allclose(view.camera.world_to_camera, pose, atol=1e-9)


def test_blender(tmp_path) -> None:
    train, test = ring_poses(5), ring_poses(3, radius=3)
    angle = 0.6911112070083618
    write(
        tmp_path,
        "transforms_train.json",
        [f"./train/r_{k}" for k in range(5)],
        train,
        ".png",
        mode="RGBA",
        camera_angle_x=angle,
    )
    write(
        tmp_path,
        "transforms_test.json",
        [f"./test/r_{k}" for k in range(3)],
        test,
        ".png",
        mode="RGBA",
        camera_angle_x=angle,
    )
    scene = load_scene(tmp_path)
    assert scene.kind == "blender"
    assert [view.name for view in scene.test_views] == [f"test/r_{k}" for k in range(3)]
    check_poses(scene.train_views, train)
    check_poses(scene.test_views, test)
    camera = scene.views[0].camera
    assert camera.fx == camera.fy == pytest.approx(32 / math.tan(angle / 2))
    assert (camera.cx, camera.cy) == (32, 24)
    photo = scene.views[0].load()
    assert photo.alpha is not None and photo.mask is None
    masked = load_scene(tmp_path, alpha="mask").views[0].load()
    assert masked.alpha is None and masked.mask is not None


def test_points_are_random_in_the_common_view_and_said_so(tmp_path) -> None:
    write(tmp_path, "transforms_train.json", [f"{k}.png" for k in range(12)], ring_poses(12), camera_angle_x=0.7)
    scene = load_scene(tmp_path)
    assert "random" in scene.notes[-1] and not scene.points.measured
    assert len(scene.points) > 10_000
    seen = torch.zeros(len(scene.points))
    for view in scene.views:
        xy, depth = view.camera.project(scene.points.xyz)
        seen += (depth > 0) & (xy >= 0).all(1) & (xy[:, 0] <= 64) & (xy[:, 1] <= 48)
    assert seen.min() >= 4
    assert scene.points.xyz.norm(dim=1).median() < 2  # cameras stand 4 away from the origin they look at
    torch.testing.assert_close(scene.points.xyz, load_scene(tmp_path).points.xyz, rtol=0, atol=0)


def test_nerfstudio_with_ply(tmp_path) -> None:
    poses = ring_poses(6)
    xyz = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    rgb = np.arange(21, dtype=np.uint8).reshape(7, 3)
    types = [("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]
    rows = np.array([(*a, *b) for a, b in zip(xyz, rgb, strict=True)], types)
    lines = ["ply", "format binary_little_endian 1.0", "comment made by a test", "element vertex 7"]
    lines += [f"property float {axis}" for axis in "xyz"] + [
        f"property uchar {name}" for name in ("red", "green", "blue")
    ]
    write(
        tmp_path,
        "transforms.json",
        [f"images/frame_{k}.jpg" for k in range(6)],
        poses,
        frame_values=lambda k: {"fl_x": 50 + k, "fl_y": 60 + k, "cx": 30.5, "cy": 20.5, "w": 64, "h": 48},
        camera_model="OPENCV",
        ply_file_path="sparse_pc.ply",
        applied_transform=np.eye(4)[:3].tolist(),
        test_filenames=["images/frame_1.jpg"],
    )
    (tmp_path / "sparse_pc.ply").write_bytes(("\n".join([*lines, "end_header"]) + "\n").encode() + rows.tobytes())
    scene = load_scene(tmp_path)
    assert scene.kind == "nerfstudio" and not scene.notes
    check_poses(scene.views, poses)
    assert [view.camera.fx for view in scene.views] == [50, 51, 52, 53, 54, 55]
    assert (scene.views[0].camera.fy, scene.views[0].camera.cx, scene.views[0].camera.cy) == (60, 30.5, 20.5)
    np.testing.assert_array_equal(scene.points.xyz.numpy(), xyz.astype(np.float64))
    np.testing.assert_array_equal(scene.points.rgb, rgb)
    assert [view.name for view in scene.test_views] == ["frame_1.jpg"]
    ascii_rows = "\n".join(" ".join(str(value) for value in (*a, *b)) for a, b in zip(xyz, rgb, strict=True))
    (tmp_path / "sparse_pc.ply").write_text(
        "\n".join(lines).replace("binary_little_endian", "ascii") + f"\nend_header\n{ascii_rows}\n"
    )
    np.testing.assert_allclose(load_scene(tmp_path).points.xyz, xyz, atol=1e-6)


def test_nerfstudio_distortion_masks_and_downscale(tmp_path) -> None:
    fx, fy, cx, cy, *k = CAMERAS["OPENCV_FISHEYE"]
    values = {"fl_x": fx * 0.44, "fl_y": fy * 0.44, "cx": cx * 0.4, "cy": cy * 0.4, "w": 64, "h": 48}
    write(
        tmp_path,
        "transforms.json",
        [f"images/{i}.png" for i in range(4)],
        ring_poses(4),
        frame_values=lambda i: {"mask_path": "masks_own/m.png"} if i == 2 else {},
        camera_model="OPENCV_FISHEYE",
        **values,
        **{f"k{i + 1}": value for i, value in enumerate(k)},
    )
    (tmp_path / "masks_own").mkdir()
    PIL.Image.new("L", (64, 48)).save(tmp_path / "masks_own/m.png")
    (tmp_path / "images_2").mkdir()
    for i in range(4):
        PIL.Image.new("RGB", (32, 24)).save(tmp_path / f"images_2/{i}.png")
    scene = load_scene(tmp_path)
    assert scene.views[0].source.lens.model == "OPENCV_FISHEYE" and scene.views[0].source.lens.params[4:] == tuple(k)
    assert not scene.views[2].load().mask.any() and scene.views[1].load().mask is None
    assert "1 of 4 images have a mask" in " ".join(scene.notes)
    (tmp_path / "masks_own/m.png").unlink()
    PIL.Image.new("L", (64, 48)).save(tmp_path / "masks_own/m.png")
    half = load_scene(tmp_path, downscale=2, masks=False)
    assert half.views[0].source.path.parent.name == "images_2"
    assert half.views[0].camera.fx == pytest.approx(scene.views[0].camera.fx / 2)


@pytest.mark.parametrize(
    ("given", "model", "distortion"),
    [
        ({}, "OPENCV", [0.1, 0.2, 0.01, 0.02]),
        ({"k4": 0.4}, "FULL_OPENCV", [0.1, 0.2, 0.01, 0.02, 0.0, 0.4, 0.0, 0.0]),
        ({"k3": 0.3, "k5": 0.5, "k6": 0.6}, "FULL_OPENCV", [0.1, 0.2, 0.01, 0.02, 0.3, 0.0, 0.5, 0.6]),
        ({"camera_model": "PINHOLE"}, "PINHOLE", []),
    ],
)
def test_distortion_stands_in_the_order_of_its_model(given, model, distortion) -> None:
    size = {"w": 64, "h": 48, "fl_x": 50.0, "cx": 31.0, "cy": 25.0}
    values = {**size, "k1": 0.1, "k2": 0.2, "p1": 0.01, "p2": 0.02, **given}
    lens = lens_of(Values(values, {}, Path("transforms.json")), Path("a.png"))
    assert (lens.model, lens.params) == (model, (50.0, 50.0, 31.0, 25.0, *distortion))


def test_nerfstudio_points_of_its_colmap_model(tmp_path) -> None:
    """The json frame is COLMAP's after applied_transform, and so are the points."""
    applied = np.array([[1.0, 0, 0, 0.5], [0, 0, 1, 0], [0, -1, 0, -2], [0, 0, 0, 1]])
    reconstruction, xyz = make_model(tmp_path / "colmap")
    poses = [pose @ np.linalg.inv(applied) for pose in ring_poses(9)]
    write(
        tmp_path,
        "transforms.json",
        [f"images/{k}.png" for k in range(9)],
        poses,
        fl_x=56.0,
        fl_y=60.0,
        cx=30.8,
        cy=25.2,
        w=64,
        h=48,
        camera_model="PINHOLE",
        applied_transform=applied[:3].tolist(),
    )
    scene = load_scene(tmp_path)
    assert scene.kind == "nerfstudio"
    image = reconstruction.find_image_with_name("view_000.png")
    seen = image.get_observation_points2D()
    rows = [sorted(reconstruction.points3D).index(p.point3D_id) for p in seen]
    projected, _ = scene.views[0].camera.project(scene.points.xyz[rows])
    np.testing.assert_allclose(projected, np.array([p.xy for p in seen]) * 0.4, atol=1e-6)
    assert len(scene.points) == len(xyz)


def test_instant_ngp(tmp_path) -> None:
    poses = ring_poses(5)
    write(
        tmp_path,
        "transforms.json",
        [f"images/{k:04d}" for k in range(5)],
        poses,
        ".jpg",
        camera_angle_x=1.0,
        fl_x=55.0,
        fl_y=56.0,
        cx=31.0,
        cy=25.0,
        k1=0.05,
        k2=-0.01,
        p1=0.001,
        p2=-0.002,
        w=64.0,
        h=48.0,
        aabb_scale=4,
    )
    scene = load_scene(tmp_path / "transforms.json")
    assert scene.kind == "instant-ngp"
    check_poses(scene.views, poses)
    lens = scene.views[0].source.lens
    assert lens.model == "OPENCV" and lens.params == (55.0, 56.0, 31.0, 25.0, 0.05, -0.01, 0.001, -0.002)
    assert scene.views[0].load().rgb.shape == (scene.views[0].camera.height, scene.views[0].camera.width, 3)
