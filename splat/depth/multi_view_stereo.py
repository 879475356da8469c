"""Dense points from a few posed photos, without learned weights: plane sweep, consistency between views, fusion."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from splat.camera import Camera
from splat.depth.depth_maps import DepthMap
from splat.depth.plane_sweep import Picture, sweep
from splat.depth.scene_plane import Plane, match_plane, scene_plane
from splat.scene.background import of_colour, plain_colour
from splat.scene.camera_layout import camera_centres, meeting_point, world_to_camera_matrices
from splat.scene.images import Photo
from splat.scene.progress import Report
from splat.scene.scene import Scene, View

MAX_SIDE = 640  # pixels; larger photos are shrunk for matching
SOURCES = 4  # photos each photo is compared with
_WIDEST = 60.0  # degrees between viewing directions beyond which windows do not match
_BEST_ANGLE = 12.0  # degrees between rays: less fixes depth badly, more looks too different
_PIXELS = 1.5  # a point agrees with another view if it comes back within so many pixels …
_DEPTH = 0.02  # … and this fraction of its depth
_LEAST = 0.2  # confidence of one view's match from which another's agreement counts: repeated texture agrees by chance
_BEHIND = 1.1  # of the depth of the scene's plane: what lies farther is behind a floor or a wall
_SAME, _PATCH, _PART = 0.4, 11, 0.7  # a view shows the plane where most of a patch (pixels a side) has less cost
_MARGIN = (0.6, 2.0)  # of the sparse points' depths: how far beyond them surfaces are searched


@dataclass(frozen=True)
class DensePoints:
    """M points of surfaces.

    Attributes:
        xyz: (M, 3) float64, world.
        rgb: (M, 3) uint8.
        confidence: (M,) float32 in [0, 1].
        spacing: (M,) float32 distance between neighbouring samples on the surface, world units: one pixel's size there.
    """

    xyz: Tensor
    rgb: Tensor
    confidence: Tensor
    spacing: Tensor

    def __len__(self) -> int:
        return len(self.xyz)


def depth_maps(scene: Scene, report: Report | None = None) -> tuple[DepthMap, ...]:
    """A depth map for each training view of ``scene``. Views that overlap no other get an empty one."""
    views = scene.train_views
    photos = [view.load() for view in views]
    pictures = [_picture(view, photo) for view, photo in zip(views, photos, strict=True)]
    ranges = [_range(scene, view) for view in views]
    raw: list[tuple[np.ndarray, np.ndarray] | None] = []
    for index, picture in enumerate(pictures):
        sources = [pictures[other] for other in neighbours(views, index, ranges)]
        raw.append(sweep(picture, sources, *ranges[index]) if sources else None)
        if report is not None:
            report("matching photos densely", (index + 1) / len(views))
    agreed = _agreement(pictures, raw)
    plane = scene_plane(scene)
    if plane is not None:
        for index, (_, far) in enumerate(ranges):
            raw[index], agreed[index] = _with_plane(plane, index, pictures, far, raw[index], agreed[index])
    return tuple(_depth_map(view.camera, *each) for view, *each in zip(views, raw, agreed, strict=True))


def _with_plane(
    plane: Plane,
    index: int,
    pictures: Sequence[Picture],
    far: float,
    matched: tuple[np.ndarray, np.ndarray] | None,
    times: np.ndarray,
) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Depth, confidence and agreement of a view, as in `depth_maps`, with the scene's plane where another view shows
    the same through it, and without surfaces behind it."""
    plane_depth, cost = match_plane(plane, index, pictures, _MARGIN[1] * far)
    empty = np.zeros_like(plane_depth)
    depth, confidence = (empty, empty) if matched is None else matched
    if plane.outermost:
        times = np.where((plane_depth > 0) & (depth > _BEHIND * plane_depth), 0, times)
    new = (cost < _SAME) & (plane_depth > 0)
    new &= cv2.blur(new.astype(np.float32), (_PATCH, _PATCH)) > _PART
    new &= times == 0
    return (np.where(new, plane_depth, depth), np.where(new, 1 - cost, confidence)), np.where(new, 1, times)


