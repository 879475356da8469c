"""transforms.json of Blender's synthetic sets, nerfstudio and instant-ngp.

All three give camera-to-world matrices with OpenGL axes (x right, y up, z backwards); they differ in where the
intrinsics are and in what an image path may leave out. The world frame is kept as it is in the file.
"""

import math
import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member, parse_json, read_bytes, typed
from splat.scene.build import FARTHEST, RawScene, RawView
from splat.scene.images import IMAGE_SUFFIXES, read_header
from splat.scene.masks import find_masks
from splat.scene.readers.image_folder import ImageFolder, resolve, shrunk_folder
from splat.scene.readers.sparse_ply import read_sparse_points
from splat.scene.undistort import LARGEST_SIDE, MODELS, Lens, spherical, unknown_model

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def find_transforms(root: Path) -> Path | None:
    """transforms.json, or transforms_train.json, in ``root``."""
    for name in ("transforms.json", "transforms_train.json"):
        if (root / name).is_file():
            return root / name
    return None


def read_transforms(path: Path, downscale: float = 1.0) -> RawScene:
    """Read the scene described by ``path`` (and its sibling transforms_test.json). Raises InputError."""
    root = path.parent
    meta = _read_json(path)
    frames = _all_frames(path, meta)
    kind = _kind(meta, frames[0][0])
    files = [plain_path(frame["file_path"]) for frame, *_ in frames]
    top = _common_folder(files)
    names = [file[len(top) + 1 :] if top else file for file in files]
    folder = root / top if top else root
    shrunk, note = shrunk_folder(folder, names, downscale) if top else (ImageFolder(folder), None)
    masks = find_masks(folder, names)
    views, groups = [], {}
    for (frame, source, held_out, origin), name in zip(frames, names, strict=True):
        full = _with_suffix(folder, name)
        lens = _lens({**source, **_given(frame)}, full, origin)
        group = groups.setdefault(lens, len(groups))
        image = resolve(shrunk.path, name) if shrunk.factor > 1 else None
        mask = root / plain_path(frame["mask_path"]) if frame.get("mask_path") else masks.get(name)
        world_to_camera = _world_to_camera(frame, origin)
        views.append(RawView(name, image or full, lens, group, world_to_camera, held_out=held_out, mask=mask))
    points = read_sparse_points(root, meta, path)
    return RawScene(
        root,
        kind,
        views,
        xyz=None if points is None else points[0],
        rgb=None if points is None else points[1],
        notes=(note,) if note else (),
        transparent_background=kind != "nerfstudio",
        shrunk=shrunk.factor,
        origin=str(path),
    )


def _all_frames(path: Path, meta: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any], bool | None, Path]]:
    """Each frame with its file's contents, whether it is held out (None: not said), and its file."""
    if path.name == "transforms_train.json":
        frames = [(frame, meta, False, path) for frame in _frames(meta, path)]
        others = (path.parent / f"transforms_{split}.json" for split in ("test", "val"))
        other = next((each for each in others if each.is_file()), None)
        if other is not None:
            held_out = _read_json(other)
            frames += [(frame, held_out, True, other) for frame in _frames(held_out, other)]
        return frames
    with guarded(path, "'test_filenames'"):
        tests = {plain_path(typed(name, str, "a name")) for name in member(meta, "test_filenames", list, [])}
    if tests:
        return [(frame, meta, plain_path(frame["file_path"]) in tests, path) for frame in _frames(meta, path)]
    return [(frame, meta, None, path) for frame in _frames(meta, path)]


