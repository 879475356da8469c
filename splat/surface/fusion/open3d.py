"""Fusion by open3d, its VoxelBlockGrid: an option where that is installed (`splat mesh --fusion open3d`).

It knows no weights of pixels, no contracted space and no pixels known to be empty, so `splat.surface.fusion.tsdf`
stays the default. open3d is judged by its result: 0.20 has another class for this that returns nothing, in silence.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from splat.depth.depth_maps import DepthMap
from splat.surface.fusion.contraction import Space

SIDE = 16  # voxels a side of a block
WEIGHT = 0.5  # views that must have seen a voxel, at least
Found = tuple[NDArray[np.float64], NDArray[np.int64]]


def fuse_and_extract(
    maps: Sequence[DepthMap],
    space: Space,
    blocks: int,
    truncation: float,
    progress: Callable[[int, int], None] | None = None,
) -> Found | str:
    """Vertices (V, 3) in world units and faces (F, 3) of the surface; or a sentence saying why there is none.

    Args:
        blocks: of 8³ voxels that hold surface, as our own fusion counts them.
        truncation: voxels.
    """
    try:
        import open3d as o3d
    except (ImportError, OSError) as error:
        return f"open3d cannot be imported ({error}); install it with: pip install open3d"
    if space.radius is not None:
        return "open3d knows no contracted space, and this scene is larger than what its cameras look at"
    core = o3d.core
    device = core.Device("CPU:0")
    grid = o3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight"), (core.float32, core.float32), (1, 1), float(space.voxel), SIDE,
        max(1000, blocks // 2), device,
    )  # fmt: skip
    for number, view in enumerate(maps):
        _integrate(grid, view, space, truncation, o3d)
        if progress is not None:
            progress(number + 1, len(maps))
    found = grid.extract_triangle_mesh(weight_threshold=WEIGHT).to_legacy()
    vertices, faces = np.asarray(found.vertices), np.asarray(found.triangles)
    if not len(faces):
        return f"open3d {o3d.__version__} found no surface in the depth maps"
    return vertices + space.middle, faces.astype(np.int64)


def _integrate(grid, view: DepthMap, space: Space, truncation: float, o3d) -> None:
    core, camera = o3d.core, view.camera
    depth = np.where(view.known, view.depth, 0).astype(np.float32)
    if not depth.any():  # open3d raises where no block is touched
        return
    image = o3d.t.geometry.Image(core.Tensor(np.ascontiguousarray(depth[..., None])))
    intrinsic = core.Tensor([[camera.fx, 0, camera.cx - 0.5], [0, camera.fy, camera.cy - 0.5], [0, 0, 1]], core.float64)
    pose = camera.world_to_camera.double().numpy().copy()
    pose[:3, 3] += pose[:3, :3] @ space.middle  # around the middle, as single precision is used inside
    extrinsic = core.Tensor(pose)
    farthest = float(depth.max()) * 1.01
    near = grid.compute_unique_block_coordinates(image, intrinsic, extrinsic, 1.0, farthest, truncation)
    grid.integrate(near, image, intrinsic, extrinsic, 1.0, farthest, truncation)
