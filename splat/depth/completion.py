"""Depth completion: the smoothest inverse depth that agrees with what stereo knows, with breaks at image edges.

Weighted least squares on the picture's grid (Levin, Lischinski and Weiss, "Colorization using optimization", 2004, with
depth in place of colour): Σ cᵢ (dᵢ − d̄ᵢ)² + λ Σ wᵢⱼ (dᵢ − dⱼ)², wᵢⱼ small across edges of the photo.
"""

import dataclasses
import math
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.sparse import coo_matrix, diags
from scipy.sparse.linalg import cg

from splat.depth.depth_maps import DepthMap
from splat.depth.scene_plane import Plane, scene_plane
from splat.scene.scene import Scene, View

_SMOOTH = 0.3  # λ
_EDGE = 8.0  # grey levels over which the coupling of neighbours falls to 1/e
_LOOSE = 1e-3  # coupling across the strongest edges
_ITERATIONS = 400
_ANCHOR = 4.0  # cᵢ of a sparse point: they are rare and right
_TO_PLANE = 1e-3  # cᵢ with which pixels of unknown depth are drawn to the dominant plane
_PLANE_FROM = 12  # anchors
_TILT = 1e-2  # pull of the plane towards being parallel to the picture, against the anchors' certainties
_REACH = (0.3, 1.5)  # how far beyond the anchors' inverse depths the filled ones may go
GUESSED = 0.1  # confidence of what was filled in
MAX_PIXELS = 200_000  # larger pictures are filled at a smaller size


def completed(scene: Scene, maps: Sequence[DepthMap]) -> tuple[DepthMap, ...]:
    """``maps`` of the training views without holes: what stereo agreed on and the sparse points, and between them the
    smoothest surface that breaks where the photo has edges and elsewhere keeps to the plane of the scene, or of the
    view if the scene has none; with the confidence `GUESSED`.

    A view in which nothing is known keeps its empty map.
    """
    plane = scene_plane(scene)
    return tuple(_completed(scene, view, known, plane) for view, known in zip(scene.train_views, maps, strict=True))


def _completed(scene: Scene, view: View, known: DepthMap, common: Plane | None) -> DepthMap:
    height, width = known.depth.shape
    factor = min(1.0, math.sqrt(MAX_PIXELS / (height * width)))
    size = (round(width * factor), round(height * factor))
    inverse, confidence = _anchors(scene, view, known, size)
    if common is not None:
        z = view.camera.project(scene.points.xyz)[1].numpy()
        plane, reached = common.inverse_depth(view.camera.resized(*size)), 1 / z[z > 0]
    elif (confidence > 0).any():
        plane, reached = dominant_plane(inverse, confidence), inverse[confidence > 0]
    else:
        return known
    if not len(reached):
        return known
    grey = cv2.cvtColor(view.load().rgb.numpy(), cv2.COLOR_RGB2GRAY).astype(np.float32)
    grey = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    filled = plane + complete(inverse - plane, confidence, grey, _TO_PLANE)
    low, high = np.quantile(reached, (0.02, 0.98))
    filled = np.clip(filled, _REACH[0] * low, _REACH[1] * high)
    filled = cv2.resize(filled, (width, height), interpolation=cv2.INTER_LINEAR)
    depth = np.where(known.agreed, known.depth, 1 / filled)
    confidence = np.where(known.agreed, known.confidence, np.float32(GUESSED))
    return dataclasses.replace(known, depth=depth, confidence=confidence)


def dominant_plane(inverse: np.ndarray, confidence: np.ndarray) -> np.ndarray:
    """(H, W) inverse depth of the plane that fits the anchors best: a plane in space is affine in the picture.

    By least absolute deviations (reweighted least squares), so that what stands on a floor or hangs on a wall does not
    tilt it. With few anchors it is parallel to the picture.
    """
    height, width = inverse.shape
    y, x = np.mgrid[:height, :width]
    system = np.stack([np.ones_like(x), x / width - 0.5, y / height - 0.5], -1).astype(np.float64)
    known = confidence > 0
    rows, values, weights = system[known], inverse[known].astype(np.float64), confidence[known].astype(np.float64)
    if known.sum() < _PLANE_FROM:
        return np.full(inverse.shape, np.median(values), np.float32)
    scale = np.abs(values).mean()
    robust = weights
    for _ in range(20):
        root = np.sqrt(robust)[:, None]
        left = np.concatenate([rows * root, _TILT * np.diag([0.0, 1.0, 1.0])])
        solution = np.linalg.lstsq(left, np.concatenate([values * root[:, 0], np.zeros(3)]), rcond=None)[0]
        robust = weights / np.maximum(np.abs(rows @ solution - values), 1e-3 * scale) * scale
    return (system @ solution).astype(np.float32)


def _anchors(scene: Scene, view: View, known: DepthMap, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Inverse depth and its confidence at ``size`` (width, height): agreed stereo, and sparse points where they are."""
    width, height = size
    agreed = known.agreed & (known.depth > 0)
    inverse = np.where(agreed, 1 / np.maximum(known.depth, 1e-12), 0).astype(np.float32)
    confidence = np.where(agreed, known.confidence, 0).astype(np.float32)
    if confidence.shape != (height, width):
        inverse, confidence = (
            cv2.resize(each, size, interpolation=cv2.INTER_NEAREST) for each in (inverse, confidence)
        )
    if scene.points.measured and len(view.keypoint_ids):
        z = view.camera.project(scene.points.xyz[view.keypoint_ids])[1].numpy()
        xy = view.keypoint_xy.numpy() * (width / known.depth.shape[1], height / known.depth.shape[0])
        column, row = (np.clip(xy[:, k].astype(int), 0, n - 1) for k, n in ((0, width), (1, height)))
        front = z > 0
        inverse[row[front], column[front]] = 1 / z[front]
        confidence[row[front], column[front]] = _ANCHOR
    return inverse, confidence


def complete(inverse_depth: np.ndarray, confidence: np.ndarray, grey: np.ndarray, to_zero: float = 0.0) -> np.ndarray:
    """(H, W) float32 inverse depth without holes, or what stands out from a plane, drawn ``to_zero`` where unknown.

    Args:
        inverse_depth: (H, W), anything where ``confidence`` is 0.
        confidence: (H, W) ≥ 0, cᵢ.
        grey: (H, W) float32, 0 to 255.
    """
    if not (confidence > 0).any():
        return np.zeros(grey.shape, np.float32)
    height, width = grey.shape
    number = np.arange(height * width).reshape(height, width)
    first = np.concatenate([number[:, :-1].ravel(), number[:-1].ravel()])
    second = np.concatenate([number[:, 1:].ravel(), number[1:].ravel()])
    flat = grey.ravel().astype(np.float64)
    couple = _SMOOTH * np.maximum(np.exp(-np.abs(flat[first] - flat[second]) / _EDGE), _LOOSE)
    size = height * width
    links = coo_matrix((couple, (first, second)), (size, size)).tocsr()
    links = links + links.T
    weights = confidence.ravel().astype(np.float64)
    diagonal = np.asarray(links.sum(1)).ravel() + weights
    system = diags(diagonal) - links
    known = weights > 0
    start = np.full(size, np.average(inverse_depth.ravel()[known], weights=weights[known]))
    start[known] = inverse_depth.ravel()[known]
    target = np.where(known, weights * inverse_depth.ravel(), 0)
    system = system + diags(np.where(known, 0, to_zero))
    solved, _ = cg(system, target, x0=start, M=diags(1 / diagonal), rtol=1e-5, maxiter=_ITERATIONS)
    return solved.reshape(height, width).astype(np.float32)
