"""Image pairs to match when there are too many for all: neighbours in name order, and similar images (retrieval).

Similarity is that of VLAD vectors (Jégou et al., "Aggregating local descriptors into a compact image representation",
CVPR 2010) over visual words learnt from the photos at hand, so that no vocabulary has to be downloaded.
"""

from collections.abc import Sequence

import numpy as np
from scipy.cluster.vq import kmeans2

_WORDS = 64
_SAMPLE = 40_000  # descriptors the words are learnt from
_PER_IMAGE = 1500  # descriptors of an image that vote
NEIGHBOURS = 10
ALIKE = 20


def choose_pairs(
    descriptors: Sequence[np.ndarray], neighbours: int = NEIGHBOURS, alike: int = ALIKE
) -> list[tuple[int, int]]:
    """Pairs (i < j) of images with the SIFT ``descriptors`` (K, 128) uint8 each; images in capture or name order."""
    count = len(descriptors)
    pairs = {(i, j) for i in range(count) for j in range(i + 1, min(i + neighbours + 1, count))}
    # Growing steps tie the sequence together over gaps, as in COLMAP's quadratic overlap.
    pairs |= {(i, i + 2**k) for i in range(count) for k in range(4, 9) if i + 2**k < count}
    vectors = vlad(descriptors)
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    best = np.argsort(-similarity, axis=1)[:, : min(alike, count - 1)]
    pairs |= {(min(i, int(j)), max(i, int(j))) for i in range(count) for j in best[i]}
    return sorted(pairs)


def vlad(descriptors: Sequence[np.ndarray], seed: int = 0) -> np.ndarray:
    """(N, words·128) float32 unit vectors, one per image: summed residuals to the nearest visual words."""
    rng = np.random.default_rng(seed)
    votes = [_root_sift(each) for each in descriptors]
    everything = np.concatenate(votes)
    if len(everything) < _WORDS:
        return np.zeros((len(votes), 1), np.float32)
    words, _ = kmeans2(_sample(everything, _SAMPLE, rng), _WORDS, iter=10, minit="points", seed=seed)
    result = np.zeros((len(votes), _WORDS, words.shape[1]), np.float32)
    for vector, rows in zip(result, votes, strict=True):
        nearest = np.argmax(rows @ words.T - 0.5 * (words**2).sum(1), axis=1) if len(rows) else np.zeros(0, int)
        np.add.at(vector, nearest, rows - words[nearest])
        # One frequent word must not dominate.
        vector /= np.maximum(np.linalg.norm(vector, axis=1, keepdims=True), 1e-12)
    flat = result.reshape(len(votes), -1)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)


def sample(descriptors: np.ndarray, seed: int = 0) -> np.ndarray:
    """At most so many of an image's descriptors that thousands of images stay in memory."""
    return _sample(descriptors, _PER_IMAGE, np.random.default_rng(seed))


def _sample(rows: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= count else rows[rng.choice(len(rows), count, replace=False)]


def _root_sift(descriptors: np.ndarray) -> np.ndarray:
    """RootSIFT (Arandjelović & Zisserman, CVPR 2012): Hellinger distance between histograms."""
    values = descriptors.astype(np.float32)
    return np.sqrt(values / np.maximum(values.sum(1, keepdims=True), 1e-12))
