"""Pinhole pictures out of a photo that one pinhole picture cannot hold, and the photo out of renderings of them.

A photo through a wide lens is gathered into the faces of a cube around its centre, straight through the lens in one
resampling; each face has as many pixels per degree in its middle as the photo has in its own. Faces reach `MARGIN`
pixels beyond 90°, so that on the way back every direction is interpolated within the face it belongs to.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from splat.camera import Camera
from splat.scene.undistort import SPHERICAL, Lens, Pinhole
from splat.scene.wide_lens import bearings, density, project, widest

MARGIN = 4  # pixels: the reach of cubic interpolation, and of the samples that make the mean over a pixel
_SMALLEST = 8  # pixels a side; less of a face is left out
_SAMPLES = 8  # a side at most, of the grid over a pixel whose mean is taken
_MOST_SHRINK = 0.75  # quantile of a face's pixels whose shrinking decides how many samples each gets
_BORDER = cv2.BORDER_REPLICATE
_BAND = 1 << 20  # pixels that are put together at once
# Right, down and forward of each face, in the axes of the photo's camera.
AXES: dict[str, NDArray[np.float64]] = {
    "front": np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float64),
    "right": np.array([[0, 0, -1], [0, 1, 0], [1, 0, 0]], np.float64),
    "back": np.array([[-1, 0, 0], [0, 1, 0], [0, 0, -1]], np.float64),
    "left": np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0]], np.float64),
    "up": np.array([[1, 0, 0], [0, 0, 1], [0, -1, 0]], np.float64),
    "down": np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64),
}


@dataclass(frozen=True)
class Face:
    """One pinhole picture of a wide photo.

    Attributes:
        name: a key of `AXES`.
        pinhole: its intrinsics; the picture is cut to what the photo shows.
        lens: of the photo as it is stored.
        limit: angle from the lens's axis beyond which the photo shows nothing, radians.
        picture: width and height of the whole photo at the resolution of the face.
        whole: whether the photo shows all of it.
    """

    name: str
    pinhole: Pinhole
    lens: Lens
    limit: float
    picture: tuple[int, int]
    whole: bool

    @property
    def lens_size(self) -> tuple[int, int]:
        """Width and height of the stored photo."""
        return self.lens.image_width or self.lens.width, self.lens.image_height or self.lens.height

    def world_to_camera(self, photo: NDArray) -> NDArray[np.float64]:
        """The pose (4, 4) of this face of the photo with the pose ``photo`` (4, 4)."""
        turned = np.eye(4)
        turned[:3] = AXES[self.name] @ np.asarray(photo, np.float64)[:3]
        return turned

    def gather(self, image: NDArray[np.uint8], nearest: bool = False) -> NDArray[np.uint8]:
        """The picture (h, w[, c]) out of the photo's pixels (H, W[, c]), shrunk by averaging.

        Args:
            nearest: for masks (0 or 1): a pixel gets the least of what it stands for.
        """
        image, (x, y), count = _extended(image, self.lens), _maps(self), _samples(self)
        if count == 1:
            return cv2.remap(image, x, y, cv2.INTER_NEAREST if nearest else cv2.INTER_CUBIC, borderMode=_BORDER)
        total = np.zeros((*x.shape, *image.shape[2:]), np.float32)
        steps = [_step(self, each, axis) for axis in (1, 0) for each in (x, y)]
        for i, j in _offsets(count):
            at = (each + i * across + j * down for each, across, down in zip((x, y), steps[:2], steps[2:], strict=True))
            kind = cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR
            total += cv2.remap(image, *at, kind, borderMode=_BORDER)
        return (total / count**2 + (0 if nearest else 0.5)).astype(np.uint8)

    def seen(self) -> NDArray[np.bool_]:
        """(h, w) whether the photo shows the pixel."""
        if self.whole:
            return np.ones((self.pinhole.height, self.pinhole.width), bool)
        return _seen(self, _directions(self.name, self.pinhole))

    def keypoints(self, xy: NDArray) -> NDArray[np.float64]:
        """Where (M, 2) this face shows what the stored photo shows at ``xy`` (M, 2) pixels; NaN where another does."""
        directions = bearings(self.lens, xy)
        own = (_owner(directions) == list(AXES).index(self.name)) & (_angles(directions) <= self.limit)
        return np.where(own[:, None], _pixels(self, directions), np.nan)


def split(lens: Lens, limit: float, factor: float) -> tuple[Face, ...]:
    """The faces of a photo through ``lens``, what looks ahead first; what is not shown of a face is cut off.

    Args:
        lens: of the stored photo.
        limit: angle from the axis beyond which it shows nothing, radians.
        factor: by which the photo is shrunk, at least 1.
    """
    width, height = lens.image_width or lens.width, lens.image_height or lens.height
    picture = max(1, round(width / factor)), max(1, round(height / factor))
    focal = density(lens) / factor
    half = math.ceil(focal) + MARGIN
    square = Pinhole(focal, focal, half, half, 2 * half, 2 * half)
    faces = []
    for name in AXES:
        face = Face(name, square, lens, limit, picture, lens.model == SPHERICAL)
        if not face.whole:
            face = _cut(face)
        if face is not None:
            faces.append(face)
    return tuple(faces)


def rotated_view(lens: Lens, rotation: NDArray, pinhole: Pinhole, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The view (h, w[, c]) that ``pinhole`` has of a panorama (H, W[, c]); ``rotation`` (3, 3) leads from its axes into
    the view's."""
    x, y = np.meshgrid(np.arange(pinhole.width) + 0.5 - pinhole.cx, np.arange(pinhole.height) + 0.5 - pinhole.cy)
    rays = np.stack([x / pinhole.fx, y / pinhole.fy, np.ones_like(x)], -1)
    pixels = project(lens, rays.reshape(-1, 3) @ rotation).reshape(*x.shape, 2)
    maps = (pixels - 0.5 + MARGIN).astype(np.float32)
    x, y = (np.ascontiguousarray(maps[..., k]) for k in range(2))
    return cv2.remap(_extended(image, lens), x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)


