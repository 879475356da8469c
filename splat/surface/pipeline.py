"""From a cloud and cameras to a mesh: depth maps, fusion, marching cubes, cleaning, colours."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.depth.depth_maps import DepthMapStore
from splat.errors import InputError
from splat.rendering import RenderOptions
from splat.scene.camera_layout import meeting_point, world_to_camera_matrices
from splat.surface.depth.render_depth_maps import render_depth_maps
from splat.surface.depth.stereo_rig import working_distance
from splat.surface.fusion import tsdf
from splat.surface.fusion.contraction import Space
from splat.surface.fusion.marching_cubes import marching_cubes
from splat.surface.fusion.truncation import disagreement, sample_points
from splat.surface.mesh.mesh import Mesh, drop_small_pieces, simplify
from splat.surface.mesh.texture import Picture, Textured, texture
from splat.surface.mesh.vertex_colours import vertex_colours
from splat.surface.options import MeshOptions

NARROW, WIDE = 4.0, 20.0  # truncation, voxels
FAR = 1.5  # if 95 % of the surface reach farther than this, in camera distances, space is contracted
BLOCK_BYTES = 2 * 4 * tsdf.VOXELS
COARSER = 1.25  # voxels grow by this until the field fits the memory
Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class MeshResult:
    """A mesh and how it came to be.

    Attributes:
        mesh: the surface.
        maps: the depth maps it was fused from.
        space: the voxels it was fused in.
        blocks: number of 8³ blocks.
        dropped: number of pieces left out for being small.
        notes: sentences the user should read.
        seconds: time by stage.
        textured: the mesh with a texture, if one was asked for.
        faces_extracted: number of faces before simplifying.
    """

    mesh: Mesh
    maps: DepthMapStore
    space: Space
    blocks: int
    dropped: int
    notes: tuple[str, ...]
    seconds: dict[str, float]
    textured: Textured | None = None
    faces_extracted: int = 0


class Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def stop(self, stage: str) -> None:
        """Count the time since the last stop for ``stage``."""
        now = time.perf_counter()
        self.seconds[stage] = now - self._since
        self._since = now


def mesh_cloud(
    cloud: GaussianCloud,
    cameras: Sequence[Camera],
    options: MeshOptions | None = None,
    drawing: RenderOptions | None = None,
    masks: Sequence[NDArray[np.bool_] | None] | None = None,
    report: Report | None = None,
    photo: Picture | None = None,
) -> MeshResult:
    """The surface of ``cloud`` as ``cameras`` see it.

    Args:
        drawing: background, anti-aliasing and near plane of the renderings.
        masks: (H, W) bool per camera, at the camera's size; see ``options.masks``.
        report: called with (stage, done, total).
        photo: gives the photo of a camera by its number, for the texture; without, renderings paint it.

    Raises InputError saying why there is no surface to be found.
    """
    options, drawing = options or MeshOptions(), drawing or RenderOptions()
    report = report or (lambda stage, done, total: None)
    if not len(cloud):
        raise InputError("the cloud holds no Gaussians, so there is no surface; check the file")
    if len(cameras) < 2:
        raise InputError(f"a surface is fused from views, and there is {len(cameras)}; give a scene with more photos")
    cameras, masks = _shrink(cameras, masks, options.max_side)
    clock, notes = Clock(), []
    cloud = cloud.select(cloud.finite()).detach()
    maps = render_depth_maps(cloud, cameras, options, drawing, masks, lambda a, b: report("depth maps", a, b))
    clock.stop("depth maps")
    return mesh_maps(maps, options, report, clock, notes, photo)


def mesh_maps(
    maps: DepthMapStore,
    options: MeshOptions,
    report: Report,
    clock: Clock,
    notes: list[str],
    photo: Picture | None = None,
) -> MeshResult:
    """The surface that depth ``maps`` show together."""
    inside = None if options.box is None else _in_box(options.box)
    space, blocks, reach = _region(maps, options, inside, notes)
    field = tsdf.fuse(maps, space, blocks, reach, lambda a, b: report("fusing", a, b))
    mesh = Mesh(*marching_cubes(field, 0.0, lambda a, b: report("extracting", a, b)))
    clock.stop("fusion")
    if inside is not None and len(mesh.faces):
        mesh = mesh.keep(inside(mesh.vertices)[mesh.faces].all(1))
    # Sizes count in voxels: where space is contracted, far strays are large in the world.
    in_voxels = replace(mesh, vertices=space.to_grid(mesh.vertices)).areas
    least = (options.least_piece * options.resolution) ** 2
    mesh, dropped = drop_small_pieces(mesh, least, options.most_pieces, in_voxels)
    if not len(mesh.faces):
        raise InputError(
            "the depth maps agree on no surface: what one view calls solid another sees through; "
            "train the cloud longer, or try a lower --resolution or --method median"
        )
    extracted = len(mesh.faces)
    if options.faces is not None:
        # In voxels again: in the world, the noise of far walls would count more than the shape of what is near.
        coarse = simplify(replace(mesh, vertices=space.to_grid(mesh.vertices)), options.faces)
        mesh = replace(coarse, vertices=space.to_world(coarse.vertices))
    clock.stop("surface")
    tolerance = 2 * reach * space.voxel / working_distance(list(maps.cameras))
    views, tolerance = [maps[i] for i in range(len(maps))], max(tolerance, 0.01)
    mesh = replace(mesh, colours=vertex_colours(mesh, views, tolerance))
    clock.stop("colours")
    textured = None
    if options.texture is not None:
        textured = texture(mesh, views, options.texture, tolerance, photo or (lambda index: views[index].rgb))
        clock.stop("texture")
    return MeshResult(mesh, maps, space, len(blocks), dropped, tuple(notes), clock.seconds, textured, extracted)


def _region(
    maps: DepthMapStore, options: MeshOptions, inside: tsdf.Inside | None, notes: list[str]
) -> tuple[Space, NDArray[np.int64], float]:
    """Where voxels lie, the blocks that hold surface, and the truncation in voxels.

    Voxels are coarser where the memory would not do.
    """
    points = _sample(maps)
    if inside is not None and len(points):
        points = points[inside(points)]
    if not len(points):
        raise InputError(
            "no view shows a surface to be meshed: the cloud is transparent there, or the cameras are inside it; "
            "check the crop box, the masks and the scene"
        )
    if options.box is not None:
        low, high = np.array(options.box[:3]), np.array(options.box[3:])
        middle, radius, unbounded = (low + high) / 2, float((high - low).max()) / 2, bool(options.unbounded)
    else:
        reach = working_distance(list(maps.cameras))
        focus = meeting_point(world_to_camera_matrices(list(maps.cameras)))
        middle = np.median(points, axis=0) if focus is None else focus.numpy()
        spread = np.linalg.norm(points - middle, axis=1)
        most = float(np.quantile(spread, 0.95))
        unbounded = most > FAR * reach if options.unbounded is None else options.unbounded
        radius = min(reach, 1.05 * float(np.quantile(spread, 0.98)))
    voxel = options.voxel or 2 * radius / options.resolution
    wanted, views = voxel, [maps[i] for i in range(len(maps))]
    band = None if options.truncation or options.masks != "object" else disagreement(views)
    while True:
        space = Space(middle, voxel, radius if unbounded else None)
        reach = options.truncation or (NARROW if band is None else float(np.clip(band / voxel, NARROW, WIDE)))
        blocks = tsdf.find_blocks(views, space, reach, inside)
        if len(blocks) * BLOCK_BYTES <= options.megabytes << 20:
            break
        voxel *= COARSER
    if voxel > wanted:
        notes.append(
            f"voxels are {voxel:.4g} instead of {wanted:.4g} wide, to fit into {options.megabytes} MB; "
            "a crop box (--box) or more memory (--megabytes) would make them finer"
        )
    return space, blocks, reach


def _sample(maps: DepthMapStore, most: int = 2000) -> NDArray[np.float64]:
    """World points of an even choice of known pixels, at most ``most`` a view."""
    return np.concatenate([sample_points(maps[index], most) for index in range(len(maps))])


def _in_box(box: Sequence[float]) -> tsdf.Inside:
    low, high = np.array(box[:3]), np.array(box[3:])
    return lambda points: ((points >= low) & (points <= high)).all(-1)


def _shrink(
    cameras: Sequence[Camera], masks: Sequence[NDArray[np.bool_] | None] | None, most: int
) -> tuple[list[Camera], list[NDArray[np.bool_] | None] | None]:
    """Cameras, and their masks, no larger than ``most`` pixels a side."""
    import cv2

    small, fitted = [], []
    for index, camera in enumerate(cameras):
        factor = min(1.0, most / max(camera.width, camera.height))
        size = (max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))
        small.append(camera if factor == 1 else camera.resized(*size))
        mask = None if masks is None else masks[index]
        if mask is not None and factor < 1:
            mask = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        fitted.append(mask)
    return small, None if masks is None else fitted