def _read_json(path: Path) -> dict[str, Any]:
    """The contents, without what is null: exporters write a missing value so."""
    return _given(parse_json(read_bytes(path), path, "its text"))


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _frames(meta: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    frames = meta.get("frames")
    if not isinstance(frames, list) or not frames:
        raise InputError(f"{path} has no 'frames', expected a list with one entry per image; export it again")
    for index, frame in enumerate(frames):
        with guarded(path, f"frame {index}"):
            member(frame, "file_path", str)
            member(frame, "transform_matrix", list)
            if frame.get("mask_path") is not None:
                member(frame, "mask_path", str)
    return frames


def _kind(meta: dict[str, Any], frame: dict[str, Any]) -> str:
    if "aabb_scale" in meta or "is_fisheye" in meta or "n_extra_learnable_dims" in meta:
        return "instant-ngp"
    if "camera_angle_x" in meta and not ({"fl_x", "camera_model"} & (meta.keys() | frame.keys())):
        return "blender"
    return "nerfstudio"


def plain_path(file: str) -> str:
    """A path of the file with forward slashes and no leading './', whatever system it was written on."""
    return PurePosixPath(file.replace("\\", "/")).as_posix()


def _common_folder(files: list[str]) -> str:
    """The first folder if all files share it and it only holds images, as nerfstudio's ``images/``; else ''."""
    tops = {file.split("/")[0] if "/" in file else "" for file in files}
    top = tops.pop()
    return top if not tops and top not in ("", "..") else ""


def _with_suffix(folder: Path, name: str) -> Path:
    """The image file; Blender and instant-ngp leave the suffix out. The caller reports missing ones."""
    path = folder / name
    if os.path.isfile(path) or not path.name:
        return path
    for suffix in (".png", ".jpg", ".jpeg", *sorted(IMAGE_SUFFIXES)):
        candidate = path.with_name(path.name + suffix)
        if os.path.isfile(candidate):
            return candidate
    return path


def _lens(values: dict[str, Any], image: Path, path: Path) -> Lens:
    """Intrinsics of one frame, whose own values come before those of the whole file."""

    def number(key: str, default: float | None = None) -> float | None:
        return _number(values, key, default, path)

    width, height = number("w"), number("h")
    if not width or not height:
        if not os.path.exists(image):  # report a missing image as such
            raise InputError(f"the image {image} named in {path} does not exist; put it there or remove its frame")
        header = read_header(image)
        width, height = header.width, header.height
    if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
        raise InputError(
            f"'w' and 'h' in {path} are {width:g} and {height:g}, expected the images' size in pixels; export it again"
        )
    width, height = int(width), int(height)
    model = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    panorama = spherical(str(model), width, height)
    if panorama is not None:
        return panorama
    fx = number("fl_x") or _focal(number("camera_angle_x"), number("x_fov"), width)
    fy = number("fl_y") or _focal(number("camera_angle_y"), number("y_fov"), height)
    fx, fy = fx or fy, fy or fx
    if fx is None or fy is None:
        raise InputError(
            f"{path} gives no focal length, expected 'fl_x' in pixels or 'camera_angle_x' in radians; add one"
        )
    cx, cy = number("cx", width / 2), number("cy", height / 2)
    k = [number(f"k{i}", 0.0) for i in range(1, 7)]
    p = [number("p1", 0.0), number("p2", 0.0)]
    if "ftheta_p0" in values or model not in ("OPENCV", "OPENCV_FISHEYE", "PINHOLE", "SIMPLE_PINHOLE", "FULL_OPENCV"):
        raise unknown_model(str(path), "f-theta" if "ftheta_p0" in values else str(model))
    if model == "OPENCV_FISHEYE":
        distortion = k[:4]
    elif "PINHOLE" in model:
        model, distortion = "PINHOLE", []
    elif any(k[2:]):
        model, distortion = "FULL_OPENCV", [*k[:2], *p, *k[2:]]
    else:
        model, distortion = "OPENCV", [*k[:2], *p]
    assert model in MODELS
    return Lens(model, tuple(float(x) for x in (fx, fy, cx, cy, *distortion)), width, height)


def _number(values: dict[str, Any], key: str, default: float | None, path: Path) -> float | None:
    """The finite number ``key``, or ``default`` where there is none. Raises InputError for anything else."""
    with guarded(path, f"'{key}'"):
        if values.get(key) is None:
            return default
        number = float(member(values, key, float))
        if not math.isfinite(number):
            raise ValueError(f"it is {number}, expected a finite number")
        return number


def _focal(radians: float | None, degrees: float | None, size: int) -> float | None:
    angle = radians if radians is not None else None if degrees is None else math.radians(degrees)
    # Of an angle too small to divide by, the focal length is too large to be believed, and refused by name later.
    return None if not angle else 0.5 * size / (math.tan(0.5 * angle) or 1e-300)


def _world_to_camera(frame: dict[str, Any], path: Path) -> np.ndarray:
    """(4, 4) OpenCV world-to-camera; a rotation that is off by rounding is made exact."""
    try:
        given = np.array(frame["transform_matrix"], np.float64)
    except (ValueError, TypeError, OverflowError):
        given = np.zeros(0)
    if given.shape not in ((4, 4), (3, 4)):
        raise InputError(
            f"the transform_matrix of {frame['file_path']} in {path} is not a 4×4 matrix of numbers; "
            "export the file again"
        )
    camera_to_world = np.eye(4)
    camera_to_world[:3] = given[:3]
    camera_to_world = camera_to_world @ _OPENGL_TO_OPENCV
    if not (np.abs(camera_to_world) <= FARTHEST).all():
        return camera_to_world  # build() names the image
    u, scale, v = np.linalg.svd(camera_to_world[:3, :3])
    if np.abs(scale - 1).max() < 1e-2:
        camera_to_world[:3, :3] = u @ v
    result = np.eye(4)
    result[:3, :3] = camera_to_world[:3, :3].T
    result[:3, 3] = -camera_to_world[:3, :3].T @ camera_to_world[:3, 3]
    return result
