"""NeuralGS (Tang et al. 2025): clusters of Gaussians, each a tiny network from position to all other attributes.

Each cluster's network is fitted to its Gaussians' attributes, weighted by their importance; a file holds positions
(octree), the cluster of each Gaussian, and the networks as half floats. Decoding is a few matrix products in NumPy.
"""

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.compression.octree import join, middles, read_places, split, write_places
from splat.formats import palette
from splat.formats import splatz_entropy as entropy

BANDS = 10  # of the encoding of positions
HIDDEN, LAYERS = 128, 5  # of the paper's networks
HEAD = struct.Struct("<IBBHHH4d")
ATTRIBUTES = 8  # opacity, log scales, rotation; then the colours


@dataclass(frozen=True)
class Fit:
    """How the networks are made.

    Attributes:
        clusters: how many; the paper has 6 to 140 for 0.4 to 4 million Gaussians.
        hidden, layers: width and number of the layers. steps, batch: of Adam, each on so many Gaussians of each
            cluster. rate: of learning, falling to a hundredth.
    """

    clusters: int = 8
    hidden: int = HIDDEN
    layers: int = LAYERS
    steps: int = 2000
    batch: int = 1024
    rate: float = 3e-3


def pack(
    cloud: GaussianCloud,
    weights: Tensor,
    fit: Fit | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """The bytes of ``cloud``; ``weights`` (N,) ≥ 0 say how much each Gaussian matters."""
    fit = fit or Fit()
    if len(cloud) == 0:
        return HEAD.pack(0, cloud.sh_degree, 0, 0, 0, 0, 0, 0, 0, 1)
    grid = write_places(cloud.means.double().numpy())
    order = torch.from_numpy(grid.order)
    rows, weights = cloud.select(order), weights[order]
    targets = _targets(rows)
    center, width = targets.mean(0), targets.std(0, correction=0).clamp_min(1e-6)
    normal = ((targets - center) / width).contiguous()
    heavy = (weights.float() / weights.float().mean().clamp_min(1e-30)).clamp(0.05, 20)
    index = _clusters(normal, heavy, fit.clusters, seed)
    places = torch.from_numpy(_encoded(middles(grid.cells)))
    layers = _train(places, normal, heavy, index, fit, seed, progress)
    numbers = [*(layer.detach().numpy() for layer in layers), center.numpy(), width.numpy()]
    packed = zlib.compress(b"".join(np.asarray(part).astype("<f2").tobytes() for part in numbers), 9)
    head = HEAD.pack(
        *(len(rows), cloud.sh_degree, grid.depth, fit.clusters, fit.hidden, fit.layers), *grid.low, grid.side
    )
    return head + join([*grid.streams, entropy.encode(index.numpy()), packed])


def unpack(data: bytes) -> GaussianCloud:
    """The cloud that `pack` made of its input, along the Morton curve."""
    count, degree, depth, clusters, hidden, layers, *low, side = HEAD.unpack_from(data)
    if count == 0:
        return GaussianCloud.empty(degree)
    given = split(data, HEAD.size)
    places = middles(read_places(given, count, depth))
    index = entropy.decode(next(given), count)
    numbers = np.frombuffer(zlib.decompress(next(given)), "<f2").astype(np.float32)
    wide = ATTRIBUTES + 3 * (degree + 1) ** 2
    sizes, parts, at = _shapes(clusters, hidden, layers, wide), [], 0
    for shape in [*sizes, (wide,), (wide,)]:
        parts.append(numbers[at : at + int(np.prod(shape))].reshape(shape))
        at += int(np.prod(shape))
    inputs, values = _encoded(places), np.zeros((count, wide), np.float32)
    for number in range(clusters):
        rows = index == number
        found = inputs[rows]
        for layer in range(layers):
            found = found @ parts[2 * layer][number] + parts[2 * layer + 1][number]
            found = np.tanh(found) if layer < layers - 1 else found
        values[rows] = found
    values = torch.from_numpy(values * parts[-1] + parts[-2])
    means = torch.from_numpy((places * side + np.array(low)).astype(np.float32))
    colours = values[:, ATTRIBUTES:].reshape(count, -1, 3)
    return GaussianCloud(means, values[:, 1:4], values[:, 4:8], values[:, 0], colours)


def _targets(cloud: GaussianCloud) -> Tensor:
    """(N, 8 + 3K) opacity, log scales, rotation with w ≥ 0, colours."""
    quats = torch.nn.functional.normalize(cloud.quats, dim=1)
    quats = quats * torch.where(quats[:, :1] < 0, -1.0, 1.0)
    parts = [cloud.logit_opacities[:, None].clamp(-12, 12), cloud.log_scales.clamp(-20, 20), quats, cloud.sh.flatten(1)]
    return torch.cat(parts, 1).float()


def _clusters(normal: Tensor, heavy: Tensor, count: int, seed: int) -> Tensor:
    """(N,) cluster of each row, by k-means weighted by importance."""
    count = min(count, len(normal))
    if count <= 1:
        return torch.zeros(len(normal), dtype=torch.int64)
    return torch.as_tensor(palette.fit(normal.numpy(), heavy.numpy(), count, seed=seed)[1]).long()


def _encoded(places: np.ndarray) -> np.ndarray:
    """(N, 3 + 6·BANDS) float32: positions in [0, 1] with sines and cosines of octaves."""
    angles = (places * 2 - 1)[:, :, None] * (np.pi * 2.0 ** np.arange(BANDS))
    parts = [places * 2 - 1, np.sin(angles).reshape(len(places), -1), np.cos(angles).reshape(len(places), -1)]
    return np.concatenate(parts, 1).astype(np.float32)


def _shapes(clusters: int, hidden: int, layers: int, wide: int) -> list[tuple[int, ...]]:
    """Shapes of weights and biases of all clusters' layers."""
    widths = [3 + 6 * BANDS, *[hidden] * (layers - 1), wide]
    pairs = [((clusters, a, b), (clusters, 1, b)) for a, b in zip(widths, widths[1:], strict=False)]
    return [shape for pair in pairs for shape in pair]


def _train(places: Tensor, normal: Tensor, heavy: Tensor, index: Tensor, fit: Fit, seed: int, progress) -> list[Tensor]:
    """Weights and biases, all clusters at once, by Adam on the weighted squared error."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for shape in _shapes(fit.clusters, fit.hidden, fit.layers, normal.shape[1]):
        scale = shape[1] ** -0.5 if shape[1] > 1 else 0.0
        layers.append((torch.randn(shape, generator=generator) * scale).requires_grad_())
    members = [(index == number).nonzero()[:, 0] for number in range(fit.clusters)]
    members = [rows if len(rows) else torch.zeros(1, dtype=torch.int64) for rows in members]
    adam = torch.optim.Adam(layers, lr=fit.rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, 0.01 ** (1 / max(fit.steps, 1)))
    for step in range(fit.steps):
        picks = [rows[torch.randint(len(rows), (fit.batch,), generator=generator)] for rows in members]
        rows = torch.stack(picks)
        found = places[rows]
        for number in range(fit.layers):
            found = torch.baddbmm(layers[2 * number + 1], found, layers[2 * number])
            found = found.tanh() if number < fit.layers - 1 else found
        loss = ((found - normal[rows]).square().mean(2) * heavy[rows]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
        if progress is not None:
            progress(step + 1, fit.steps)
    return layers
