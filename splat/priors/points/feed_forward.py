"""Poses and dense points from a function of the user's: DUSt3R, MASt3R, VGGT, or anything that does the same.

The function takes the paths of V photos and returns a `Reconstruction`. Everything after it (held-out views, masks,
resizing, training) is as for any other scene. `splat train PHOTOS --priors.reconstruct my_module:my_function` calls it.
"""

import dataclasses
import importlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from splat.errors import InputError
from splat.priors.points.pose_adjustment import adjusted
from splat.scene.build import LoadOptions, RawScene, RawView, build
from splat.scene.images import read_header
from splat.scene.masks import find_masks, marks_what_moves
from splat.scene.progress import Report, reporter
from splat.scene.readers.photo_folder import photo_folder, photo_names
from splat.scene.scene import Scene
from splat.scene.sfm.exif_orientation import QUARTER_TURNS
from splat.scene.undistort import Lens


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """What a reconstruction knows of V photos.

    Attributes:
        world_to_camera: (V, 4, 4) OpenCV axes, any scale.
        intrinsics: (V, 3, 3) pixels of a picture of ``sizes``; the centre of the first pixel is at (0.5, 0.5).
        sizes: (V, 2) width and height that ``intrinsics`` belong to; photos of another size are taken as resized.
        points: (M, 3) in the frame of the poses.
        colours: (M, 3) uint8.
        confidence: (M,) in [0, 1]; points below `LEAST` are left out.
    """

    world_to_camera: np.ndarray
    intrinsics: np.ndarray
    sizes: np.ndarray
    points: np.ndarray
    colours: np.ndarray
    confidence: np.ndarray


Reconstruct = Callable[[Sequence[Path]], Reconstruction]
LEAST = 0.1


def load_function(reference: str) -> Reconstruct:
    """The function named ``module:function``; the current folder is searched too. Raises InputError."""
    module, _, name = reference.partition(":")
    if not module or not name:
        raise InputError(f"the reconstruction '{reference}' is no module:function; write for example my_dust3r:run")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name, None)
    except ImportError as error:
        raise InputError(
            f"the module of the reconstruction '{reference}' cannot be imported ({error}); install it"
        ) from None
    finally:
        sys.path.remove(str(Path.cwd()))
    if not callable(function):
        raise InputError(f"the module {module} has no function '{name}'; name one that returns a Reconstruction")
    return function


def load(
    root: Path, reconstruct: Reconstruct, options: LoadOptions | None = None, progress: Report | bool = True
) -> Scene:
    """The photos in ``root`` as a scene, with points from ``reconstruct`` and its poses, which bundle adjustment
    refines where that makes the photos fit better. Raises InputError."""
    options = options or LoadOptions()
    folder = photo_folder(root)
    names = photo_names(folder) if folder else []
    if folder is None or len(names) < 2:
        raise InputError(f"{root} holds {len(names)} photos, expected at least 2; one photo fixes no depth")
    paths = [folder / name for name in names]
    result = reconstruct(paths)
    check(result, len(paths))
    masks = {} if options.masks == "none" else find_masks(folder, names)
    views = []
    for index, (name, path) in enumerate(zip(names, paths, strict=True)):
        header = read_header(path)
        turn = header.orientation in QUARTER_TURNS
        width, height = header.turned if turn else (header.width, header.height)
        across, down = width / result.sizes[index][0], height / result.sizes[index][1]
        k = result.intrinsics[index]
        params = (k[0, 0] * across, k[1, 1] * down, k[0, 2] * across, k[1, 2] * down)
        lens = Lens("PINHOLE", params, width, height)
        pose = np.asarray(result.world_to_camera[index], np.float64)
        views.append(RawView(name, path, lens, index, pose, mask=masks.get(name), turn=turn))
    ignore = options.masks == "ignore" or any(map(marks_what_moves, masks.values()))
    with reporter(progress) as report:
        views, refined = adjusted(folder, views, masks, ignore, report)
    use = result.confidence >= LEAST
    note = f"poses and {int(use.sum())} points come from the reconstruction that was given"
    raw = RawScene(
        root, "photos", views, np.asarray(result.points[use], np.float64), np.asarray(result.colours[use], np.uint8),
        notes=(note, refined),
    )  # fmt: skip
    scene = build(raw, options)
    confidence = torch.from_numpy(np.asarray(result.confidence[use], np.float32))
    return dataclasses.replace(scene, points=dataclasses.replace(scene.points, confidence=confidence))


