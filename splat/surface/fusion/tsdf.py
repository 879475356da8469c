"""Fusion of depth maps into a truncated signed distance field that exists only near surfaces.

Curless and Levoy, "A volumetric method for building complex models from range images", 1996, in blocks of 8³ voxels as
in voxel hashing (Nießner et al. 2013). All maps are known before the first block is filled, so that a block holds what
every view says, also of the emptiness of space; blocks are filled a few thousand at a time, which bounds the memory.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from splat.depth.depth_maps import DepthMap
from splat.errors import InputError
from splat.machine import usable_cores
from splat.native.threads import one_torch_thread
from splat.surface.fusion.contraction import Space

SIDE = 8  # voxels a side of a block
VOXELS = SIDE**3
TOGETHER = 256  # blocks filled at once: arrays of 128 k voxels stay in the cache
REACH = 1 << 20  # block indices lie in −REACH … REACH − 1, 21 bits each
Inside = Callable[[NDArray], NDArray]


@dataclass(frozen=True)
class Field:
    """A sparse signed distance field.

    Attributes:
        space: where voxel (i, j, k) lies: at grid coordinates (i, j, k).
        blocks: (B, 3) int64, sorted; block b holds voxels 8·b … 8·b + 7 along each axis.
        distance: (B, 8, 8, 8) float32, −1 to 1 truncations; positive in front of surfaces. 1 where unobserved.
        weight: (B, 8, 8, 8) float32, 0 where unobserved.
        truncation: voxels.
    """

    space: Space
    blocks: NDArray[np.int64]
    distance: NDArray[np.float32]
    weight: NDArray[np.float32]
    truncation: float


def keys_of(blocks: NDArray) -> NDArray[np.int64]:
    """(…,) one integer per block index (…, 3), in the order of the indices."""
    shifted = np.asarray(blocks, np.int64) + REACH
    return (shifted[..., 0] << 42) | (shifted[..., 1] << 21) | shifted[..., 2]


def blocks_of(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The way back from `keys_of`."""
    mask = (1 << 21) - 1
    return np.stack([keys >> 42, (keys >> 21) & mask, keys & mask], -1) - REACH


def find_blocks(maps: Sequence[DepthMap], space: Space, truncation: float, inside: Inside | None) -> NDArray[np.int64]:
    """Sorted indices (B, 3) of the blocks that any map's surface touches within ``truncation`` voxels.

    Args:
        inside: tells which world points (M, 3) are of interest; None means all.
    """
    keys = np.zeros(0, np.int64)
    for view in maps:
        points, directions = _samples(view, space)
        if inside is not None and len(points):
            keep = inside(points)
            points, directions = points[keep], directions[keep]
        if not len(points):
            continue
        reach = directions * (truncation * space.size_at(points))[:, None]
        near = [space.to_grid(points + fraction * reach) for fraction in (-1.0, -0.5, 0.0, 0.5, 1.0)]
        cells = np.concatenate([np.floor(each[space.inside(each)] / SIDE).astype(np.int64) for each in near])
        cells = cells[(np.abs(cells) < REACH - 1).all(1)]
        keys = np.union1d(keys, keys_of(cells))
    return blocks_of(keys)


def _samples(view: DepthMap, space: Space) -> tuple[NDArray, NDArray]:
    """World points of some pixels, no farther apart than half a block, and the unit rays (M, 3) that end there."""
    camera, known = view.camera, view.known
    if not known.any():
        return np.zeros((0, 3)), np.zeros((0, 3))
    far = float(np.quantile(view.depth[known][::17], 0.9))
    stride = max(1, int(0.5 * SIDE * space.voxel * min(camera.fx, camera.fy) / max(far, 1e-9)))
    rows, columns = np.nonzero(known[::stride, ::stride])
    rows, columns = rows * stride, columns * stride
    pixels = torch.from_numpy(np.stack([columns, rows], 1) + 0.5)
    points = camera.unproject(torch.from_numpy(view.depth[rows, columns]), pixels).numpy()
    directions = camera.rays(pixels)[1].numpy()
    return points, directions / np.linalg.norm(directions, axis=1, keepdims=True)


