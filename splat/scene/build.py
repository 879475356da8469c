"""From what a loader read (cameras, poses, points, file names) to a checked `Scene` at the wanted resolution."""

import dataclasses
import math
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from splat.camera import Camera
from splat.coordinates import FARTHEST, Georeference
from splat.errors import InputError
from splat.scene import hold_out
from splat.scene.faces import side
from splat.scene.image_circle import circle_angle
from splat.scene.images import ImageHeader, ImageSource, decode, read_header
from splat.scene.listing import listed
from splat.scene.masks import check_something_kept, marks_what_moves
from splat.scene.pictures.decode import notes_of, white_of_scene
from splat.scene.pictures.mask_values import same_shape, size_error
from splat.scene.plausible import doubts
from splat.scene.registration import Registration
from splat.scene.scene import Points, Scene, View, tracks_from_keypoints
from splat.scene.split_photos import WidePhoto, sentences, split_view
from splat.scene.undistort import Lens, Pinhole
from splat.scene.wide_lens import is_wide
from splat.text import printable


@dataclass(frozen=True)
class LoadOptions:
    """What `load` was asked for (see there)."""

    downscale: float = 1.0
    max_side: int | None = None
    hold_out: str = hold_out.AUTO
    alpha: str = "auto"
    masks: str = "object"


@dataclass(frozen=True, eq=False)
class RawView:
    """One photo as a loader found it.

    Attributes:
        name: relative name, forward slashes.
        path: image file.
        lens: intrinsics as calibrated.
        group: camera id.
        world_to_camera: (4, 4) float64.
        ids, xy: rows of the points seen (K,) and where (K, 2), pixels of ``lens``.
        held_out: None lets the every-8th rule decide.
        left_out: the input takes it neither for training nor for the test; who chooses the test set anew has it.
        mask: mask file, if there is one.
        turn: whether ``lens`` and pose belong to the image turned by its EXIF orientation; None lets the sizes tell.
    """

    name: str
    path: Path
    lens: Lens
    group: int
    world_to_camera: np.ndarray
    ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    xy: np.ndarray = field(default_factory=lambda: np.zeros((0, 2)))
    held_out: bool | None = None
    left_out: bool = False
    mask: Path | None = None
    turn: bool | None = None


@dataclass(frozen=True, eq=False)
class RawScene:
    """What a loader hands over; ``xyz`` None asks for random ones.

    ``split_notes`` are about the training and test sets of the input, where these are used.
    """

    root: Path
    kind: str
    views: list[RawView]
    xyz: np.ndarray | None = None
    rgb: np.ndarray | None = None
    error: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    split_notes: tuple[str, ...] = ()
    transparent_background: bool = False
    shrunk: int = 1  # the images are copies shrunk by this factor (images_2, …)
    origin: str = ""  # the file to name in errors about cameras
    epsg: int | None = None  # coordinate reference system of poses and points
    registration: Registration | None = None  # where structure from motion found the cameras


