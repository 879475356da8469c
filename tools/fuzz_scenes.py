"""Seeds and readers for fuzzing what describes scenes: COLMAP folders, transforms.json, photos and camera paths."""

import json
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image

from splat.camera import Camera

VIEWS, SIZE = 3, (32, 24)
FISHEYE = [30, 31, 16, 12, 0.01, 0, 0, 0]  # fx, fy, cx, cy and four coefficients


def poses() -> list[np.ndarray]:
    """(4, 4) world-to-camera matrices on a circle around the origin."""
    up, found = torch.tensor([0.0, 0.0, 1.0]), []
    for k in range(VIEWS):
        position = torch.tensor([4 * np.cos(2.1 * k), 4 * np.sin(2.1 * k), 1.0])
        found.append(Camera.look_at(position, torch.zeros(3), up, *SIZE).world_to_camera.double().numpy())
    return found


def photos(folder: Path, names: list[str], mode: str = "RGB") -> None:
    """Grey pictures of these ``names`` in ``folder``."""
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, SIZE, (40 * number,) * len(mode)).save(folder / name)


def colmap(kind: str, stem: str, folder: Path) -> list[Path]:
    """Two scenes with models in files of ``kind`` ("bin" or "txt"); ``stem`` is the file to be damaged in each."""
    photos(folder / "images", [f"{k}.png" for k in range(VIEWS)])
    photos(folder / "rig/images", [f"side {c}/{f}.png" for f in range(2) for c in (1, 2)])
    paths = []
    for root, model in ((folder, cameras_apart()), (folder / "rig", cameras_of_a_rig())):
        place = root / "sparse" / "0"
        place.mkdir(parents=True)
        (model.write_binary if kind == "bin" else model.write_text)(str(place))
        paths.append(place / f"{stem}.{kind}")
    return paths


def cameras_apart() -> Any:
    """A COLMAP model of three cameras of different kinds, each of one photo with six points."""
    import pycolmap

    model, rng = pycolmap.Reconstruction(), np.random.default_rng(0)
    for number, (name, params) in enumerate((("PINHOLE", [30, 31]), ("OPENCV", [30, 31]), ("FOV", [30, 31])), 1):
        more = {"PINHOLE": [], "OPENCV": [-0.1, 0.01, 0, 0], "FOV": [0.5]}[name]
        camera = pycolmap.Camera(
            camera_id=number, model=name, width=SIZE[0], height=SIZE[1], params=[*params, 16, 12, *more]
        )
        model.add_camera_with_trivial_rig(camera)
    for k, pose in enumerate(poses()):
        points = pycolmap.Point2DList([pycolmap.Point2D(rng.uniform(4, 20, 2)) for _ in range(6)])
        image = pycolmap.Image(name=f"{k}.png", camera_id=k + 1, image_id=k + 1, points2D=points)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    for m in range(6):
        track = pycolmap.Track()
        for k in range(VIEWS):
            track.add_element(k + 1, m)
        model.add_point3D(rng.normal(size=3), track, np.zeros(3, np.uint8))
    return model


def cameras_of_a_rig() -> Any:
    """A COLMAP model of a rig of two cameras, one a fisheye, in two places; not every keypoint has a point."""
    import pycolmap

    model, rng = pycolmap.Reconstruction(), np.random.default_rng(0)
    for number, (name, params) in enumerate((("SIMPLE_RADIAL", [30, 16, 12, 0.05]), ("OPENCV_FISHEYE", FISHEYE)), 1):
        model.add_camera(pycolmap.Camera(camera_id=number, model=name, width=SIZE[0], height=SIZE[1], params=params))
    rig, beside = pycolmap.Rig(rig_id=1), np.eye(4)[:3]
    beside[0, 3] = 0.1
    rig.add_ref_sensor(model.cameras[1].sensor_id)
    rig.add_sensor(model.cameras[2].sensor_id, pycolmap.Rigid3d(beside))
    model.add_rig(rig)
    for f, pose in enumerate(poses()[:2]):
        frame, images = pycolmap.Frame(frame_id=f + 1, rig_id=1), []
        for c in (1, 2):
            points = pycolmap.Point2DList([pycolmap.Point2D(rng.uniform(4, 20, 2)) for _ in range(6)])
            image = pycolmap.Image(name=f"side {c}/{f}.png", camera_id=c, image_id=2 * f + c, points2D=points)
            image.frame_id = f + 1
            frame.add_data_id(image.data_id)
            images.append(image)
        frame.rig_from_world = pycolmap.Rigid3d(pose[:3])
        model.add_frame(frame)
        for image in images:
            model.add_image(image)
    for m in range(4):
        track = pycolmap.Track()
        for k in range(4):
            track.add_element(k + 1, m)
        model.add_point3D(rng.normal(size=3), track, np.zeros(3, np.uint8))
    return model


def transforms(folder: Path) -> list[Path]:
    """Scenes with a transforms.json of nerfstudio, of instant-ngp, and of Blender's synthetic sets."""
    return [nerfstudio(folder / "scene"), instant_ngp(folder / "ngp"), blender(folder / "blender")]


