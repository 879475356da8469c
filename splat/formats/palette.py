"""k-means for palettes of up to 65,536 vectors on a CPU: a coarse tree first, then a refinement among neighbours.

A plain Lloyd step on N vectors and K codes costs N·K; with K = 65,536 that is minutes on two cores. Splitting the
vectors into cells, clustering within each, and then letting every vector look at the codes of a few nearest cells costs
N·√K·(1 + probes) and loses little (the inverted file of Jégou et al. 2011, "Product quantization", used in training).
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

COARSE_SAMPLES = 1 << 16
# Cells whose codes a vector may choose from in the refinement.
PROBES = 4
REFINEMENTS = 2


def fit(points: Tensor, weights: Tensor, size: int, iterations: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Codes (K', D) with K' ≤ ``size``, and the code of each point (N,) int64.

    Minimises the squared error of ``points`` (N, D) float32 weighted by ``weights`` (N,) > 0; the same for the same
    ``seed``. Points with at most ``size`` distinct rows are kept exactly. Codes of neighbouring cells are neighbours.
    """
    distinct, label = _distinct_rows(points)
    weights = torch.zeros(len(distinct)).index_add_(0, label, weights.float())
    order_by = _principal(distinct, weights)
    if len(distinct) <= size:
        order = torch.argsort(order_by, stable=True)
        return distinct[order], torch.argsort(order)[label]
    with _own_threads() as pool:
        codes, cell = _tree(distinct, weights, size, iterations, seed, pool)
        codes, chosen = _refine(distinct, weights, codes, cell, PROBES, pool)
    return codes, chosen[label]