def fuse(
    maps: Sequence[DepthMap],
    space: Space,
    blocks: NDArray[np.int64],
    truncation: float,
    progress: Callable[[int, int], None] | None = None,
) -> Field:
    """The field over ``blocks``: weighted mean over views of (depth of the map − depth of the voxel), truncated.

    Distances beyond the truncation in front count as 1 (the view says the voxel is empty); beyond it behind, the view
    says nothing. Raises InputError where there is no block.
    """
    if not len(blocks):
        raise InputError(
            "no view shows a surface in the region to be meshed: every depth map is empty there; "
            "train the cloud longer, widen the crop box, or choose --method median"
        )
    count = len(blocks)
    distance = np.ones((count, SIDE, SIDE, SIDE), np.float32)
    weight = np.zeros((count, SIDE, SIDE, SIDE), np.float32)
    offsets = np.stack(np.meshgrid(*[np.arange(SIDE)] * 3, indexing="ij"), -1).reshape(-1, 3)
    views = [_View.of(each) for each in maps]

    def fill(start: int) -> int:
        part = slice(start, min(start + TOGETHER, count))
        world = space.to_world(blocks[part, None] * SIDE + offsets)
        mean, total = _fill(world, truncation * space.size_at(world), views)
        distance[part] = mean.reshape(-1, SIDE, SIDE, SIDE)
        weight[part] = total.reshape(-1, SIDE, SIDE, SIDE)
        return part.stop

    with one_torch_thread(), ThreadPoolExecutor(usable_cores()) as pool:
        for stop in pool.map(fill, range(0, count, TOGETHER)):
            if progress is not None:
                progress(stop, count)
    return Field(space, blocks, distance, weight, truncation)


@dataclass(frozen=True)
class _View:
    """A map as tensors, and the numbers of its camera."""

    view: DepthMap
    depth: torch.Tensor
    weight: torch.Tensor
    farthest: float

    @staticmethod
    def of(view: DepthMap) -> "_View":
        depth = torch.from_numpy(np.asarray(view.depth))
        known = view.depth[view.depth > 0]
        weight = torch.from_numpy(np.asarray(view.confidence))
        return _View(view, depth, weight, float(known.max()) if known.size else 0.0)


def _fill(world: NDArray, band: NDArray, views: Sequence[_View]) -> tuple[NDArray, NDArray]:
    """Mean distance and summed weight, (b, 512) each, of voxels at ``world`` (b, 512, 3), truncated at ``band``."""
    centres = world.mean(1)
    radii = np.linalg.norm(world - centres[:, None], axis=-1).max(1)
    points = torch.from_numpy((world - centres.mean(0)).astype(np.float32))
    inverse_band = torch.from_numpy((1 / band).astype(np.float32))
    total = torch.zeros(points.shape[:2])
    weights = torch.zeros(points.shape[:2])
    for view in views:
        camera = view.view.camera
        world_to_camera = camera.world_to_camera.double().numpy()
        rotation, translation = world_to_camera[:3, :3], world_to_camera[:3, 3]
        near = _in_sight(centres @ rotation.T + translation, radii + band.max(1), view)
        if not len(near):
            continue
        whole = len(near) == len(points)
        some = points if whole else points[near]
        shift = torch.from_numpy((rotation @ centres.mean(0) + translation).astype(np.float32))
        local = some @ torch.from_numpy(rotation.T.astype(np.float32).copy()) + shift
        x, y, z = local.unbind(-1)
        scale = 1 / z
        column = (x * scale * camera.fx + camera.cx).floor_()
        row = (y * scale * camera.fy + camera.cy).floor_()
        use = (z > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
        pixel = torch.where(use, row * camera.width + column, 0).long()
        depth = view.depth.view(-1)[pixel]
        signed = (depth - z) * (inverse_band if whole else inverse_band[near])
        use &= (depth > 0) & (signed > -1)
        weight = torch.where(use, view.weight.view(-1)[pixel], 0)
        value = weight * torch.where(use, signed.clamp_max(1), 0)
        if whole:
            total += value
            weights += weight
        else:
            total[near] += value
            weights[near] += weight
    mean = torch.where(weights > 0, total / weights.clamp_min(1e-20), 1)
    return mean.numpy(), weights.numpy()


def _in_sight(local: NDArray, radii: NDArray, view: _View) -> NDArray[np.int64]:
    """Indices of the balls (in camera axes) that reach into the view's frustum, before its farthest surface."""
    camera = view.view.camera
    x, y, z = local.T
    use = (z > -radii) & (z < view.farthest + radii)
    # Distance from the side planes of the frustum, whose unit normals point inwards.
    for focal, offset, low, high in (
        (camera.fx, x, -camera.cx, camera.width - camera.cx),
        (camera.fy, y, -camera.cy, camera.height - camera.cy),
    ):
        use &= (offset * focal - low * z) / np.hypot(focal, low) > -radii
        use &= (high * z - offset * focal) / np.hypot(focal, high) > -radii
    return np.flatnonzero(use)