def places_in_photo(face: Face, camera: Camera) -> Tensor:
    """(h, w, 2) float32 where the photo has the pixels of ``camera``, which shows ``face`` at any size or stride, as
    fractions of the photo's width and height; its middle where it has none."""
    pinhole = Pinhole(camera.fx, camera.fy, camera.cx, camera.cy, camera.width, camera.height)
    return _places(face.name, face.lens, pinhole)


@lru_cache(maxsize=256)
def _places(name: str, lens: Lens, pinhole: Pinhole) -> Tensor:
    size = lens.image_width or lens.width, lens.image_height or lens.height
    places = np.nan_to_num(project(lens, _directions(name, pinhole)) / size, nan=0.5)
    return torch.from_numpy(places.astype(np.float32)).reshape(pinhole.height, pinhole.width, 2)


def side(lens: Lens) -> float:
    """Pixels along a side of an uncut face at full resolution."""
    return 2 * density(lens)


def assemble(
    faces: Sequence[tuple[Face, NDArray[np.float32]]],
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The photo (H, W, 3) out of pictures (h, w, 3) of some of its faces, and where (H, W) they show it.

    Each pixel is the mean over its area: of 3×3 samples, which lie closer together the less the face has more pixels
    there than the photo.
    """
    first = faces[0][0]
    width, height = first.picture
    lens = first.lens.for_image(width, height)
    photo, seen = np.zeros((height, width, 3), np.float32), np.zeros((height, width), bool)
    rows = max(1, _BAND // width)
    for start in range(0, height, rows):
        band = slice(start, min(start + rows, height))
        y, x = np.mgrid[band, :width] + 0.5
        at = np.stack([x, y], -1).reshape(-1, 2)
        here, right, below = (bearings(lens, at + step) for step in ((0, 0), (0.5, 0), (0, 0.5)))
        owner = _owner(np.where(_shown(lens, first.limit, here)[:, None], here, np.nan))
        for face, picture in faces:
            own = owner == list(AXES).index(face.name)
            colours, inside = _interpolated(face, picture, *(each[own] for each in (here, right, below)))
            place = np.flatnonzero(own)[inside]
            photo[band].reshape(-1, 3)[place] = colours[inside]
            seen[band].reshape(-1)[place] = True
    return photo, seen


def _interpolated(
    face: Face, picture: NDArray[np.float32], here: NDArray, right: NDArray, below: NDArray
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Colours (M, 3) of ``picture`` around directions (M, 3), and whether (M,) they lie in it; ``right`` and ``below``
    are seen half a pixel of the photo beside."""
    if len(here) == 0:
        return np.zeros((0, 3), np.float32), np.zeros(0, bool)
    centre = _pixels(face, here)
    across, down = (np.nan_to_num(2 * (_pixels(face, each) - centre)) for each in (right, below))
    total = np.zeros((len(here), 3), np.float32)
    for i, j in _offsets(3):
        # Variances add: box of the face's pixel + box of the samples = box of the photo's pixel.
        at = centre + i * _widened(across) + j * _widened(down) - 0.5
        total += _remap_list(picture, at)
    inside = (centre >= 0.5).all(1) & (centre <= (face.pinhole.width - 0.5, face.pinhole.height - 0.5)).all(1)
    return total / 9, inside


def _widened(step: NDArray) -> NDArray[np.float64]:
    """``step`` (M, 2), the length of a pixel of the photo in pixels of the face, so far as it is longer than one."""
    length = np.linalg.norm(step, axis=1, keepdims=True)
    return step * np.sqrt(np.maximum(0, 1 - 1 / np.maximum(length, 1) ** 2))


def _remap_list(picture: NDArray[np.float32], at: NDArray) -> NDArray[np.float32]:
    """Colours (M, 3) at the places ``at`` (M, 2); cv2 takes maps of limited height and width only."""
    columns = 1 << 10
    rows = -(-len(at) // columns)
    maps = np.zeros((rows * columns, 2), np.float32)
    maps[: len(at)] = at
    x, y = (np.ascontiguousarray(maps[:, k]).reshape(rows, columns) for k in range(2))
    return cv2.remap(picture, x, y, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE).reshape(-1, 3)[: len(at)]


def _cut(face: Face) -> Face | None:
    """``face`` cut to what the photo shows of it, with a margin; None if that is next to nothing."""
    seen = _seen(face, _directions(face.name, face.pinhole))
    pinhole = face.pinhole
    columns, rows = np.flatnonzero(seen.any(0)), np.flatnonzero(seen.any(1))
    if len(columns) < _SMALLEST + MARGIN or len(rows) < _SMALLEST + MARGIN:
        return None
    left, top = max(0, int(columns[0]) - MARGIN), max(0, int(rows[0]) - MARGIN)
    right = min(pinhole.width, int(columns[-1]) + 1 + MARGIN)
    bottom = min(pinhole.height, int(rows[-1]) + 1 + MARGIN)
    cut = Pinhole(pinhole.fx, pinhole.fy, pinhole.cx - left, pinhole.cy - top, right - left, bottom - top)
    whole = bool(seen[top:bottom, left:right].all())
    return Face(face.name, cut, face.lens, face.limit, face.picture, whole)


def _directions(name: str, pinhole: Pinhole) -> NDArray[np.float64]:
    """(h · w, 3) in the axes of the photo's camera, through the pixels' centres."""
    x = (np.arange(pinhole.width) + 0.5 - pinhole.cx) / pinhole.fx
    y = (np.arange(pinhole.height) + 0.5 - pinhole.cy) / pinhole.fy
    x, y = np.meshgrid(x, y)
    return np.stack([x, y, np.ones_like(x)], -1).reshape(-1, 3) @ AXES[name]


def _pixels(face: Face, directions: NDArray) -> NDArray[np.float64]:
    """Where (M, 2) the face shows ``directions`` (M, 3) of the photo's camera; NaN behind it."""
    local = directions @ AXES[face.name].T
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = local[:, :2] / np.where(local[:, 2:] > 0, local[:, 2:], np.nan)
    return xy * (face.pinhole.fx, face.pinhole.fy) + (face.pinhole.cx, face.pinhole.cy)


def _owner(directions: NDArray) -> NDArray[np.int64]:
    """(M,) which of `AXES` each direction lies closest to; −1 for NaN."""
    towards = directions @ np.stack([axes[2] for axes in AXES.values()]).T
    return np.where(np.isfinite(towards).all(1), np.nan_to_num(towards, nan=-9.0).argmax(1), -1)


def _angles(directions: NDArray) -> NDArray[np.float64]:
    """(M,) angles from the axis of the photo's camera, radians."""
    return np.arctan2(np.hypot(directions[:, 0], directions[:, 1]), directions[:, 2])


def _seen(face: Face, directions: NDArray) -> NDArray[np.bool_]:
    """(h, w) whether the stored photo has pixels all around each direction (h · w, 3)."""
    shown = _shown(face.lens, face.limit, directions, face.lens_size[0] / face.picture[0])
    return shown.reshape(face.pinhole.height, face.pinhole.width)


def _shown(lens: Lens, limit: float, directions: NDArray, factor: float = 1.0) -> NDArray[np.bool_]:
    """(M,) whether the photo shows ``directions`` (M, 3) with all that a pixel ``factor`` times as large takes in, and
    cubic interpolation around it takes in nothing from beyond ``limit``."""
    width, height = lens.image_width or lens.width, lens.image_height or lens.height
    if lens.model == SPHERICAL:
        return np.ones(len(directions), bool)
    pixels, border = project(lens, directions), factor / 2
    with np.errstate(invalid="ignore"):
        inside = (pixels >= border).all(1) & (pixels <= (width - border, height - border)).all(1)
        return inside & (_angles(directions) <= min(limit, widest(lens)) - (1.5 + border) / density(lens))


def _offsets(count: int) -> list[tuple[float, float]]:
    """A grid of ``count`` × ``count`` samples over a pixel, from its centre."""
    line = [(k + 0.5) / count - 0.5 for k in range(count)]
    return [(x, y) for y in line for x in line]


@lru_cache(maxsize=256)
def _samples(face: Face) -> int:
    """Samples a side that a pixel of the face needs for the mean over what it stands for in the stored photo."""
    pinhole, lens = face.pinhole, face.lens
    directions = _directions(face.name, pinhole).reshape(pinhole.height, pinhole.width, 3)
    step = max(1, min(pinhole.width, pinhole.height) // 32)
    directions = directions[::step, ::step].reshape(-1, 3)
    right, down, _ = AXES[face.name]
    here, across, below = (
        project(lens, directions + each) for each in (0 * right, right / pinhole.fx, down / pinhole.fy)
    )
    stretch = np.abs(np.stack([across - here, below - here]))
    if lens.model == SPHERICAL:  # steps over the seam are short ones
        stretch[..., 0] = np.minimum(stretch[..., 0], face.lens_size[0] - stretch[..., 0])
    length = np.linalg.norm(stretch, axis=2).max(0)
    length = length[np.isfinite(length)]
    return int(np.clip(math.ceil(np.quantile(length, _MOST_SHRINK) - 0.25), 1, _SAMPLES)) if len(length) else 1


@lru_cache(maxsize=8)
def _maps(face: Face) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """For every pixel of the face, where to read in what `_extended` makes of the photo (centres from 0)."""
    pixels = np.nan_to_num(project(face.lens, _directions(face.name, face.pinhole)), nan=-1.0)
    pixels = (pixels - 0.5 + (MARGIN if face.lens.model == SPHERICAL else 0)).astype(np.float32)
    x, y = (pixels[:, k].reshape(face.pinhole.height, face.pinhole.width) for k in range(2))
    return np.ascontiguousarray(x), np.ascontiguousarray(y)


def _step(face: Face, places: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """How ``places`` (h, w), columns or rows of the photo, change from pixel to pixel along ``axis``."""
    step = np.gradient(places, axis=axis)
    if face.lens.model == SPHERICAL:  # over the seam
        width = np.float32(face.lens_size[0])
        # A gradient is half the difference of two neighbours: of a jump over the seam it has half, on both its sides.
        step -= width / 2 * np.round(step / (width / 2))
    return step


def _extended(image: NDArray, lens: Lens) -> NDArray:
    """A panorama with `MARGIN` more pixels on each side: around its seam, and over the poles, half a turn further."""
    if lens.model != SPHERICAL:
        return image
    half = image.shape[1] // 2
    above, below = (np.roll(rows[::-1], half, 1) for rows in (image[:MARGIN], image[-MARGIN:]))
    image = np.concatenate([above, image, below])
    return np.concatenate([image[:, -MARGIN:], image, image[:, :MARGIN]], 1)
