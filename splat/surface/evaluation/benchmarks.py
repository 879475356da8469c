"""The evaluation protocols of DTU (Jensen et al., CVPR 2014) and Tanks and Temples (Knapitsch et al., TOG 2017).

Re-implemented on KD-trees from the benchmarks' own descriptions; their data are not part of this package.
`splat eval-mesh --benchmark` runs them.
"""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from splat.camera import Camera
from splat.errors import InputError
from splat.surface.evaluation.benchmark_files import CropVolume, Observability
from splat.surface.evaluation.metrics import FScore, distances, sample
from splat.surface.evaluation.registration import Similarity, icp, voxel_downsample
from splat.surface.mesh.mesh import Mesh

DTU_SPACING = 0.2  # millimetres between samples
DTU_MOST = 20.0  # millimetres: distances beyond are outliers and do not count
DTU_MARGIN = 60.0  # millimetres around the bounding box of the observability mask
DTU_DILATION = 24  # pixels, at 1600 × 1200
TNT_THRESHOLDS = {
    "barn": 0.01, "caterpillar": 0.005, "courthouse": 0.025, "ignatius": 0.003, "meetingroom": 0.01, "truck": 0.005,
}  # fmt: skip


def dtu(
    mesh: Mesh,
    scan: NDArray,
    observable: Observability | None = None,
    plane: NDArray | None = None,
    spacing: float = DTU_SPACING,
) -> tuple[float, float, float]:
    """Accuracy, completeness and their mean (the chamfer distance that is published), millimetres.

    Args:
        mesh: in the scan's frame, millimetres.
        scan: (K, 3) points of the structured-light scan.
        observable: points of the mesh outside do not count; None counts all.
        plane: (4,) ground plane; points of the scan not above it do not count.
        spacing: between samples of the mesh, millimetres.

    Raises InputError where nothing is left to compare.
    """
    points = spread(sample(mesh, spacing), spacing)
    if observable is not None:
        high = observable.low + np.array(observable.mask.shape) * observable.resolution
        near = ((points >= observable.low - DTU_MARGIN) & (points < high + DTU_MARGIN)).all(1)
        points = points[near]
        points = points[observable.holds(points)]
    if not len(points):
        raise InputError("nothing of the mesh lies where the scanner could see; check the mesh's frame and unit")
    above = scan if plane is None else scan[scan @ plane[:3] + plane[3] > 0]
    accuracy, completeness = distances(points, scan), distances(above, points)
    counted = [each[each < DTU_MOST] for each in (accuracy, completeness)]
    if not all(len(each) for each in counted):
        raise InputError(
            f"no point of the mesh lies within {DTU_MOST:g} mm of the scan; check the mesh's frame and unit"
        )
    means = [float(each.mean()) for each in counted]
    return means[0], means[1], sum(means) / 2


def spread(points: NDArray, distance: float, seed: int = 0) -> NDArray[np.float64]:
    """A subset of ``points`` (M, 3) no two of which are nearer than ``distance``, taken in random order."""
    points = points[np.random.default_rng(seed).permutation(len(points))]
    neighbours = cKDTree(points).query_ball_point(points, distance, workers=-1, return_sorted=False)
    keep = np.ones(len(points), bool)
    for index, near in enumerate(neighbours):
        if keep[index]:
            keep[near] = False
            keep[index] = True
    return points[keep]


def cull_by_masks(mesh: Mesh, cameras: Sequence[Camera], masks: Sequence[NDArray[np.bool_]]) -> Mesh:
    """Faces whose vertices every view sees on its mask, widened by 24 px (at a width of 1600), or not at all."""
    inside = np.ones(len(mesh.vertices), bool)
    points = torch.from_numpy(mesh.vertices)
    for camera, mask in zip(cameras, masks, strict=True):
        radius = max(1, round(DTU_DILATION * camera.width / 1600))
        disk = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
        wide = cv2.dilate(mask.astype(np.uint8), disk) > 0
        xy, z = (each.numpy() for each in camera.project(points))
        with np.errstate(invalid="ignore"):
            seen = (z > 0) & (xy >= 0).all(1) & (xy[:, 0] < camera.width) & (xy[:, 1] < camera.height)
        column, row = xy[seen].astype(np.int64).T
        inside[np.flatnonzero(seen)[~wide[row, column]]] = False
    return mesh.keep(inside[mesh.faces].all(1))


def tanks_and_temples(
    points: NDArray, reference: NDArray, threshold: float, start: Similarity, crop: CropVolume | None = None
) -> tuple[FScore, Similarity]:
    """F-score at ``threshold`` after the benchmark's three rounds of registration, and the alignment found.

    Args:
        points: (M, 3) of the reconstruction.
        reference: (K, 3) of the scan.
        threshold: world units of the scan (`TNT_THRESHOLDS`).
        start: from the reconstruction to the scan, by the cameras' trajectory.
        crop: in the scan's frame; points outside do not count. None counts all.
    """

    def inside(each: NDArray) -> NDArray:
        return each if crop is None else each[crop.holds(each)]

    target = inside(reference)
    alignment = start
    for voxel, reach in ((threshold, 80 * threshold), (threshold / 2, 20 * threshold), (threshold / 2, 2 * threshold)):
        moved = voxel_downsample(inside(alignment.apply(points)), voxel)
        step = icp(moved, voxel_downsample(target, voxel), reach, with_scale=True)
        alignment = step.after(alignment)
    moved = voxel_downsample(inside(alignment.apply(points)), threshold / 2)
    target = voxel_downsample(target, threshold / 2)
    precision = float((distances(moved, target) < threshold).mean())
    recall = float((distances(target, moved) < threshold).mean())
    return FScore(threshold, precision, recall), alignment