def frames() -> list[dict[str, Any]]:
    """Entries of a transforms.json."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    return [
        {"file_path": f"images/{k}.png", "transform_matrix": (np.linalg.inv(pose) @ flip).tolist()}
        for k, pose in enumerate(poses())
    ]


def nerfstudio(folder: Path) -> Path:
    """With a point cloud, a mask and a distorting lens."""
    photos(folder / "images", [f"{k}.png" for k in range(VIEWS)])
    entries = [{**frame, "k1": 0.01} for frame in frames()]
    entries[0]["mask_path"] = "images/0.png"
    names = [f"property float {axis}\n" for axis in "xyz"]
    text = "ply\nformat ascii 1.0\nelement vertex 2\n" + "".join(names) + "end_header\n0 0 0\n1 1 1\n"
    (folder / "p.ply").write_text(text)
    values = {"w": 32, "h": 24, "fl_x": 30.0, "fl_y": 30.5, "cx": 16.0, "cy": 12.0, "k1": 0.1, "p1": 0.0}
    whole = {**values, "camera_model": "OPENCV", "ply_file_path": "p.ply", "test_filenames": ["images/1.png"]}
    path = folder / "transforms.json"
    path.write_text(json.dumps({**whole, "frames": entries, "applied_transform": np.eye(4)[:3].tolist()}))
    return path


def instant_ngp(folder: Path) -> Path:
    """With intrinsics of each frame, angles for focal lengths, and names without endings."""
    photos(folder / "images", [f"{k}.png" for k in range(VIEWS)])
    entries = [{**frame, "file_path": frame["file_path"][:-4], "camera_angle_x": 0.98} for frame in frames()]
    path = folder / "transforms.json"
    path.write_text(json.dumps({"aabb_scale": 4, "camera_angle_x": 1.0, "k1": 0.02, "frames": entries}))
    return path


def blender(folder: Path) -> Path:
    """With files for training and testing, and transparent pictures."""
    photos(folder / "images", [f"{k}.png" for k in range(VIEWS)], "RGBA")
    entries = [{**frame, "file_path": f"./{frame['file_path'][:-4]}", "rotation": 0.01} for frame in frames()]
    for split, part in (("train", entries[:2]), ("test", entries[2:])):
        (folder / f"transforms_{split}.json").write_text(json.dumps({"camera_angle_x": 0.9, "frames": part}))
    return folder / "transforms_train.json"


def sparse_ply(folder: Path) -> list[Path]:
    """Point clouds as nerfstudio has them, binary and as text."""
    names = [f"property float {axis}\n" for axis in "xyz"] + [f"property uchar {c}\n" for c in ("red", "green", "blue")]
    head = "ply\nformat {} 1.0\nelement vertex 4\n" + "".join(names) + "end_header\n"
    (folder / "a.ply").write_bytes(head.format("binary_little_endian").encode() + bytes(range(60)))
    (folder / "b.ply").write_bytes(head.format("ascii").encode() + b"1 2.5 3 4 5 6\n" * 4)
    return [folder / "a.ply", folder / "b.ply"]


def pictures(folder: Path) -> list[Path]:
    """A photo in each format, with EXIF."""
    exif, paths = Image.Exif(), []
    exif[0x0112], exif[0x0110] = 6, "camera"
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8))
    for suffix in ("jpg", "png", "webp", "tif", "bmp", "gif"):
        paths.append(folder / f"a.{suffix}")
        image.save(paths[-1], **({"exif": exif} if suffix in ("jpg", "png", "webp", "tif") else {}))
    return paths


def camera_path(folder: Path) -> list[Path]:
    """A camera path."""
    from splat.viewpoints import paths

    cameras = [
        Camera.look_at(torch.tensor([x, 2.0, 3.0]), torch.zeros(3), torch.tensor([0.0, 1, 0]), 32, 24) for x in (0.0, 1)
    ]
    paths.write(folder / "a.json", cameras)
    return [folder / "a.json"]


def read_scene(path: Path) -> None:
    """All that `splat info` reads of the scene around the damaged file, and its photos undistorted."""
    from splat.scene import load_scene, random_points

    folder = path if path.is_dir() else path.parent
    if folder.parent.name == "sparse":
        folder = folder.parent.parent
    with patch.object(random_points, "random_points", partial(random_points.random_points, count=200)):
        scene = load_scene(folder, progress=False)
    for view in scene.views:
        if max(view.camera.width, view.camera.height) > 4096:
            raise AssertionError(f"a picture of {view.camera.width}×{view.camera.height} pixels")
        view.load()
    assert scene.points.xyz.isfinite().all() and np.isfinite(scene.extent)
    for view in scene.views:
        ids, _ = view.keypoints()
        assert len(ids) == 0 or int(ids.max()) < len(scene.points)


def read_sparse_ply(path: Path) -> None:
    """The points of a transforms.json."""
    from splat.scene.readers.sparse_ply import read_ply_points

    xyz, rgb, _ = read_ply_points(path)
    assert xyz.shape == rgb.shape and rgb.dtype == np.uint8


def read_picture(path: Path) -> None:
    """A photo's header, pixels, and pixels as a mask."""
    from splat.scene.images import decode, decode_mask, read_header

    header = read_header(path)
    pixels = decode(path, turn=True, keep_alpha=True)
    assert pixels.shape[1::-1] == header.turned
    decode_mask(path, pixels.shape[:2], True, path)


def read_path(path: Path) -> None:
    """A camera path."""
    from splat.viewpoints import paths

    cameras, fps = paths.read(path)
    assert fps > 0 and all(camera.world_to_camera.isfinite().all() for camera in cameras)
