"""From the cameras that another program wrote down to a `RawScene`: what all such descriptions have in common."""

import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
import torch

from splat.cloud import quaternion_to_matrix
from splat.errors import InputError
from splat.scene.build import RawScene, RawView, check_name
from splat.scene.images import read_header
from splat.scene.listing import list_images, listed
from splat.scene.masks import among_photos, find_masks
from splat.scene.plausible import sample, sight
from splat.scene.readers.image_folder import (
    Photos,
    find_photos,
    match_names,
    missing_note,
    relative_names,
    unnamed_note,
)
from splat.scene.readers.json_split import plain_path
from splat.scene.undistort import MODELS, ONE_FOCAL_MODELS, Lens, unknown_model

SPHERICAL = "EQUIRECTANGULAR"
_SAMPLE = 500  # points that tell whether they are in sight
_NOWHERE = 0.01  # fraction of them below which they are in another frame
LensOf = Callable[[int, int], Lens]  # for a photo of so many pixels, where a description does not say its size


@dataclass(frozen=True, eq=False)
class Shot:
    """One photo as a description names it.

    Attributes:
        name: as the description has it, a whole path of another machine included.
        lens: intrinsics, or what gives them for the photo's size; None as the next.
        world_to_camera: (4, 4) float64, OpenCV axes; None where the photo could not be placed.
        ids, xy: rows of the points seen (K,) and where (K, 2), pixels of ``lens``.
    """

    name: str
    lens: Lens | LensOf | None = None
    world_to_camera: np.ndarray | None = None
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    xy: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))


@dataclass(eq=False)
class Description:
    """What a program wrote down about a scene.

    Attributes:
        kind: the program.
        path: its file.
        roots: folders in which, or in the usual folders of which, the photos may be.
        shots: the photos.
        xyz: (M, 3) float64 points, or None.
        rgb: (M, 3) uint8, or None.
        notes: sentences for the user.
        epsg: coordinate reference system of poses and points, if known.
    """

    kind: str
    path: Path
    roots: Sequence[Path]
    shots: list[Shot]
    xyz: np.ndarray | None = None
    rgb: np.ndarray | None = None
    notes: list[str] = field(default_factory=list)
    epsg: int | None = None


def scene_of(
    described: Description, root: Path, downscale: float, photos: Photos | None = None, all_named: bool = False
) -> RawScene:
    """The photos of ``described`` with their cameras. Raises InputError where none has a pose or none is there.

    Args:
        root: folder of the scene.
        downscale: as in `load_scene`.
        photos: where the photos are, if that is known.
        all_named: what lies beside the photos was said already.
    """
    path = described.path
    placed = [shot for shot in described.shots if shot.world_to_camera is not None]
    if not placed:
        raise InputError(
            f"{path} holds no photo with a pose (of {len(described.shots)}); align the photos in {described.kind} and "
            "export again"
        )
    for shot in placed:
        check_name(plain_path(shot.name), str(path))
    names = relative_names([plain_path(shot.name) for shot in placed], described.roots)
    if photos is None:
        photos = _photos(described, names, downscale)
    unplaced = sorted({plain_path(shot.name) for shot in described.shots if shot.world_to_camera is None})
    real = {name: _real_name(name, photos.files.get(name), photos) for name in names}
    masks = find_masks(photos.folder, list(real.values()))
    groups: dict[Hashable, int] = defaultdict(lambda: len(groups))
    views = []
    for shot, name in zip(placed, names, strict=True):
        file = photos.files.get(name)
        if file is not None:
            lens = shot.lens if isinstance(shot.lens, Lens) else _sized(shot.lens, file)
            mask = masks.get(real[name])
            views.append(
                RawView(real[name], file, lens, groups[lens], shot.world_to_camera, shot.ids, shot.xy, mask=mask)
            )
    notes = [*dict.fromkeys(described.notes), *photos.notes, *missing_note(names, photos, path.name)]
    if unplaced:
        verb = "photo has no pose in" if len(unplaced) == 1 else "photos have no pose in"
        notes.append(f"{len(unplaced)} {verb} {path.name} and are left out ({listed(unplaced)})")
    if not all_named:
        present = match_names(photos.folder, unplaced)
        without = {_real_name(name, present.get(name), photos) for name in unplaced}
        notes += unnamed_note(photos, f"no entry of {path.name}", without)
    xyz, rgb = described.xyz, described.rgb
    if xyz is not None and len(xyz) and views and _out_of_sight(views, xyz):
        notes.append("the points are in sight of no camera, so they are not used; export them in the cameras' frame")
        xyz = rgb = None
    return RawScene(
        root,
        described.kind,
        views,
        xyz,
        rgb,
        notes=tuple(notes),
        shrunk=photos.factor,
        origin=str(path),
        epsg=described.epsg,
    )