def build(raw: RawScene, options: LoadOptions) -> Scene:
    """Check everything that can be checked without decoding, and put the scene together. Raises InputError."""
    origin = raw.origin or str(raw.root)
    notes = list(raw.notes)
    raw = _only_finite_points(raw, notes)
    if options.hold_out == hold_out.AUTO:
        raw = dataclasses.replace(raw, views=[view for view in raw.views if not view.left_out])
        notes += raw.split_notes
    views = sorted(_once_each(raw.views, origin, notes), key=lambda view: view.name)
    _check_poses(views, origin)
    headers = _read_headers(views)
    lenses = _match_sizes(views, headers)
    floats = [view.path for view, header in zip(views, headers, strict=True) if header.kind == "float"]
    white = white_of_scene(floats) if floats else None
    notes += notes_of(headers, white)
    masked = sum(view.mask is not None for view in views) if options.masks != "none" else 0
    if 0 < masked < len(views):
        notes.append(f"{masked} of {len(views)} images have a mask; the others are used whole")
    mode = options.alpha
    if mode == "auto":
        mode = "composite" if raw.transparent_background else "mask"
    limits = _picture_limits(views, lenses)
    built: list[View] = []
    chosen = hold_out.choose([view.name for view in views], [view.held_out for view in views], options.hold_out)
    resized = 0
    for view, header, (lens, turn), held_out in zip(views, headers, lenses, chosen, strict=True):
        source = ImageSource(
            view.path,
            turn,
            lens if lens.distorts else None,
            0,
            0,
            view.mask if options.masks != "none" else None,
            mode if header.has_alpha else "none",
            ignore=view.mask is not None and (options.masks == "ignore" or marks_what_moves(view.mask)),
            white=white if header.kind == "float" else None,
        )
        resized += not _mask_has_size(source, header)
        if is_wide(lens, limits[view.group]):
            factor = _factor(side(lens) * raw.shrunk, raw.shrunk, options)
            wide = WidePhoto(view.name, source, lens, limits[view.group], factor, view.world_to_camera)
            built += split_view(wide, held_out, view.ids, view.xy * lens.scale, view.group)
            continue
        target = lens.pinhole()
        width, height = _target_size(target, raw.shrunk, options)
        camera = target.camera(view.world_to_camera).resized(width, height)
        source = dataclasses.replace(source, width=width, height=height)
        ids, xy = _keypoints(view, lens, target, camera)
        built.append(View(view.name, camera, source, held_out, ids, xy, view.group))
    if resized:
        some = "1 mask is" if resized == 1 else f"{resized} masks are"
        notes.append(f"{some} of another size than the photo, and scaled to it")
    notes += sentences(built, sum(limit < math.pi for limit in limits.values()))
    _check_spread(built, raw, origin)
    check_something_kept(built)
    points = _points(raw, built, notes)
    root = raw.root.resolve()
    name = root.stem if root.is_file() else root.name
    about = Georeference(epsg=raw.epsg)
    scene = Scene(name, raw.root, raw.kind, tuple(built), points, tuple(notes), about, raw.registration)
    said = tuple(printable(note) for note in (*notes, *doubts(scene)))  # names of photos may hold codes of terminals
    return dataclasses.replace(scene, notes=said)


def _once_each(views: Sequence[RawView], origin: str, notes: list[str]) -> list[RawView]:
    """``views`` with the first of each name only, for names tell photos apart."""
    first: dict[str, RawView] = {}
    for view in views:
        first.setdefault(view.name, view)
    notes += again_note([view.name for view in views], origin)
    return list(first.values())


def again_note(names: Sequence[str], origin: str) -> list[str]:
    """A sentence about ``names`` that come more than once, if there are some."""
    again = sorted(name for name, count in Counter(names).items() if count > 1)
    left_out = len(names) - len(set(names))
    verb = "photo is" if left_out == 1 else "photos are"
    said = f"{left_out} {verb} named again in {origin} and left out there, the first pose is used: {listed(again)}"
    return [said] if again else []


def _only_finite_points(raw: RawScene, notes: list[str]) -> RawScene:
    """``raw`` without points that are not finite or too far, which keypoints no longer name."""
    if raw.xyz is None:
        return raw
    with np.errstate(invalid="ignore"):
        good = (np.abs(raw.xyz) <= FARTHEST).all(1)
    if good.all():
        return raw
    notes.append(
        f"{int((~good).sum()):,} of {len(good):,} points of {raw.origin or raw.root} have NaN, infinite or huge "
        "coordinates and are left out"
    )
    rows = np.cumsum(good) - 1
    views = []
    for view in raw.views:
        kept = good[view.ids]
        views.append(dataclasses.replace(view, ids=rows[view.ids[kept]], xy=view.xy[kept]))
    parts = {name: None if getattr(raw, name) is None else getattr(raw, name)[good] for name in ("xyz", "rgb", "error")}
    return dataclasses.replace(raw, views=views, **parts)