@contextmanager
def _own_threads() -> Iterator[ThreadPoolExecutor]:
    """A pool with a thread per core, PyTorch's own threads off meanwhile.

    The work is thousands of small steps. Split among PyTorch's threads each would end in a barrier, which on a busy
    machine waits for the slowest core: a factor of twenty was seen.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with ThreadPoolExecutor(threads) as pool:
            yield pool
    finally:
        torch.set_num_threads(threads)


def distinct_count(points: Tensor) -> int:
    """How many different rows ``points`` (N, D) has."""
    return len(_distinct_rows(points)[0])


def _distinct_rows(points: Tensor) -> tuple[Tensor, Tensor]:
    """Distinct rows, and for each point its row among them."""
    # Rows are told apart by one random projection; equal rows have equal projections, and unequal ones almost never.
    direction = torch.rand(points.shape[1], dtype=torch.float64, generator=torch.Generator().manual_seed(1)) + 0.5
    keys = np.ascontiguousarray((points.double() @ direction).numpy())
    _, first, label = np.unique(keys, return_index=True, return_inverse=True)
    first, label = torch.from_numpy(first), torch.from_numpy(label.reshape(-1))
    distinct = points[first]
    if not torch.equal(distinct[label], points):
        return points, torch.arange(len(points))
    return distinct, label


def _principal(points: Tensor, weights: Tensor) -> Tensor:
    """(N,) coordinate along the direction of largest variance."""
    centered = points - (points * weights[:, None]).sum(0) / weights.sum()
    _, vectors = torch.linalg.eigh((centered.T @ (centered * weights[:, None])).double())
    return centered @ vectors[:, -1].float()


def _nearest(points: Tensor, codes: Tensor, chunk: int = 1 << 21) -> tuple[Tensor, Tensor]:
    """Index (N,) of the nearest of ``codes`` (K, D), and the squared distance up to the points' own norms."""
    half = (codes * codes).sum(1) / 2
    index = torch.empty(len(points), dtype=torch.int64)
    score = torch.empty(len(points))
    step = max(1, chunk // max(len(codes), 1))
    for first in range(0, len(points), step):
        rows = slice(first, first + step)
        best = torch.addmm(half, points[rows], codes.T, alpha=-1).min(1)
        index[rows], score[rows] = best.indices, best.values
    return index, 2 * score


def _means(points: Tensor, weights: Tensor, index: Tensor, codes: Tensor) -> Tensor:
    """Weighted means of the points of each code; codes without points stay."""
    total = torch.zeros(len(codes)).index_add_(0, index, weights)
    sums = torch.zeros_like(codes).index_add_(0, index, points * weights[:, None])
    return torch.where((total > 0)[:, None], sums / total.clamp_min(1e-30)[:, None], codes)


def _lloyd(points: Tensor, weights: Tensor, size: int, iterations: int, generator: torch.Generator) -> Tensor:
    """Plain k-means: codes (size, D) of a few thousand points."""
    codes = points[torch.randperm(len(points), generator=generator)[:size]].clone()
    for _ in range(iterations):
        codes = _means(points, weights, _nearest(points, codes)[0], codes)
    return codes


def _tree(points: Tensor, weights: Tensor, size: int, iterations: int, seed: int, pool: ThreadPoolExecutor):
    """Codes (size, D) sorted by cell, and the cell of each code (size,)."""
    cells = max(1, round(size**0.5))
    generator = torch.Generator().manual_seed(seed)
    sample = torch.randperm(len(points), generator=generator)[:COARSE_SAMPLES]
    coarse = _lloyd(points[sample], weights[sample], cells, 8, generator)
    coarse = coarse[torch.argsort(_principal(coarse, torch.ones(len(coarse))), stable=True)]
    home = _nearest(points, coarse)[0]
    order = torch.argsort(home, stable=True)
    count = torch.bincount(home, minlength=cells)
    error = ((points - coarse[home]).square().sum(1) * weights).double()
    share = torch.zeros(cells, dtype=torch.float64).index_add_(0, home, error)
    # A cell's error falls with its codes as K^(-2/D) (high-resolution theory), so that shares go almost like errors.
    wanted = _apportion(share ** (points.shape[1] / (points.shape[1] + 2)), count, size)

    def cluster(number: int, rows: Tensor, k: int) -> Tensor:
        own = torch.Generator().manual_seed(seed * 1_000_003 + number)
        return _lloyd(points[rows], weights[rows], k, iterations, own)

    parts = list(pool.map(cluster, range(cells), order.split(count.tolist()), wanted.tolist()))
    return torch.cat(parts), torch.arange(cells).repeat_interleave(torch.tensor([len(part) for part in parts]))


def _apportion(share: Tensor, limit: Tensor, total: int) -> Tensor:
    """Integers in proportion to ``share`` that sum to ``total`` (or less), none above ``limit``."""
    given = torch.minimum(torch.ones_like(limit), limit)
    for _ in range(64):
        left = total - int(given.sum())
        open_share = torch.where(given < limit, share.clamp_min(1e-30), torch.zeros_like(share))
        if left <= 0 or open_share.sum() == 0:
            break
        extra = (left * open_share / open_share.sum()).floor().long()
        if extra.sum() == 0:
            extra[torch.argsort(open_share, descending=True)[:left]] = 1
        given = torch.minimum(given + extra, limit)
    return given


def _refine(points: Tensor, weights: Tensor, codes: Tensor, cell: Tensor, probes: int, pool: ThreadPoolExecutor):
    """Lloyd steps in which a point sees the codes of the ``probes`` nearest cells; returns codes and choices."""
    cells = int(cell.max()) + 1
    for step in range(REFINEMENTS + 1):
        centers = _means(codes, torch.ones(len(codes)), cell, torch.full((cells, codes.shape[1]), 1e9))
        near = torch.cdist(centers, centers).topk(min(probes, cells), largest=False).indices
        home = _nearest(points, centers)[0]
        starts = torch.searchsorted(cell, torch.arange(cells + 1)).tolist()
        index = torch.empty(len(points), dtype=torch.int64)
        order = torch.argsort(home, stable=True)

        def choose(number: int, rows: Tensor, codes=codes, near=near, starts=starts, index=index) -> None:
            if len(rows):
                seen = torch.cat([torch.arange(starts[c], starts[c + 1]) for c in near[number].tolist()])
                index[rows] = seen[_nearest(points[rows], codes[seen])[0]]

        list(pool.map(choose, range(cells), order.split(torch.bincount(home, minlength=cells).tolist())))
        if step < REFINEMENTS:
            codes = _means(points, weights, index, codes)
    return codes, index
