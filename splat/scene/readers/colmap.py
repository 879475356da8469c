"""COLMAP models, binary and text."""

from pathlib import Path

import numpy as np

from splat.errors import InputError
from splat.scene.build import RawScene, RawView
from splat.scene.colmap_library import pycolmap
from splat.scene.masks import find_masks
from splat.scene.readers.colmap_check import check_model
from splat.scene.readers.image_folder import find_image_folder, resolve, shrunk_folder
from splat.scene.undistort import Lens

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
    reconstruction, registered = _open(model)
    point_ids = np.array(sorted(reconstruction.points3D), np.uint64)
    points = [reconstruction.points3D[int(i)] for i in point_ids]
    names = [image.name.replace("\\", "/") for image in registered]
    folder = images or find_image_folder(root, names)
    shrunk, note = shrunk_folder(folder, names, downscale)
    masks = find_masks(folder, names)
    views = []
    for image, name in zip(registered, names, strict=True):
        path = resolve(shrunk.path, name) if shrunk.factor > 1 else None
        views.append(_view(reconstruction, image, name, path or folder / name, masks.get(name), point_ids))
    notes = [] if note is None else [note]
    if len(registered) < reconstruction.num_images():
        notes.append(
            f"{reconstruction.num_images() - len(registered)} images of the model have no pose and are left out"
        )
    return RawScene(
        root,
        "colmap",
        views,
        xyz=np.array([point.xyz for point in points], np.float64).reshape(-1, 3),
        rgb=np.array([point.color for point in points], np.uint8).reshape(-1, 3),
        error=np.array([point.error for point in points], np.float64),
        notes=tuple(notes),
        shrunk=shrunk.factor,
        origin=str(model),
    )


def _open(model: Path) -> tuple[pycolmap.Reconstruction, list[pycolmap.Image]]:
    """The model and its images that have a pose. Raises InputError unless there are some, and points."""
    check_model(model)
    try:
        reconstruction = pycolmap.Reconstruction(str(model))
    except (ValueError, IndexError, RuntimeError, MemoryError) as error:
        raise InputError(
            f"the COLMAP model {model} cannot be read ({_first_line(error)}); export it again from COLMAP"
        ) from error
    registered = [image for image in reconstruction.images.values() if image.has_pose]
    if not registered:
        raise InputError(f"the COLMAP model {model} has no image with a pose; run the mapper again")
    if reconstruction.num_points3D() == 0:
        raise InputError(
            f"the COLMAP model {model} has no 3D points, but training starts from them; "
            "run COLMAP's point_triangulator or mapper"
        )
    return reconstruction, registered


def _view(
    reconstruction: pycolmap.Reconstruction,
    image: pycolmap.Image,
    name: str,
    path: Path,
    mask: Path | None,
    point_ids: np.ndarray,
) -> RawView:
    camera = reconstruction.cameras[image.camera_id]
    lens = Lens(camera.model_name, tuple(float(p) for p in camera.params), camera.width, camera.height)
    seen = image.get_observation_points2D()
    ids = np.searchsorted(point_ids, np.array([p.point3D_id for p in seen], np.uint64))
    xy = np.array([p.xy for p in seen], np.float64).reshape(-1, 2)
    world_to_camera = np.eye(4)
    world_to_camera[:3] = image.cam_from_world().matrix()
    return RawView(name, path, lens, image.camera_id, world_to_camera, ids.astype(np.int64), xy, mask=mask)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