def _out_of_sight(views: Sequence[RawView], xyz: np.ndarray) -> bool:
    """Whether hardly any of the points is in a picture; panoramas show all of them."""
    if any(view.lens.model == SPHERICAL for view in views):
        return False
    poses = np.stack([view.world_to_camera for view in views])
    return sight(poses, np.array([lens_numbers(view.lens) for view in views]), sample(xyz, _SAMPLE))[0] < _NOWHERE


def lens_numbers(lens: Lens) -> tuple[float, ...]:
    """fx, fy, cx, cy, width, height of a lens that is no panorama's."""
    focals = 1 if lens.model in ONE_FOCAL_MODELS else 2
    return (*(lens.params[:focals] * 2)[:2], *lens.params[focals : focals + 2], lens.width, lens.height)


def _photos(described: Description, names: Sequence[str], downscale: float) -> Photos:
    """The photos in the usual folders, else wherever below the roots their names are found once."""
    path = described.path
    roots = [*dict.fromkeys([*described.roots, Path(os.path.abspath(path)).parent.parent])]
    try:
        return find_photos(roots, names, downscale, str(path))
    except InputError:
        for root in described.roots:
            files = _anywhere(root, names)
            if files:
                return Photos(root, files, notes=(f"the photos are found by their names below {root.name}",))
        raise


def _anywhere(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """The only file below ``root`` that has the last part of each name, with or without its suffix."""
    present: dict[str, set[str]] = defaultdict(set)
    for file in among_photos(list_images(root)):
        last = PurePosixPath(file)
        for key in (last.name.lower(), last.stem.lower()):
            present[key].add(file)
    files = {}
    for name in names:
        here = present.get(PurePosixPath(name).name.lower(), ())
        if len(here) == 1:
            files[name] = root / next(iter(here))
    return files if len(set(files.values())) == len(files) else {}


def _real_name(name: str, file: Path | None, photos: Photos) -> str:
    """The name that ``file`` has below the folder of the photos: labels often lack suffix and folder."""
    folder = photos.copy or photos.folder
    return name if file is None or folder not in file.parents else file.relative_to(folder).as_posix()


def _sized(lens: LensOf, file: Path) -> Lens:
    header = read_header(file)
    return lens(header.width, header.height)


def known_lens(model: str, params: Sequence[float], width: int, height: int, where: str) -> Lens:
    """A `Lens`, if its model is one that can be undistorted; ``where`` names it in the error."""
    if model not in MODELS:
        raise unknown_model(where, model)
    return Lens(model, tuple(map(float, params)), width, height)


def spherical_lens(width: int, height: int, where: str) -> Lens:
    """The lens of a whole panorama. Raises InputError where panoramas cannot be used."""
    return known_lens(SPHERICAL, (width, height), width, height, where)


def world_to_camera(rotation: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(4, 4) pose of a camera at ``centre`` (3,) whose axes in the world are the rows of ``rotation`` (3, 3)."""
    pose = np.eye(4)
    pose[:3, :3] = rotation
    with np.errstate(all="ignore"):  # build() names the photo
        pose[:3, 3] = -(rotation @ centre)
    return pose


def turn_of_vector(vector: np.ndarray) -> np.ndarray:
    """(3, 3) rotation by the length of ``vector`` (3,), in radians, around it."""
    return cv2.Rodrigues(vector)[0]


def turns_of_quaternions(quats: np.ndarray) -> np.ndarray:
    """(N, 3, 3) rotations of quaternions (N, 4) in the order x, y, z, w, of any length but 0."""
    return quaternion_to_matrix(torch.from_numpy(quats[:, [3, 0, 1, 2]])).numpy()


def numbers(value: Any, shape: tuple[int, ...], what: str) -> np.ndarray:
    """``value`` of parsed JSON as float64 of ``shape`` (-1: any number). Raises ValueError, naming ``what``."""
    try:
        return np.array(value, np.float64).reshape(shape)
    except (TypeError, ValueError, OverflowError):
        size = " × ".join("N" if side < 0 else str(side) for side in shape)
        raise ValueError(f"{what} is not {size} numbers") from None


def counted(count: int, one: str, many: str) -> str:
    """``count`` with its noun and verb."""
    return f"{count:,} {one if count == 1 else many}"