def check(result: Reconstruction, photos: int) -> None:
    """Raise InputError naming the first field whose shape is wrong."""
    count = len(result.points)
    shapes = {
        "world_to_camera": (photos, 4, 4), "intrinsics": (photos, 3, 3), "sizes": (photos, 2),
        "points": (count, 3), "colours": (count, 3), "confidence": (count,),
    }  # fmt: skip
    for name, shape in shapes.items():
        actual = np.shape(getattr(result, name))
        if actual != shape:
            raise InputError(f"the reconstruction's {name} has shape {actual}, expected {shape}; correct the adapter")


# ---- adapters: from what the networks' own code returns ----


def from_dust3r(aligned: Any, threshold: float = 3.0) -> Reconstruction:
    """From DUSt3R's or MASt3R's global alignment (what ``global_aligner`` returns, after ``compute_global_alignment``).

    Its methods ``get_im_poses`` (camera-to-world), ``get_focals``, ``get_principal_points``, ``get_pts3d`` and the
    attributes ``imgs`` and ``im_conf`` are used. Confidence c ≥ 1 becomes 1 − 1/c, below ``threshold`` 0.
    """
    poses = np.linalg.inv(_array(aligned.get_im_poses()).astype(np.float64))
    pictures = [_array(picture) for picture in aligned.imgs]
    focals, centres = _array(aligned.get_focals()).reshape(-1), _array(aligned.get_principal_points())
    intrinsics = np.stack([_matrix(f, f, *centre) for f, centre in zip(focals, centres, strict=True)])
    points = [_array(each).reshape(-1, 3) for each in aligned.get_pts3d()]
    confidence = [_array(each).reshape(-1) for each in aligned.im_conf]
    return _gathered(poses, intrinsics, pictures, points, confidence, threshold)


def from_vggt(predictions: dict[str, Any], pictures: Any, threshold: float = 1.5) -> Reconstruction:
    """From VGGT's predictions: ``extrinsic`` (V, 3, 4) world-to-camera, ``intrinsic`` (V, 3, 3), ``world_points``
    (V, H, W, 3) and ``world_points_conf`` (V, H, W), for ``pictures`` (V, 3, H, W) in [0, 1]; a leading batch of one is
    dropped."""
    extrinsic, intrinsic, points, confidence = (
        _unbatched(_array(predictions[name]), ndim)
        for name, ndim in (("extrinsic", 3), ("intrinsic", 3), ("world_points", 4), ("world_points_conf", 3))
    )
    images = _unbatched(_array(pictures), 4).transpose(0, 2, 3, 1)
    poses = np.tile(np.eye(4), (len(extrinsic), 1, 1))
    poses[:, :3] = extrinsic
    flat = [each.reshape(-1, 3) for each in points]
    return _gathered(poses, intrinsic, list(images), flat, [each.reshape(-1) for each in confidence], threshold)


def _gathered(poses, intrinsics, pictures, points, confidence, threshold: float) -> Reconstruction:
    colours = np.concatenate([np.clip(picture.reshape(-1, 3) * 255 + 0.5, 0, 255) for picture in pictures])
    raw = np.concatenate(confidence)
    return Reconstruction(
        world_to_camera=poses,
        intrinsics=np.asarray(intrinsics, np.float64),
        sizes=np.array([picture.shape[1::-1] for picture in pictures], np.float64),
        points=np.concatenate(points).astype(np.float64),
        colours=colours.astype(np.uint8),
        confidence=np.where(raw >= threshold, 1 - 1 / np.maximum(raw, 1.0), 0).astype(np.float32),
    )


def _matrix(fx: float, fy: float, cx: float, cy: float) -> np.ndarray:
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]], np.float64)


def _array(value: Any) -> np.ndarray:
    if isinstance(value, (list, tuple)):
        return np.stack([_array(each) for each in value])
    return value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)


def _unbatched(values: np.ndarray, ndim: int) -> np.ndarray:
    return values[0] if values.ndim == ndim + 1 else values
