"""Measured depth beside the photos, of LiDAR or RGB-D cameras: found, its unit settled, read as points they show.

Maps lie in ``depths/`` (or ``depth/``) beside the folder of the photos under the photos' names: PNG or TIFF of integers
or floating-point numbers, OpenEXR, or NumPy's .npy. 0, NaN and infinity mean that nothing was measured.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.errors import InputError
from splat.reading import guarded, require_file
from splat.scene.images import DepthSource
from splat.scene.listing import list_files
from splat.scene.masks import match_names
from splat.scene.pictures.decode import values
from splat.scene.scene import Scene, View, photo_count

FOLDERS = ("depths", "depth")
SUFFIXES = frozenset({".png", ".tif", ".tiff", ".exr", ".npy"})
_PATTERNS = ("{}", "{}_depth", "depth_{}", "{}.depth", "{}-depth")
# Metres a value: floating-point numbers, Polycam and ARKit, TUM, KITTI, centimetres.
USUAL_UNITS = (1.0, 1e-3, 1 / 5000, 1 / 256, 1e-2)
_SNAP = 0.005  # how near a found unit must be to a usual one to be taken for it
_FEWEST = 30  # keypoints that tell the unit
_AGREE = 0.1  # median relative difference up to which depth and points are of one scene
_LOOKED_AT = 12  # photos for the unit
MOST_SAMPLES = 30_000  # a photo


def with_measured_depth(scene: Scene, unit: float | None = None) -> Scene:
    """``scene`` with the depth maps found beside its photos, and a note on what they were taken for.

    Args:
        unit: world units per value. None finds it by the scene's points, which also tell whether depth counts along the
            ray; where there are none, integers are millimetres and floating-point numbers metres.
    """
    found = _find(scene)
    if not found:
        return scene
    views = [view for view in scene.views if view.name in found]
    wide = photo_count([view for view in scene.views if view.face is not None and view.photo in found])
    if wide:
        said = f"measured depth of {wide} photos is not used, because they are too wide for one pinhole picture"
        scene = replace(scene, notes=(*scene.notes, said))
    if not views:
        return scene
    chosen, how = _settled(scene, views, found, unit)
    count = f"measured depth of {len(views)} of {photo_count(scene.views)} photos"
    if chosen is None:
        return replace(scene, notes=(*scene.notes, f"{count} is not used: {how}"))
    kind = "along the ray" if chosen.along_ray else "along the optical axis"
    note = f"{count} is used, {kind}, {chosen.unit:.6g} world units a value ({how})"
    with_depth = [
        replace(view, depth=replace(chosen, path=found[view.name])) if view.name in found else view
        for view in scene.views
    ]
    return replace(scene, views=tuple(with_depth), notes=(*scene.notes, note))


def _find(scene: Scene) -> dict[str, Path]:
    """Depth maps by the name of their photo."""
    view = scene.views[0]
    if not view.source.path.as_posix().endswith(view.photo_name):
        return {}
    root = Path(view.source.path.as_posix().removesuffix(view.photo_name) or ".")
    names = list(dict.fromkeys(view.photo_name for view in scene.views))
    for name in FOLDERS:
        folder = root.parent / name
        if folder.is_dir():
            return match_names(folder, list_files(folder, SUFFIXES), names, _PATTERNS)
    return {}


def _settled(
    scene: Scene, views: Sequence[View], found: dict[str, Path], unit: float | None
) -> tuple[DepthSource | None, str]:
    """Unit and kind of all maps (with the path of the first) and how they are known; None and why they are useless."""
    first = found[views[0].name]
    z, values_there, stretch = _at_keypoints(scene, views, found)
    if len(z) < _FEWEST:
        if unit is not None:
            return DepthSource(first, unit), "as given"
        whole = np.issubdtype(_stored(first).dtype, np.integer)
        return DepthSource(first, 1e-3 if whole else 1.0), "no points tell it; else give --depth-unit"
    choices = []
    for along_ray in (False, True):
        ratio = z * stretch / values_there if along_ray else z / values_there
        of_ray = float(np.median(ratio)) if unit is None else unit
        choices.append((float(np.median(np.abs(of_ray / ratio - 1))), of_ray, along_ray))
    miss, best, along_ray = min(choices)
    if miss > _AGREE:
        return None, f"it differs from the scene's points by {miss:.0%} in the median"
    near = [usual for usual in USUAL_UNITS if abs(best / usual - 1) < _SNAP]
    best = near[0] if unit is None and near else best
    return DepthSource(first, best, along_ray), f"{miss:.1%} from the points in the median"


def _at_keypoints(
    scene: Scene, views: Sequence[View], found: dict[str, Path]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of keypoints where depth is known: their depth along the axis, the map's value, length of the ray to z = 1."""
    rows: list[np.ndarray] = [np.zeros((3, 0))]
    for view in views[:: max(1, len(views) // _LOOKED_AT)]:
        ids, xy = view.keypoints()
        if not len(ids):
            continue
        depth = read_depth(found[view.name], view)
        z = view.camera.project(scene.points.xyz[ids])[1].numpy()
        rays = view.camera.directions(xy.double()).numpy()
        column, row = _pixels_of(view, xy.double().numpy(), rays, depth.shape).T
        inside = (column >= 0) & (row >= 0) & (column < depth.shape[1]) & (row < depth.shape[0]) & (z > 0)
        value = np.where(inside, depth[row.clip(0, depth.shape[0] - 1), column.clip(0, depth.shape[1] - 1)], 0)
        known = value > 0
        rows.append(np.stack([z, value, np.linalg.norm(rays, axis=1)])[:, known])
    z, value, stretch = np.concatenate(rows, 1)
    return z, value, stretch


def _pixels_of(view: View, xy: np.ndarray, rays: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(K, 2) whole columns and rows of a depth map of ``shape`` at pixels ``xy`` (K, 2) of the loaded photo."""
    lens, size = view.source.lens, (view.camera.width, view.camera.height)
    if lens is not None:
        xy, size = lens.distort(rays[:, :2]), _image_size(view)
    with np.errstate(invalid="ignore"):
        return np.floor(xy * (shape[1] / size[0], shape[0] / size[1])).astype(np.int64)


def _image_size(view: View) -> tuple[int, int]:
    """(width, height) of the photo before its distortion is removed."""
    lens = view.source.lens
    if lens is None:
        return view.camera.width, view.camera.height
    return lens.image_width or lens.width, lens.image_height or lens.height


def read_depth(path: Path, view: View) -> np.ndarray:
    """(H, W) float64 values of the map ``path``, 0 where nothing was measured.

    Raises InputError for a damaged map, and one of another shape than the photo of ``view``.
    """
    stored = _stored(path).astype(np.float64)
    depth = np.where(np.isfinite(stored) & (stored > 0), stored, 0.0)
    (height, width), (across, down) = depth.shape, _image_size(view)
    if abs(width / height - across / down) > 0.02 * width / height + 1 / height:
        raise InputError(
            f"the depth map {path} is {width}×{height} but its photo {view.source.path} is {across}×{down}, of another "
            "shape; crop or turn it as the photo is"
        )
    return depth


def _stored(path: Path) -> np.ndarray:
    """(H, W) numbers of the file. Raises InputError."""
    if path.suffix.lower() != ".npy":
        return values(path, turn=False)[0][..., 0]
    with guarded(require_file(path), "the depth"):
        array = np.array(np.load(path, mmap_mode="r", allow_pickle=False)).squeeze()  # mapping, it looks at the size
        if array.ndim != 2 or array.dtype.kind not in "fiu":
            raise ValueError(f"{array.dtype} of shape {array.shape}, expected numbers (H, W)")
        return array


def seen_points(view: View, most: int = MOST_SAMPLES) -> tuple[Tensor, Tensor]:
    """World points (K, 3) float64 that the depth map of ``view`` measured and their pixels (K, 2) float32.

    At most ``most``, spread evenly. Raises InputError for a damaged map.
    """
    source, lens, camera = view.depth, view.source.lens, view.camera
    depth = read_depth(source.path, view)
    rows, columns = np.nonzero(depth)
    if len(rows) > most:
        chosen = np.random.default_rng(0).choice(len(rows), most, replace=False)
        rows, columns = rows[chosen], columns[chosen]
    size = _image_size(view)
    xy = np.stack([columns + 0.5, rows + 0.5], 1) * (size[0] / depth.shape[1], size[1] / depth.shape[0])
    if lens is not None:
        target = lens.pinhole()
        xy = lens.undistort_pixels(xy) * (camera.width / target.width, camera.height / target.height)
    z = depth[rows, columns] * source.unit
    inside = np.isfinite(xy).all(1) & (xy >= 0).all(1) & (xy <= (camera.width, camera.height)).all(1)
    pixels = torch.from_numpy(xy[inside])
    rays = camera.directions(pixels)
    length = torch.from_numpy(z[inside])
    if source.along_ray:
        length = length / rays.norm(dim=1)
    pose = camera.world_to_camera.double()
    return (rays * length[:, None] - pose[:3, 3]) @ pose[:3, :3], pixels.float()
