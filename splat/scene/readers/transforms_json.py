"""transforms.json of Blender's synthetic sets, nerfstudio and instant-ngp.

All three give camera-to-world matrices with OpenGL axes (x right, y up, z backwards); they differ in where the
intrinsics are and in what an image path may leave out. The world frame is kept as it is in the file.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member, parse_json, read_bytes
from splat.scene.build import FARTHEST, RawScene, RawView, again_note, check_name
from splat.scene.listing import listed
from splat.scene.masks import find_masks
from splat.scene.readers.image_folder import (
    Photos,
    beside_note,
    find_photos,
    match_file,
    match_names,
    missing_note,
    photos_in,
    relative_names,
)
from splat.scene.readers.json_lens import Values, lens_of
from splat.scene.readers.json_points import AXES, find_points
from splat.scene.readers.json_split import SPLITS, lists_of, plain_path, split_of
from splat.scene.undistort import ONE_FOCAL_MODELS, SPHERICAL, Lens

_USUAL = ("transforms.json", "transforms_train.json")
_LARGEST = 256 << 20  # bytes of a json that is looked into for frames
_MOST = 100  # of them
_UNIFORM = 1e-2  # by which the scales of a matrix's axes may differ


@dataclass(frozen=True)
class _Frame:
    """One entry of 'frames', the file that it is from and that file's contents."""

    values: dict[str, Any]
    whole: dict[str, Any]
    path: Path


def usual_transforms(root: Path) -> Path | None:
    """transforms.json, or transforms_train.json, in ``root``."""
    return next((root / name for name in _USUAL if (root / name).is_file()), None)


def find_transforms(root: Path) -> tuple[Path | None, list[str]]:
    """The file in ``root`` that describes frames, under a usual name or any other, and notes about others."""
    with guarded(root, "the folder"):
        names = sorted(name for name in os.listdir(root) if name.lower().endswith(".json"))[:_MOST]
    usual = usual_transforms(root)
    if usual is not None and len(names) == 1:
        return usual, []
    sizes = {name: size for name in names if (size := _frame_count(root / name)) or name == getattr(usual, "name", "")}
    if not sizes:
        return None, []
    name = usual.name if usual else max(sizes, key=lambda name: ("train" in name.lower(), sizes[name]))
    siblings = {path.name for path in _siblings(root / name).values()}
    others = [other for other in sizes if other != name and other not in siblings]
    if not others:
        return root / name, [] if usual else [f"the cameras are those of {name}"]
    return root / name, [f"the cameras are those of {name}; frames are in {listed(others)} too"]


def _frame_count(path: Path) -> int:
    """Frames in a json file; 0 where it is about something else. One that is damaged counts as having one."""
    try:
        data = read_bytes(path, _LARGEST)
    except InputError:  # a pipe, or as large as no description is
        return 0
    if not all(word in data or word.decode().encode("utf-16-le") in data for word in (b"frames", b"transform_matrix")):
        return 0
    try:
        frames = parse_json(data, path, "its text").get("frames")
    except InputError:  # said when the file is read
        return 1
    return len(frames) if isinstance(frames, list) else 0


def _siblings(path: Path) -> dict[str, Path]:
    """The files of the other splits, where ``path`` is named as the one of the training split."""
    stem = path.stem
    if not stem.lower().endswith("train"):
        return {}
    others = {split: path.with_name(stem[:-5] + split + path.suffix) for split in ("val", "test")}
    return {split: other for split, other in others.items() if other.is_file()}


def read_transforms(path: Path, downscale: float = 1.0) -> RawScene:
    """Read the scene described by ``path`` (and its siblings for validation and test). Raises InputError."""
    root = path.parent
    meta = _read_json(path)
    frames, named, notes = _all_frames(path, meta)
    for frame in frames:
        check_name(plain_path(frame.values["file_path"]), str(frame.path))
    files = relative_names([plain_path(frame.values["file_path"]) for frame in frames], (root,))
    top = _common_folder(files)
    names = [file[len(top) + 1 :] if top else file for file in files]
    photos = _photos(root, top, names, downscale, str(path))
    again = again_note([name for name in names if name in photos.files], path.name)
    rows = list(_first_rows(names, named, photos).values())
    split = split_of([named[row] for row in rows], [files[row] for row in rows], notes)
    kind = _kind(meta, frames[0].values)
    masks = find_masks(photos.folder, names)
    lenses, ignored = _lenses(frames, rows, names, photos)
    poses, said = _poses([frames[row] for row in rows])
    numbers = np.array([_place(lens) for lens in lenses]).reshape(-1, 6)
    points = find_points(root, meta, path, [names[row] for row in rows], poses, numbers)
    if points.flip:
        poses = AXES @ poses
    views, groups = [], {}
    for index, (row, lens, pose) in enumerate(zip(rows, lenses, poses, strict=True)):
        group = groups.setdefault(lens, len(groups))
        name, mask = names[row], _mask(root, frames[row].values) or masks.get(names[row])
        held_out, left_out = split.held_out[index], index in split.left_out
        views.append(
            RawView(name, photos.files[name], lens, group, pose, held_out=held_out, left_out=left_out, mask=mask)
        )
    unnamed = beside_note(photos, [view.mask for view in views if view.mask], "no frame")
    notes = (*photos.notes, *missing_note(names, photos, path.name), *again, *ignored, *said, *points.notes)
    return RawScene(
        root,
        kind,
        views,
        xyz=points.xyz,
        rgb=points.rgb,
        notes=(*notes, *unnamed),
        split_notes=tuple(split.notes),
        transparent_background=kind != "nerfstudio",
        shrunk=photos.factor,
        origin=str(path),
    )


