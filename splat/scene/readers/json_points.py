"""The sparse points that belong to a transforms.json, in the frame of its poses, and poses that are written wrong."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.reading import guarded, member
from splat.scene.plausible import sample, sight
from splat.scene.readers.colmap_model import read_model
from splat.scene.readers.colmap_parts import Model
from splat.scene.readers.frame_alignment import Alignment, align
from splat.scene.readers.image_folder import match_file
from splat.scene.readers.json_split import plain_path
from splat.scene.readers.model_places import find_model
from splat.scene.readers.sparse_ply import read_ply_points

_COLMAP_PLACES = ("colmap/sparse", "sparse", "colmap")
_SAMPLE = 500  # points looked at
_NOWHERE = 0.02  # fraction of the points in sight of cameras below which they are in another frame
_CLEARLY = 0.5  # fraction from which another frame is taken for the right one
_BEHIND = 0.95  # fraction of the points behind every camera from which the poses' axes are doubted
_LARGEST_MODEL = 200 << 20  # bytes that are read to check a ply against
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
AXES = np.diag([1.0, -1.0, -1.0, 1.0])  # between the axes of OpenGL and of OpenCV


@dataclass
class Found:
    """What was found out about the points.

    Attributes:
        xyz: (M, 3) float64, or None.
        rgb: (M, 3) uint8, or None.
        flip: whether the poses have OpenCV's axes.
        notes: sentences for the user.
        alignment: from the COLMAP model to the poses, where they were compared.
        raw: ``xyz`` in the frame of the COLMAP model.
    """

    xyz: np.ndarray | None = None
    rgb: np.ndarray | None = None
    flip: bool = False
    notes: list[str] = field(default_factory=list)
    alignment: Alignment | None = None
    raw: np.ndarray | None = None


def find_points(
    root: Path, meta: dict[str, Any], path: Path, names: Sequence[str], poses: np.ndarray, lenses: np.ndarray
) -> Found:
    """The points of the json ``path``, and whether its poses have to be flipped to see them. Raises InputError.

    Args:
        root: folder of the json.
        meta: what the json holds.
        path: the json.
        names: of the frames, as it names them.
        poses: (V, 4, 4) world-to-camera, if the json has OpenGL's axes.
        lenses: (V, 6) fx, fy, cx, cy, width, height.
    """
    ply, folder = _ply_of(root, meta, path), find_model(root, _COLMAP_PLACES)
    if ply is None:
        return Found() if folder is None else _of_model(root, folder, meta, path, names, poses, lenses)
    xyz, rgb, notes = read_ply_points(ply)
    if len(xyz) == 0:
        return Found(notes=[*notes, f"{ply.name} holds no points"])
    found = _with_axes(Found(xyz, rgb, False, notes), poses, lenses)
    if folder is not None and _size(folder) < _LARGEST_MODEL:
        of_model = _of_model(root, folder, meta, path, names, poses, lenses)
        if of_model.alignment is not None:
            return _in_the_right_frame(found, of_model, ply.name)
    if _seen(found, poses, lenses) >= _NOWHERE:
        return found
    for move in _usual_moves(_applied(meta, path)):
        moved = Found(xyz @ move[:3, :3].T + move[:3, 3], rgb, False, [*notes, _MOVED.format(ply.name, path.name)])
        if _seen(moved, poses, lenses) >= _CLEARLY:
            return moved
    return Found(notes=[*notes, f"the points of {ply.name} are in sight of no camera, so they are not used"])


_MOVED = "the points of {} were moved into the frame of {}: in their own no camera sees them"


def _usual_moves(applied: np.ndarray | None) -> list[np.ndarray]:
    """Moves between COLMAP's frame and nerfstudio's, which exporters forget: what the file says, and what was usual."""
    usual = np.array([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, -1, 0], [0, 0, 0, 1.0]])
    moves = [usual] if applied is None else [applied, usual]
    return [each for move in moves if abs(np.linalg.det(move)) > 1e-9 for each in (move, np.linalg.inv(move))]


def _in_the_right_frame(ply: Found, of_model: Found, name: str) -> Found:
    """The points of a ply beside a COLMAP model; moved with it where they still lie in the model's own frame."""
    alignment, raw = of_model.alignment, of_model.raw
    notes = [*ply.notes] if of_model.flip == ply.flip else [*ply.notes, *of_model.notes]
    found = Found(ply.xyz, ply.rgb, of_model.flip, notes)
    if raw is None:
        return found
    own, moved, theirs = (np.quantile(each, _QUANTILES, axis=0) for each in (raw, of_model.xyz, ply.xyz))
    size = float(np.abs(own - own.mean(0)).max())
    if np.abs(own - theirs).max() < 0.02 * size and np.abs(moved - theirs).max() > 0.1 * size:
        said = f"the points of {name} were in the frame of the COLMAP model, and were moved into the poses' frame"
        return Found(alignment.move(ply.xyz), ply.rgb, of_model.flip, [*notes, said])
    return found


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def _ply_of(root: Path, meta: dict[str, Any], path: Path) -> Path | None:
    with guarded(path, "'ply_file_path'"):
        named = plain_path(member(meta, "ply_file_path", str, "")) if meta.get("ply_file_path") else ""
    if not named:
        return root / "sparse_pc.ply" if (root / "sparse_pc.ply").exists() else None
    ply = root / named
    if not os.path.exists(ply):
        ply = match_file(root, named) or ply
    if not os.path.exists(ply):
        raise InputError(f"the points {ply} named in {path} do not exist; put the file there or remove 'ply_file_path'")
    return ply


