"""COLMAP models, binary and text."""

from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.scene.build import RawScene, RawView
from splat.scene.masks import find_masks
from splat.scene.readers.colmap_model import read_model
from splat.scene.readers.colmap_parts import NO_POINT, ModelImage
from splat.scene.readers.image_folder import find_image_folder, resolve, shrunk_folder

PLACES = ("sparse/0", "sparse", "colmap/sparse/0", "colmap/sparse", "distorted/sparse/0", "")


def find_model(root: Path, folders: tuple[str, ...] = PLACES) -> Path | None:
    """The folder below ``root`` that holds a COLMAP model, or None."""
    for name in folders:
        folder = root / name if name else root
        if is_model(folder):
            return folder
    numbered = sorted(path.parent for path in root.glob("sparse/*/cameras.*") if is_model(path.parent))
    return numbered[0] if numbered else None


def is_model(folder: Path) -> bool:
    """Whether ``folder`` holds at least one file of a COLMAP model (which may be incomplete)."""
    return any((folder / f"{stem}.{kind}").is_file() for stem in ("cameras", "images") for kind in ("bin", "txt"))


def read_colmap(root: Path, model: Path, downscale: float = 1.0, images: Path | None = None) -> RawScene:
    """Read the COLMAP model in ``model`` with its photos below ``root`` (or in ``images``). Raises InputError."""
    read = read_model(model)
    registered = [image for image in read.images if image.world_to_camera is not None]
    if not registered:
        raise InputError(f"the COLMAP model {model} has no image with a pose; run the mapper again")
    if len(read.points.ids) == 0:
        raise InputError(
            f"the COLMAP model {model} has no 3D points, but training starts from them; "
            "run COLMAP's point_triangulator or mapper"
        )
    names = [image.name for image in registered]
    folder = images or find_image_folder(root, names)
    shrunk, note = shrunk_folder(folder, names, downscale)
    masks = find_masks(folder, names)
    views, lost = [], 0
    for image, name in zip(registered, names, strict=True):
        path = resolve(shrunk.path, name) if shrunk.factor > 1 else None
        rows, xy, unknown = _observations(image, read.points.ids)
        lost += unknown
        lens, placed = read.cameras[image.camera], image.world_to_camera
        views.append(RawView(name, path or folder / name, lens, image.camera, placed, rows, xy, mask=masks.get(name)))
    notes = [*read.notes] if note is None else [*read.notes, note]
    if len(registered) < len(read.images):
        notes.append(f"{len(read.images) - len(registered)} images of the model have no pose and are left out")
    if lost:
        notes.append(f"{lost} keypoints name points that the model does not hold; they are left out")
    points = read.points
    return RawScene(
        root,
        "colmap",
        views,
        xyz=points.xyz,
        rgb=points.rgb,
        error=points.error,
        notes=tuple(notes),
        shrunk=shrunk.factor,
        origin=str(model),
    )


def _observations(image: ModelImage, point_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Rows (K,) of ``point_ids`` (ascending) seen in ``image`` and where (K, 2); how many ids are not among them."""
    named = image.point_ids != NO_POINT
    ids, xy = image.point_ids[named], image.xy[named]
    rows = np.searchsorted(point_ids, ids).clip(max=len(point_ids) - 1)
    known = point_ids[rows] == ids
    return rows[known].astype(np.int64), xy[known], int((~known).sum())