def _all_frames(path: Path, meta: dict[str, Any]) -> tuple[list[_Frame], list[set[str]], list[str]]:
    """Frames of the file and its siblings, the splits that each is named in, and notes."""
    frames = [_Frame(frame, meta, path) for frame in _frames(meta, path)]
    siblings = _siblings(path)
    if path.stem.lower() == "transforms_train" or siblings:
        named = [{"train"} for _ in frames]
        for split, other in siblings.items():
            values = _read_json(other)
            more = [_Frame(frame, values, other) for frame in _frames(values, other)]
            frames += more
            named += [{split} for _ in more]
        return frames, named, []
    if any(f"{split}_filenames" in meta for split in SPLITS):
        return frames, *lists_of(meta, [plain_path(frame.values["file_path"]) for frame in frames], path)
    return frames, [set() for _ in frames], []


def _first_rows(names: Sequence[str], named: Sequence[set[str]], photos: Photos) -> dict[str, int]:
    """The first row of each photo that is there; its entry in ``named`` gets the splits of the others."""
    rows: dict[str, int] = {}
    for row, name in enumerate(names):
        if name in photos.files:
            named[rows.setdefault(name, row)].update(named[row])
    return rows


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


# ---- photos ----


def _common_folder(files: Sequence[str]) -> str:
    """The first folder if all files share it and it only holds images, as nerfstudio's ``images/``; else ''."""
    tops = {file.split("/")[0] if "/" in file else "" for file in files}
    top = tops.pop()
    return top if not tops and top not in ("", "..") else ""


def _photos(root: Path, top: str, names: Sequence[str], downscale: float, what: str) -> Photos:
    """The photos in the folder that the file names, or wherever else they are."""
    folder = root / top if top else root
    if match_names(folder, names):
        return photos_in(folder, names, downscale) if top else Photos(folder, match_names(folder, names))
    return find_photos((root, folder) if top else (root,), names, downscale, what)


def _mask(root: Path, frame: dict[str, Any]) -> Path | None:
    named = frame.get("mask_path")
    if not named:
        return None
    path = root / plain_path(named)
    return path if os.path.isfile(path) else match_file(root, plain_path(named)) or path


# ---- cameras ----


def _lenses(
    frames: Sequence[_Frame], rows: Sequence[int], names: Sequence[str], photos: Photos
) -> tuple[list[Lens], list[str]]:
    """The lens of each frame in ``rows``, and a note about coefficients that no camera model takes."""
    lenses, ignored = [], set()
    for row in rows:
        values = Values(frames[row].whole, frames[row].values, frames[row].path)
        lenses.append(lens_of(values, photos.files[names[row]]))
        ignored |= {(key, lenses[-1].model) for key in values.ignored()}
    said = [f"'{key}' is no parameter of the camera model {model} and is not used" for key, model in sorted(ignored)]
    return lenses, said


def _place(lens: Lens) -> tuple[float, ...]:
    """fx, fy, cx, cy, width, height."""
    if lens.model == SPHERICAL:  # its middle
        focal = lens.width / (2 * np.pi)
        return focal, focal, lens.width / 2, lens.height / 2, lens.width, lens.height
    focals = 1 if lens.model in ONE_FOCAL_MODELS else 2
    return (*(lens.params[:focals] * 2)[:2], *lens.params[focals : focals + 2], lens.width, lens.height)


def _poses(frames: Sequence[_Frame]) -> tuple[np.ndarray, list[str]]:
    """(V, 4, 4) OpenCV world-to-camera, and a note where all were scaled; off by rounding, they are made exact."""
    matrices = np.stack([_camera_to_world(frame) for frame in frames])
    with np.errstate(all="ignore"):
        usable = bool((np.abs(matrices) <= FARTHEST).all())
    said = []
    if usable:
        u, scale, v = np.linalg.svd(matrices[:, :3, :3])
        factor = float(np.median(scale))
        if len(frames) > 1 and factor > 0 and np.abs(scale / factor - 1).max() < _UNIFORM < abs(factor - 1):
            said.append(f"the axes of every pose have the length {factor:.4g} instead of 1 and are taken without it")
            scale = scale / factor
        near = np.abs(scale - 1).max(1) < _UNIFORM
        matrices[near, :3, :3] = (u @ v)[near]
    result = np.tile(np.eye(4), (len(frames), 1, 1))
    turned = np.swapaxes(matrices[:, :3, :3], 1, 2)
    result[:, :3, :3] = turned
    with np.errstate(all="ignore"):  # build() names the image
        result[:, :3, 3] = -(turned @ matrices[:, :3, 3:])[:, :, 0]
    return result, said


def _camera_to_world(frame: _Frame) -> np.ndarray:
    """(4, 4) with OpenCV axes."""
    try:
        given = np.array(frame.values["transform_matrix"], np.float64)
    except (ValueError, TypeError, OverflowError):
        given = np.zeros(0)
    if given.shape in ((16,), (12,)):
        given = given.reshape(-1, 4)
    if given.shape not in ((4, 4), (3, 4)):
        raise InputError(
            f"the transform_matrix of {frame.values['file_path']} in {frame.path} is not a 4×4 matrix of numbers; "
            "export the file again"
        )
    camera_to_world = np.eye(4)
    camera_to_world[:3] = given[:3]
    return camera_to_world @ AXES
