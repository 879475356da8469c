"""COLMAP models, binary and text, with their photos."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.scene.build import RawScene, RawView, check_name
from splat.scene.listing import listed
from splat.scene.masks import find_masks
from splat.scene.readers.colmap_model import read_model
from splat.scene.readers.colmap_parts import NO_POINT, Model, ModelImage
from splat.scene.readers.image_folder import (
    PHOTO_FOLDER,
    Photos,
    beside_note,
    find_photos,
    missing_note,
    photos_in,
    relative_names,
    unnamed_note,
)
from splat.scene.readers.model_places import Place
from splat.scene.readers.sparse_ply import read_ply_points


def read_scene(place: Place, root: Path, downscale: float = 1.0, images: Path | None = None) -> RawScene:
    """Read the model of ``place`` with its photos, wherever they are, or in ``images``. Raises InputError.

    ``root`` is the folder that was asked for; where it is part of the model, the scene is around it.
    """
    read = read_model(place.model)
    names = _names(read, place.model, place.roots)
    roots = place.roots
    if "distorted" in place.model.parts:  # beside it lie undistorted copies of the same names
        roots = (*(each / "input" for each in roots), *roots)
    if images is not None:
        photos = photos_in(images, names, downscale)
        if not photos.files:
            raise InputError(
                f"{images} holds none of the photos of the COLMAP model {place.model}; give its own folder"
            )
    else:
        photos = find_photos(roots, names, downscale, f"the COLMAP model {place.model}")
    if photos.folder in place.model.parents or photos.folder == place.model:  # other things than photos lie in it
        unnamed = beside_note(photos, (), "no model")
    else:
        without = [image.name for image in read.images if image.world_to_camera is None]
        unnamed = unnamed_note(photos, "no model", without)
    if images is not None or root not in place.model.parents or root.name == "sparse":
        root = photos.folder.parent if PHOTO_FOLDER.fullmatch(photos.folder.name) else photos.folder
    return _scene(root, place.model, read, names, photos, place.notes, unnamed)


def read_colmap(root: Path, model: Path, downscale: float, images: Path) -> RawScene:
    """Read the COLMAP model in ``model`` whose photos are in ``images``. Raises InputError."""
    read = read_model(model)
    names = _names(read, model, ())
    return _scene(root, model, read, names, photos_in(images, names, downscale))


def _names(read: Model, model: Path, roots: Sequence[Path]) -> list[str]:
    """Names of the images with a pose. Raises InputError where there is none."""
    names = [image.name for image in read.images if image.world_to_camera is not None]
    if not names:
        raise InputError(f"the COLMAP model {model} has no image with a pose; run the mapper again")
    for name in names:
        check_name(name, str(model))
    return relative_names(names, roots)


def _scene(
    root: Path,
    model: Path,
    read: Model,
    names: Sequence[str],
    photos: Photos,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> RawScene:
    registered = [image for image in read.images if image.world_to_camera is not None]
    masks = find_masks(photos.folder, names)
    views, lost = [], 0
    points = read.points if len(read.points.ids) else None
    for image, name in zip(registered, names, strict=True):
        rows, xy, unknown = _observations(image, read.points.ids)
        lost += unknown
        if name in photos.files:
            lens, placed = read.cameras[image.camera], image.world_to_camera
            views.append(RawView(name, photos.files[name], lens, image.camera, placed, rows, xy, mask=masks.get(name)))
    notes = [*before, *read.notes, *photos.notes, *missing_note(names, photos, "the model")]
    unplaced = sorted(image.name for image in read.images if image.world_to_camera is None)
    if unplaced:
        verb = "photo of the model has" if len(unplaced) == 1 else "photos of the model have"
        notes.append(f"{len(unplaced)} {verb} no pose and are left out ({listed(unplaced)})")
    xyz, rgb, error = (points.xyz, points.rgb, points.error) if points else (None, None, None)
    ply = model / "points3D.ply"
    if points is None and ply.is_file():
        xyz, rgb, said = read_ply_points(ply)
        error, lost = None, 0
        notes += said
    elif lost and points:
        notes.append(f"{lost} keypoints name points that the model does not hold; they are left out")
    notes += after
    return RawScene(root, "colmap", views, xyz, rgb, error, notes=tuple(notes), shrunk=photos.factor, origin=str(model))


def _observations(image: ModelImage, point_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows (K,) of ``point_ids`` (ascending) seen in ``image`` and where (K, 2); how many ids are not among them."""
    named = image.point_ids != NO_POINT
    ids, xy = image.point_ids[named], image.xy[named]
    if len(point_ids) == 0:
        return np.zeros(0, np.int64), np.zeros((0, 2)), len(ids)
    rows = np.searchsorted(point_ids, ids).clip(max=len(point_ids) - 1)
    known = point_ids[rows] == ids
    return rows[known].astype(np.int64), xy[known], int((~known).sum())
