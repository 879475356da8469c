"""k-means for palettes of up to 65,536 vectors on a CPU: a coarse tree first, then a refinement among neighbours.

A plain Lloyd step on N vectors and K codes costs N·K; with K = 65,536 that is minutes on two cores. Splitting the
vectors into cells, clustering within each, and then letting every vector look at the codes of a few nearest cells costs
N·√K·(1 + probes) and loses little (the inverted file of Jégou et al. 2011, "Product quantization", used in training).
Cells are shared among threads; BLAS had better use one each, as `splat convert` sees to, or they wait for each other.
"""

import numpy as np

from splat.coding.parallel import each, pieces

COARSE_SAMPLES = 1 << 16
# Cells whose codes a vector may choose from in the refinement.
PROBES = 4
REFINEMENTS = 2
ROWS = 1 << 13


def fit(
    points: np.ndarray, weights: np.ndarray, size: int, iterations: int = 4, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Codes (K', D) with K' ≤ ``size``, and the code of each point (N,) int64.

    Minimises the squared error of ``points`` (N, D) float32 weighted by ``weights`` (N,) > 0; the same for the same
    ``seed``. Points with at most ``size`` distinct rows are kept exactly. Codes of neighbouring cells are neighbours.
    """
    distinct, label = _distinct_rows(points)
    if distinct is not points:
        weights = np.bincount(label, weights, len(distinct)).astype(np.float32)
    if len(distinct) <= size:
        order = np.argsort(_principal(distinct, weights), kind="stable")
        return distinct[order], np.argsort(order)[label]
    codes, cell = _tree(distinct, weights, size, iterations, seed)
    codes, chosen = _refine(distinct, weights, codes, cell, PROBES)
    return codes, chosen if distinct is points else chosen[label]


def distinct_count(points: np.ndarray) -> int:
    """How many different rows ``points`` (N, D) has."""
    return len(_distinct_rows(points)[0])


def _distinct_rows(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows (``points`` itself if all differ), and for each point its row among them."""
    # Rows are told apart by one random projection; equal rows have equal projections, and unequal ones almost never.
    direction = np.random.default_rng(1).random(points.shape[1]) + 0.5
    keys = np.empty(len(points))

    def project(rows: slice) -> None:
        keys[rows] = np.einsum("ij,j->i", points[rows], direction)

    each(project, pieces(len(points)))
    _, first, label = np.unique(keys, return_index=True, return_inverse=True)
    if len(first) < len(points):
        distinct, label = points[first], label.reshape(-1)
        if all(np.array_equal(distinct[label[rows]], points[rows]) for rows in pieces(len(points))):
            return distinct, label
    return points, np.arange(len(points))


def _principal(points: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(N,) coordinate along the direction of largest variance."""
    centered = points - (points * weights[:, None]).sum(0) / weights.sum()
    _, vectors = np.linalg.eigh((centered.T @ (centered * weights[:, None])).astype(np.float64))
    return centered @ vectors[:, -1].astype(np.float32)


def _nearest(points: np.ndarray, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Index (N,) of the nearest of ``codes`` (K, D), and the squared distance up to the points' own norms."""
    half = np.einsum("ij,ij->i", codes, codes) / 2
    index, score = np.empty(len(points), np.int64), np.empty(len(points), np.float32)
    for rows in pieces(len(points), max(64, (1 << 19) // len(codes))):
        distance = points[rows] @ codes.T
        np.subtract(half, distance, out=distance)
        index[rows] = distance.argmin(1)
        score[rows] = np.take_along_axis(distance, index[rows, None], 1)[:, 0]
    return index, 2 * score


def _sums(points: np.ndarray, weights: np.ndarray, index: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted sums (count, D) of the points of each code, and the weights' sums (count,)."""
    total = np.bincount(index, weights, count).astype(np.float32)
    order = np.argsort(index, kind="stable")
    sums = np.zeros((count, points.shape[1]), np.float32)
    used, starts = np.unique(index[order], return_index=True)
    sums[used] = np.add.reduceat(points[order] * weights[order, None], starts, axis=0)
    return sums, total


def _means(sums: np.ndarray, total: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Weighted means; codes without points stay."""
    return np.where((total > 0)[:, None], sums / np.maximum(total, 1e-30)[:, None], codes)


def _lloyd(
    points: np.ndarray, weights: np.ndarray, size: int, iterations: int, random: np.random.Generator
) -> np.ndarray:
    """Plain k-means: codes (size, D) of a few thousand points."""
    codes = points[random.permutation(len(points))[:size]]
    for _ in range(iterations if len(codes) else 0):
        codes = _means(*_sums(points, weights, _nearest(points, codes)[0], len(codes)), codes)
    return codes


def _homes(points: np.ndarray, centers: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
    """Nearest centre of each point, the squared distance up to its norm, and the points of each centre."""
    home, score = np.empty(len(points), np.int64), np.empty(len(points), np.float32)

    def find(rows: slice) -> None:
        home[rows], score[rows] = _nearest(points[rows], centers)

    each(find, pieces(len(points), ROWS))
    ends = np.cumsum(np.bincount(home, minlength=len(centers)))
    return home, score, np.split(np.argsort(home, kind="stable"), ends[:-1])


def _tree(points: np.ndarray, weights: np.ndarray, size: int, iterations: int, seed: int):
    """Codes (size, D) sorted by cell, and the cell of each code (size,)."""
    cells = max(1, round(size**0.5))
    random = np.random.default_rng(seed)
    sample = random.permutation(len(points))[:COARSE_SAMPLES]
    coarse = _lloyd(points[sample], weights[sample], cells, 8, random)
    coarse = coarse[np.argsort(_principal(coarse, np.ones(len(coarse), np.float32)), kind="stable")]
    home, score, members = _homes(points, coarse)
    for rows in pieces(len(points)):
        score[rows] += np.einsum("ij,ij->i", points[rows], points[rows])
    weight_of_cell = np.bincount(home, np.maximum(score, 0) * weights, cells)
    count = np.array([len(rows) for rows in members])
    # A cell's error falls with its codes as K^(-2/D) (high-resolution theory), so that shares go almost like errors.
    wanted = _apportion(weight_of_cell ** (points.shape[1] / (points.shape[1] + 2)), count, size)

    def cluster(number: int) -> np.ndarray:
        rng = np.random.default_rng((seed, number))
        return _lloyd(points[members[number]], weights[members[number]], wanted[number], iterations, rng)

    parts = each(cluster, range(cells))
    return np.concatenate(parts), np.repeat(np.arange(cells), [len(part) for part in parts])


def _apportion(weight_of_cell: np.ndarray, limit: np.ndarray, total: int) -> np.ndarray:
    """Integers in proportion to ``weight_of_cell`` that sum to ``total`` (or less), none above ``limit``."""
    given = np.minimum(1, limit)
    for _ in range(64):
        left = total - int(given.sum())
        open_weight = np.where(given < limit, np.maximum(weight_of_cell, 1e-30), 0)
        if left <= 0 or open_weight.sum() == 0:
            break
        extra = np.floor(left * open_weight / open_weight.sum()).astype(np.int64)
        if extra.sum() == 0:
            extra[np.argsort(-open_weight, kind="stable")[:left]] = 1
        given = np.minimum(given + extra, limit)
    return given


def _refine(points: np.ndarray, weights: np.ndarray, codes: np.ndarray, cell: np.ndarray, probes: int):
    """Lloyd steps in which a point sees the codes of the ``probes`` nearest cells; returns codes and choices."""
    cells = int(cell.max()) + 1
    starts = np.searchsorted(cell, np.arange(cells + 1))
    index = np.empty(len(points), np.int64)
    for step in range(REFINEMENTS + 1):
        centers = _means(*_sums(codes, np.ones(len(codes), np.float32), cell, cells), np.full((1, 1), 1e9, np.float32))
        square = np.einsum("ij,ij->i", centers, centers)
        near = np.argsort(square - 2 * centers @ centers.T, axis=1, kind="stable")[:, :probes]
        members = _homes(points, centers)[2]

        def choose(number: int, codes=codes, near=near, members=members, step=step):
            rows = members[number]
            seen = np.concatenate([np.arange(starts[other], starts[other + 1]) for other in near[number]])
            if not len(rows):
                return seen, 0.0, 0.0
            part = points[rows]
            chosen = _nearest(part, codes[seen])[0]
            index[rows] = seen[chosen]
            return seen, *(_sums(part, weights[rows], chosen, len(seen)) if step < REFINEMENTS else ())

        chosen_cells = each(choose, range(cells))
        if step < REFINEMENTS:
            sums, total = np.zeros(codes.shape), np.zeros(len(codes))
            for seen, part, mass in chosen_cells:  # in order, so that the same points give the same codes
                sums[seen] += part
                total[seen] += mass
            codes = _means(sums, total, codes).astype(np.float32)
    return codes, index