def neighbours(views: Sequence[View], index: int, ranges: Sequence[tuple[float, float]]) -> list[int]:
    """Which views to match view ``index`` with: those that share most of its picture at a good angle, best first."""
    reference = views[index].camera
    near, far = ranges[index]
    probe = _probe(reference, math.sqrt(near * far))
    scores = []
    for other, view in enumerate(views):
        if other == index:
            continue
        xy, z = view.camera.project(probe)
        inside = (z > 0) & (xy >= 0).all(1) & (xy[:, 0] < view.camera.width) & (xy[:, 1] < view.camera.height)
        apart = float(torch.rad2deg(torch.acos((reference.forward @ view.camera.forward).double().clamp(-1, 1))))
        both = (reference, view.camera)
        rays = [torch.nn.functional.normalize(probe - camera.position.double(), dim=1) for camera in both]
        angle = float(torch.rad2deg(torch.acos((rays[0] * rays[1]).sum(1).clamp(-1, 1))).median())
        if apart < _WIDEST and bool(inside.any()) and angle > 0.3:
            fit = math.exp(-(math.log(angle / _BEST_ANGLE) ** 2) / 2)
            scores.append((float(inside.double().mean()) * fit, other))
    return [other for score, other in sorted(scores, reverse=True)[:SOURCES] if score > 0.02]


def fuse(scene: Scene, maps: Sequence[DepthMap], guessed: int = 0) -> DensePoints:
    """The pixels of all ``maps`` as one set of points; of what several views show, the first one's points.

    Args:
        guessed: samples along the shorter side of a grid over the pixels that no other view confirms, each in the mean
            colour around it; 0 uses none. At a guessed depth, detail would appear displaced in other views, which is
            worse than a blur.
    """
    xyz, rgb, confidence, spacing = [], [], [], []
    backdrop = plain_colour(scene.train_views)
    for view, known in zip(scene.train_views, maps, strict=True):
        camera = view.camera
        photo = view.load()
        depth, agreed = torch.from_numpy(known.depth), torch.from_numpy(known.agreed)
        every = max(1, round(min(depth.shape) / guessed)) if guessed else 0
        use = agreed | _lattice(depth.shape, every)
        use &= depth > 0
        for earlier in xyz:
            use &= ~_covered(earlier, camera, depth)
        if photo.mask is not None:
            use &= photo.mask
        if photo.alpha is not None:
            use &= photo.alpha > 127
        elif backdrop is not None:
            use &= ~of_colour(photo.rgb, backdrop)
        colours = photo.rgb
        if every > 1:
            mean = cv2.blur(colours.numpy(), (every, every))
            colours = torch.where(agreed[..., None], colours, torch.from_numpy(mean))
        pixels = torch.where(agreed, 1, max(1, every))
        xyz.append(camera.unproject(depth)[use])
        rgb.append(colours[use])
        confidence.append(torch.from_numpy(known.confidence)[use])
        spacing.append((pixels * depth)[use] / math.sqrt(camera.fx * camera.fy))
    return DensePoints(torch.cat(xyz), torch.cat(rgb), torch.cat(confidence), torch.cat(spacing))