def _of_model(
    root: Path,
    folder: Path,
    meta: dict[str, Any],
    path: Path,
    names: Sequence[str],
    poses: np.ndarray,
    lenses: np.ndarray,
) -> Found:
    """The points of the COLMAP model in ``folder``, moved into the frame of the poses; none of a damaged one."""
    try:
        model = read_model(folder)
    except InputError as error:
        return Found(notes=[f"the points of {folder.relative_to(root).as_posix()} are not used: {error}"])
    applied = _applied(meta, path)
    alignment = _by_poses(model, names, poses)
    short = folder.relative_to(root).as_posix()
    if alignment is not None:
        said = []
        if alignment.flip:
            said.append(f"the poses of {path.name} have OpenCV's axes, as those of {short} show, and are read so")
        if len(model.points.ids) == 0:
            return Found(flip=alignment.flip, notes=said, alignment=alignment)
        if applied is None or not alignment.is_near(applied):
            said.append(
                f"the points of {short} were moved into the frame of {path.name}, found by comparing the poses of "
                f"{alignment.count} photos"
            )
        raw, rgb = model.points.xyz, model.points.rgb
        return Found(alignment.move(raw), rgb, alignment.flip, said, alignment, raw)
    if len(model.points.ids) == 0:
        return Found()
    if applied is None:
        nerfstudio = "camera_model" in meta and "applied_scale" not in meta
        if not nerfstudio:
            return Found(notes=[f"the points of {short} are not used, for nothing tells how they lie to {path.name}"])
        applied = np.eye(4)
    found = _with_axes(Found(model.points.xyz @ applied[:3, :3].T + applied[:3, 3], model.points.rgb), poses, lenses)
    seen = _seen(found, poses, lenses)
    if seen < _CLEARLY:
        return Found(
            notes=[
                f"the points of {short} are not used: {seen:.0%} of them are in sight of the cameras of {path.name}, "
                "so they are in another frame"
            ]
        )
    return found


def _applied(meta: dict[str, Any], path: Path) -> np.ndarray | None:
    """nerfstudio's ``applied_transform`` (4, 4), which its poses are moved by; None where it is not said."""
    if meta.get("applied_transform") is None:
        return None
    try:
        given = np.array(meta["applied_transform"], np.float64)
    except (ValueError, TypeError, OverflowError):
        given = np.zeros(0)
    if given.shape not in ((3, 4), (4, 4)) or not np.isfinite(given).all():
        raise InputError(f"'applied_transform' in {path} is not a 3×4 matrix of numbers; export the file again")
    return np.vstack([given[:3], [0, 0, 0, 1]])


def _by_poses(model: Model, names: Sequence[str], poses: np.ndarray) -> Alignment | None:
    """How the model lies to the poses, told by photos that both have."""
    placed = {_key(image.name): image.world_to_camera for image in model.images if image.world_to_camera is not None}
    rows = [row for row, name in enumerate(names) if _key(name) in placed and np.isfinite(poses[row]).all()]
    return align(np.array([placed[_key(names[row])] for row in rows]), poses[rows]) if rows else None


def _key(name: str) -> str:
    path = PurePosixPath(name)
    return (path.with_suffix("") if path.name else path).name.lower()


def _with_axes(found: Found, poses: np.ndarray, lenses: np.ndarray) -> Found:
    """``found``, flipped where all points are behind all cameras and in front of them with OpenCV's axes."""
    xyz = sample(found.xyz, _SAMPLE)
    _, behind = sight(poses, lenses, xyz)
    if behind < _BEHIND:
        return found
    seen, _ = sight(AXES @ poses, lenses, xyz)
    if seen < _CLEARLY:
        return found
    said = "every point is behind every camera, so the poses are read with OpenCV's axes, with which they are in sight"
    return Found(found.xyz, found.rgb, True, [*found.notes, said])


def _seen(found: Found, poses: np.ndarray, lenses: np.ndarray) -> float:
    return sight(AXES @ poses if found.flip else poses, lenses, sample(found.xyz, _SAMPLE))[0]
