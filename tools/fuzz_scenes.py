"""Seeds and readers for fuzzing what describes scenes: COLMAP folders, transforms.json, photos, camera paths, and the
messages that browsers send to the viewer."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from splat.camera import Camera
from splat.errors import InputError

VIEWS, SIZE = 3, (32, 24)


def poses() -> list[np.ndarray]:
    """(4, 4) world-to-camera matrices on a circle around the origin."""
    up, found = torch.tensor([0.0, 0.0, 1.0]), []
    for k in range(VIEWS):
        position = torch.tensor([4 * np.cos(2.1 * k), 4 * np.sin(2.1 * k), 1.0])
        found.append(Camera.look_at(position, torch.zeros(3), up, *SIZE).world_to_camera.double().numpy())
    return found


def photos(folder: Path) -> None:
    """A picture for each view, in ``folder``/images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for k in range(VIEWS):
        Image.fromarray(np.full((SIZE[1], SIZE[0], 3), 40 * k, np.uint8)).save(folder / f"images/{k}.png")


def colmap(kind: str, stem: str, folder: Path) -> list[Path]:
    """A scene with a model in files of ``kind`` ("bin" or "txt"); ``stem`` is the file to be damaged."""
    import pycolmap

    photos(folder)
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
    place = folder / "sparse" / "0"
    place.mkdir(parents=True)
    (model.write_binary if kind == "bin" else model.write_text)(str(place))
    return [place / f"{stem}.{kind}"]


def transforms(folder: Path) -> list[Path]:
    """A scene described by a transforms.json, with a point cloud and masks."""
    photos(folder / "scene")
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {"file_path": f"images/{k}.png", "transform_matrix": (np.linalg.inv(pose) @ flip).tolist(), "k1": 0.01}
        for k, pose in enumerate(poses())
    ]
    frames[0]["mask_path"] = "images/0.png"
    names = [f"property float {axis}\n" for axis in "xyz"]
    text = "ply\nformat ascii 1.0\nelement vertex 2\n" + "".join(names) + "end_header\n0 0 0\n1 1 1\n"
    (folder / "scene/p.ply").write_text(text)
    values = {"w": 32, "h": 24, "fl_x": 30.0, "fl_y": 30.5, "cx": 16.0, "cy": 12.0, "k1": 0.1, "p1": 0.0}
    whole = {**values, "camera_model": "OPENCV", "ply_file_path": "p.ply", "test_filenames": ["images/1.png"]}
    path = folder / "scene/transforms.json"
    path.write_text(json.dumps({**whole, "frames": frames, "applied_transform": np.eye(4)[:3].tolist()}))
    return [path]


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
    from splat.scene import load_scene

    folder = path if path.is_dir() else path.parent
    if folder.parent.name == "sparse":
        folder = folder.parent.parent
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


# ---- messages of browsers ----


def pose_message(folder: Path) -> list[Path]:
    """What a browser says of its camera."""
    value: dict[str, Any] = {
        "wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0, 1.0, 2.0], "fov": 0.8, "image_width": 64, "image_height": 48,
    }  # fmt: skip
    (folder / "a.json").write_text(json.dumps(value))
    return [folder / "a.json"]


def read_pose_message(path: Path) -> None:
    """The camera that the viewer makes of a message, and the settings that it makes of values of controls."""
    from types import SimpleNamespace

    from splat.viewer.page import pose_of

    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(str(error).replace("\n", " ")[:200] or "deep") from error  # viser's own parser comes first
    if not isinstance(value, dict):
        return
    pose = pose_of(SimpleNamespace(camera=SimpleNamespace(**{str(key): each for key, each in value.items()})))
    if pose is None:
        return
    for longer, enlarge in ((1920, False), (1920, True), (160, False)):
        camera = pose.camera(longer, enlarge)
        assert camera.world_to_camera.isfinite().all() and max(camera.width, camera.height) <= 1920