def _lattice(shape: torch.Size, every: int) -> Tensor:
    """(H, W) bool: one pixel in ``every`` along rows and along columns."""
    chosen = torch.zeros(shape, dtype=torch.bool)
    if every:
        chosen[every // 2 :: every, every // 2 :: every] = True
    return chosen


def _covered(points: Tensor, camera: Camera, depth: Tensor) -> Tensor:
    """(H, W) bool: where one of ``points`` (M, 3) falls on a pixel at its depth."""
    height, width = depth.shape
    covered = torch.zeros(height * width, dtype=torch.bool)
    xy, z = camera.project(points)
    column, row = xy[:, 0].floor().long(), xy[:, 1].floor().long()
    use = (z > 0) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
    pixel = (row * width + column)[use]
    there = depth.flatten()[pixel]
    covered[pixel[(there - z[use]).abs() < _DEPTH * there]] = True
    return covered.reshape(height, width)


def _picture(view: View, photo: Photo) -> Picture:
    """The photo in grey at the size used for matching."""
    camera = view.camera
    factor = min(1.0, MAX_SIDE / max(camera.width, camera.height))
    grey = cv2.cvtColor(photo.rgb.numpy(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    mask = None if photo.mask is None else photo.mask.numpy()
    if factor < 1:
        size = (round(camera.width * factor), round(camera.height * factor))
        grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
        mask = None if mask is None else cv2.resize(mask.astype(np.uint8), size) > 0
        camera = camera.resized(*size)
    return Picture(camera, grey, mask)


def _range(scene: Scene, view: View) -> tuple[float, float]:
    """Nearest and farthest z-depth to search: around the sparse points in the picture, else around the focus."""
    camera = view.camera
    if scene.points.measured:
        rows = view.keypoint_ids
        xyz = scene.points.xyz[rows] if len(rows) >= 10 else scene.points.xyz
        xy, z = camera.project(xyz)
        seen = (z > 0) & (xy >= 0).all(1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)
        if int(seen.sum()) >= 10:
            low, high = torch.quantile(z[seen], torch.tensor([0.02, 0.98], dtype=z.dtype)).tolist()
            return _MARGIN[0] * low, _MARGIN[1] * high
    poses = world_to_camera_matrices([each.camera for each in scene.train_views])
    focus = meeting_point(poses)
    if focus is None:
        spread = float((camera_centres(poses) - camera.position).norm(dim=1).max())
        return 0.5 * spread, 20 * spread
    z = float(camera.project(focus[None].double())[1])
    return (0.3 * z, 4 * z) if z > 0 else (0.2 * scene.extent, 8 * scene.extent)


def _probe(camera: Camera, depth: float) -> Tensor:
    """(64, 3) world points over the picture at ``depth``."""
    grid = camera.resized(8, 8)
    return grid.unproject(torch.full((8, 8), depth)).reshape(-1, 3)


def _agreement(pictures: Sequence[Picture], raw: Sequence[tuple[np.ndarray, np.ndarray] | None]) -> list[np.ndarray]:
    """(H, W) per view: how many other views found the same surface there."""
    counts = []
    for index, (picture, matched) in enumerate(zip(pictures, raw, strict=True)):
        count = np.zeros(picture.grey.shape, np.int32)
        for number, (other, depth) in enumerate(zip(pictures, raw, strict=True)):
            if number != index and matched is not None and depth is not None:
                count += _agrees(picture.camera, matched[0], other.camera, depth[0])
        counts.append(count if matched is None else np.where(matched[1] < _LEAST, 0, count))
    return counts


def _agrees(camera: Camera, depth: np.ndarray, other: Camera, other_depth: np.ndarray) -> np.ndarray:
    """(H, W) bool: pixels of ``depth`` that, seen by ``other`` at its own depth there, come back to where they were."""
    points = camera.unproject(torch.from_numpy(depth)).reshape(-1, 3)
    xy, z = other.project(points)
    height, width = other_depth.shape
    seen = ((z > 0) & (xy >= 0).all(1) & (xy[:, 0] < width) & (xy[:, 1] < height)).numpy()
    column, row = (
        np.clip(xy[:, k].nan_to_num(-1, -1, -1).floor().numpy(), 0, n - 1).astype(int)
        for k, n in ((0, width), (1, height))
    )
    there = torch.from_numpy(other_depth[row, column].astype(np.float64))
    back, depth_back = camera.project(other.unproject(there, xy))
    home = camera.pixel_centres().reshape(-1, 2)
    near = ((back - home).norm(dim=1) < _PIXELS) & (
        (depth_back - torch.from_numpy(depth).flatten()).abs() < _DEPTH * depth_back
    )
    return (near.numpy() & seen).reshape(depth.shape)


def _depth_map(camera: Camera, matched: tuple[np.ndarray, np.ndarray] | None, times: np.ndarray) -> DepthMap:
    """The result at the size of the view's camera; agreement raises confidence."""
    shape = (camera.height, camera.width)
    if matched is None:
        empty = np.zeros(shape, np.float32)
        return DepthMap(camera, empty, empty, agreed=np.zeros(shape, bool))
    depth, confidence = matched
    confidence = np.where(times > 0, 0.5 + 0.5 * confidence, 0.5 * confidence).astype(np.float32)
    if depth.shape != shape:
        size = (shape[1], shape[0])
        depth, confidence = (cv2.resize(each, size, interpolation=cv2.INTER_NEAREST) for each in (depth, confidence))
        times = cv2.resize(times.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    return DepthMap(camera, *map(np.ascontiguousarray, (depth, confidence)), agreed=np.ascontiguousarray(times > 0))