def _check_poses(views: Sequence[RawView], origin: str) -> None:
    if len(views) == 0:
        raise InputError(f"{origin} holds no image with a known pose; run structure from motion on the photos again")
    if len(views) == 1:
        raise InputError(
            f"{origin} holds a single image ({views[0].name}), but a scene needs at least two from different places; "
            "add more photos"
        )
    for view in views:
        check_name(view.name, origin)
        if not np.isfinite(view.world_to_camera).all():
            raise InputError(
                f"the pose of {view.name} in {origin} contains NaN or infinity; remove that image from the model or "
                "run structure from motion again"
            )
        rotation = view.world_to_camera[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise InputError(
                f"the pose of {view.name} in {origin} has a matrix that is no rotation; write poses as a rotation "
                "(orthonormal, determinant +1) and a translation"
            )
        if np.abs(view.world_to_camera[:3, 3]).max() > FARTHEST:
            raise InputError(
                f"the pose of {view.name} in {origin} is more than {FARTHEST:g} units away; run structure from motion "
                "again"
            )
        lens = view.lens
        if not lens.possible:
            raise InputError(
                f"the camera of {view.name} in {origin} has the size {lens.width}×{lens.height} and the parameters "
                f"{list(lens.params)}, but sizes and focal lengths must be positive and all numbers finite and in "
                "bounds; calibrate it again"
            )


def check_name(name: str, origin: str) -> None:
    """Raises InputError unless ``name`` can be a photo's: it becomes names of pictures and entries of JSON files."""
    try:
        name.encode()
        odd = "\0" in name or PurePosixPath(name).name in ("", "..")
    except UnicodeEncodeError:
        odd = True
    if odd:
        raise InputError(f"{origin} names a photo {name[:60]!r}, which is no file name in UTF-8; rename it")


def _read_headers(views: Sequence[RawView]) -> list[ImageHeader]:
    missing = [view for view in views if not os.path.exists(view.path)]
    if missing:
        others = f" and {len(missing) - 1} of the other {len(views) - 1}" if len(missing) > 1 else ""
        raise InputError(
            f"the image {missing[0].path}{others} named in the scene does not exist; put the images there, or remove "
            "them from the model"
        )
    return [read_header(view.path) for view in views]


def _match_sizes(views: Sequence[RawView], headers: Sequence[ImageHeader]) -> list[tuple[Lens, bool]]:
    """Per view the lens scaled to its image, and whether the EXIF orientation applies.

    A folder of images all shrunk by one factor is accepted, a single image that differs from the others is not.
    """
    result: list[tuple[Lens, bool]] = []
    ratios: dict[int, dict[float, list[int]]] = defaultdict(lambda: defaultdict(list))
    for index, (view, header) in enumerate(zip(views, headers, strict=True)):
        lens = view.lens
        stored = (header.width, header.height)
        turn = view.turn
        if turn is None:
            turn = stored != header.turned and not _scales(stored, lens) and _scales(header.turned, lens)
        size = header.turned if turn else stored
        if not _scales(size, lens):
            raise InputError(_size_message(view, size))
        # Rounding moves the ratio by up to half a pixel; 1 % separates any two deliberate factors.
        ratios[view.group][round(np.log(size[0] / lens.width) / 0.01)].append(index)
        result.append((lens.for_image(*size) if size != (lens.width, lens.height) else lens, turn))
    for per_group in ratios.values():
        if len(per_group) > 1:
            odd = min(per_group.values(), key=len)[0]
            lens = result[odd][0]
            size = (lens.image_width or lens.width, lens.image_height or lens.height)
            raise InputError(_size_message(views[odd], size) + " (other images of this camera have another size)")
    return result


def _scales(size: tuple[int, int], lens: Lens) -> bool:
    """Whether ``size`` is the calibrated size times one factor, give or take rounding to whole pixels."""
    if size == (lens.width, lens.height):
        return True
    long = 0 if lens.width >= lens.height else 1
    calibrated = (lens.width, lens.height)
    factor = size[long] / calibrated[long]
    return abs(size[1 - long] - calibrated[1 - long] * factor) <= 1.0


def _size_message(view: RawView, size: tuple[int, int]) -> str:
    return (
        f"the image {view.path} is {size[0]}×{size[1]} pixels but its camera is {view.lens.width}×{view.lens.height}; "
        "give it the camera's size, or shrink all images by one factor"
    )


def _mask_has_size(source: ImageSource, header: ImageHeader) -> bool:
    """Whether the mask of a photo, if any, is as large as the photo. Raises InputError where its shape is another."""
    if source.mask_path is None:
        return True
    mask = read_header(source.mask_path)
    width, height = header.turned if source.turn else (header.width, header.height)
    sizes = [(mask.width, mask.height), *([mask.turned] if source.turn else [])]
    if (width, height) in sizes:
        return True
    if not any(same_shape(size[::-1], (height, width)) for size in sizes):
        raise size_error(source.mask_path, (mask.height, mask.width), source.path, (height, width))
    return False


def _picture_limits(views: Sequence[RawView], lenses: Sequence[tuple[Lens, bool]]) -> dict[int, float]:
    """For each camera the angle from its axis beyond which its photos are black, radians; π where there is none."""
    users: dict[int, list[int]] = defaultdict(list)
    for index, view in enumerate(views):
        users[view.group].append(index)
    limits = dict.fromkeys(users, math.pi)
    for group, indices in users.items():
        lens = lenses[indices[0]][0]
        if is_wide(lens):
            photos = [partial(decode, views[i].path, lenses[i][1], keep_alpha=False) for i in indices]
            limits[group] = circle_angle(lens, photos)
    return limits


def _factor(longest: float, shrunk: int, options: LoadOptions) -> float:
    """By which to shrink the images at hand, so that a side of ``longest`` pixels of the full-size image is short
    enough."""
    factor = options.downscale if options.max_side is None else max(options.downscale, longest / options.max_side)
    return max(1.0, factor / shrunk)


def _target_size(pinhole: Pinhole, shrunk: int, options: LoadOptions) -> tuple[int, int]:
    """Size to deliver: the full-size image over the factor asked for, never larger than the image at hand."""
    width, height = pinhole.width * shrunk, pinhole.height * shrunk
    factor = options.downscale
    if options.max_side:
        factor = max(factor, max(width, height) / options.max_side)
    return (
        min(max(1, round(width / factor)), pinhole.width),
        min(max(1, round(height / factor)), pinhole.height),
    )


def _keypoints(view: RawView, lens: Lens, target: Pinhole, camera: Camera) -> tuple[torch.Tensor, torch.Tensor]:
    """Keypoints moved into the loaded image; those that fell outside its crop are dropped."""
    sx, sy = lens.scale
    xy = view.xy * (sx, sy)
    if lens.distorts and len(xy):
        xy = lens.undistort_pixels(xy)
    xy = xy * (camera.width / target.width, camera.height / target.height)
    inside = np.isfinite(xy).all(1) & (xy >= 0).all(1) & (xy <= (camera.width, camera.height)).all(1)
    return torch.from_numpy(view.ids[inside].astype(np.int64)), torch.from_numpy(xy[inside].astype(np.float32))


def _check_spread(views: Sequence[View], raw: RawScene, origin: str) -> None:
    """All views in one place give no depth: nothing can be reconstructed."""
    centres = np.stack([view.camera.position.numpy() for view in views])
    middle = centres.mean(0)
    least = 1e-9 * max(float(np.abs(centres).max()), 1e-3)  # what digits of a file give of themselves
    if raw.xyz is not None and len(raw.xyz):
        least = max(least, 1e-6 * float(np.median(np.linalg.norm(raw.xyz - middle, axis=1))))
    if np.linalg.norm(centres - middle, axis=1).max() <= least:
        raise InputError(
            f"all {len(views)} views of {origin} stand in one place, so nothing fixes depth; "
            "take photos from different places"
        )


def _points(raw: RawScene, views: list[View], notes: list[str]) -> Points:
    if raw.xyz is None or len(raw.xyz) == 0:
        from splat.scene.random_points import random_points

        points, note = random_points(views)
        notes.append(note)
        return points
    count = len(raw.xyz)
    offsets, owners = tracks_from_keypoints(views, count)
    error = raw.error if raw.error is not None else np.full(count, np.nan)
    rgb = raw.rgb if raw.rgb is not None else np.full((count, 3), 128, np.uint8)
    return Points(
        torch.from_numpy(np.ascontiguousarray(raw.xyz, np.float64)),
        torch.from_numpy(np.ascontiguousarray(rgb, np.uint8)),
        torch.from_numpy(np.ascontiguousarray(error, np.float64)),
        offsets,
        owners,
    )
