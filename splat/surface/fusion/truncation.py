"""Truncation of the TSDF from the data: how far depth maps of different views lie apart, which it has to bridge."""

import math
from collections.abc import Sequence

import numpy as np
import torch

from splat.depth.depth_maps import DepthMap

VIEWS = 12  # of all, evenly: compared with their neighbours
NEIGHBOURS = 2
SAMPLES = 4000  # pixels of a view
HIDDEN = 0.05  # of the depth: farther apart, the two views see different surfaces
QUANTILE = 0.97


def disagreement(maps: Sequence[DepthMap]) -> float:
    """Distance along the ray within which 97 % of the views' surfaces agree with their neighbours', world units.

    0 where no two views see the same.
    """
    centres = np.array([view.camera.position.double().numpy() for view in maps])
    apart = []
    for index in range(0, len(maps), max(1, len(maps) // VIEWS)):
        nearest = np.argsort(np.linalg.norm(centres - centres[index], axis=1), kind="stable")[1 : NEIGHBOURS + 1]
        points = sample_points(maps[index], SAMPLES)
        for other in nearest:
            apart.append(_gaps(points, maps[other]))
    gaps = np.concatenate(apart) if apart else np.zeros(0)
    return float(np.quantile(gaps, QUANTILE)) if len(gaps) else 0.0


def sample_points(view: DepthMap, most: int) -> np.ndarray:
    """World points (M, 3) float64 of an even choice of the view's known pixels, about ``most`` if it knows them all."""
    step = max(1, math.isqrt(view.depth.size // most))
    rows, columns = np.nonzero(view.known[::step, ::step])
    rows, columns = rows * step, columns * step
    depth, pixels = torch.from_numpy(view.depth[rows, columns]), torch.from_numpy(np.stack([columns, rows], 1) + 0.5)
    return view.camera.unproject(depth, pixels).numpy()


def _gaps(points: np.ndarray, view: DepthMap) -> np.ndarray:
    """How far ``points`` lie before or behind what ``view`` sees, where they can be the same surface."""
    camera = view.camera
    xy, z = (each.numpy() for each in camera.project(torch.from_numpy(points)))
    column, row = xy.T
    use = (z > 0) & (column >= 0) & (column < camera.width) & (row >= 0) & (row < camera.height)
    depth = view.depth[row[use].astype(np.int64), column[use].astype(np.int64)]
    gap = np.abs(depth - z[use])
    return gap[(depth > 0) & np.isfinite(depth) & (gap < HIDDEN * z[use])]
