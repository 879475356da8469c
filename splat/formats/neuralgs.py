"""NeuralGS files (Tang et al. 2025): clusters of Gaussians, each a tiny network from position to all other attributes.

A file holds positions (octree), the cluster of each Gaussian, and the networks in whole numbers. Decoding is a few
matrix products. `splat compress --method neuralgs` writes it.
"""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding import rans as entropy
from splat.coding.checked import body_of, checked
from splat.coding.limits import AMPLIFICATION, BELIEVED, LEAST_BYTES_PER_ROW, check_claim
from splat.coding.octree import (
    PositionGrid,
    cell_centers,
    check_place,
    each_of,
    join,
    read_positions,
    split,
    with_filler,
)
from splat.reading import guarded, read_bytes

MAGIC = b"NEURALGS\x01"
BANDS = 10  # of the encoding of positions
HEAD = struct.Struct("<IBBBHHHH4d")
BULK = 0.8  # of the Gaussians lie within 1/√2 of the drawn in space, along each axis
# What a file may ask for; the paper has 140 clusters, 5 layers of 128.
MAX_CLUSTERS, MAX_LAYERS, MAX_HIDDEN = 4096, 32, 1024
WORKING = 8  # bytes for each Gaussian and unit of a layer while decoding
ATTRIBUTES = 8  # opacity, log scales, rotation; then the colours


@dataclass(frozen=True)
class NetworkSettings:
    """How the networks are made.

    Attributes:
        clusters: how many; the paper has 6 to 140 for 0.4 to 4 million Gaussians.
        hidden, layers: width and number of the layers; 128 and 5 in the paper. steps, batch: of Adam, each on so many
            Gaussians of each cluster. rate: of learning, falling to a hundredth.
        levels: binary digits of a coordinate. bits: of the largest weight of a layer.
    """

    clusters: int = 8
    hidden: int = 64
    layers: int = 5
    steps: int = 2000
    batch: int = 512
    rate: float = 3e-3
    levels: int = 13
    bits: int = 8


@dataclass
class Networks:
    """Positions on a grid along the Morton curve, and networks that know the rest.

    Attributes:
        grid: where the N Gaussians are. index: (N,) int64 cluster of each.
        layers: weights (clusters, in, out) and biases (clusters, 1, out) in turn.
        center, width: (D,) of the attributes, as half floats hold them.
        degree, settings: of the colours; how they were made.
    """

    grid: PositionGrid
    index: Tensor
    layers: list[Tensor]
    center: Tensor
    width: Tensor
    degree: int
    settings: NetworkSettings


def read(path: Path) -> GaussianArrays:
    """The cloud in a file, along the Morton curve. Raises InputError."""
    return GaussianArrays.of(unpack(read_bytes(path), Path(path)))


def antialiased(path: Path) -> bool:
    """The format has no mark for the antialiased (mip) blur."""
    return False


def decode(networks: Networks) -> GaussianCloud:
    """The cloud that the networks stand for; gradients reach their layers."""
    return cloud_of(networks, encode_positions(networks.grid), members_of(networks))


def pack(networks: Networks) -> bytes:
    """The bytes of ``networks``."""
    grid, settings = networks.grid, networks.settings
    streams = [*grid.streams, entropy.encode(networks.index.numpy())]
    for layer in networks.layers:
        scale = weight_scale(layer, settings.bits)
        codes = torch.round(layer / scale).long().numpy()
        streams.append(scale.numpy().astype("<f4").tobytes() + entropy.encode(entropy.zigzag(codes.reshape(-1))))
    streams.append(np.concatenate([networks.center.numpy(), networks.width.numpy()]).astype("<f2").tobytes())
    head = HEAD.pack(
        *(len(networks.index), networks.degree, grid.depth, settings.bits), settings.clusters, settings.hidden,
        settings.layers, settings.levels, *grid.low, grid.side,
    )  # fmt: skip
    return checked(MAGIC, with_filler(head + join(streams), len(networks.index), networks.degree))


def unpack(data: bytes, path: Path = Path("a.neuralgs")) -> GaussianCloud:
    """The cloud that `pack` was given, along the Morton curve. Raises InputError for damaged bytes."""
    data = body_of(MAGIC, data, path)
    with guarded(path, "the NeuralGS data"), torch.no_grad():
        return _unpack(data, path)


def _unpack(data: bytes, path: Path) -> GaussianCloud:
    count, degree, depth, _, clusters, hidden, layers, levels, *low, side = HEAD.unpack_from(data)
    check_claim(path, count, degree, LEAST_BYTES_PER_ROW, len(data))
    check_place(low, side)
    if not (0 < count and 0 < clusters <= MAX_CLUSTERS and 0 < hidden <= MAX_HIDDEN and 0 < layers <= MAX_LAYERS):
        raise ValueError(f"{clusters:,} networks of {layers} layers of {hidden:,} for {count:,} Gaussians")
    working = count * hidden * WORKING
    if working > max(BELIEVED, AMPLIFICATION * len(data)):
        raise ValueError(f"layers of {hidden:,} for {count:,} Gaussians in {len(data):,} bytes")
    given = each_of(split(data, HEAD.size))
    cells = read_positions(given, count, depth, levels)
    index = torch.from_numpy(entropy.decode(next(given), count))
    if int(index.max()) >= clusters:
        raise ValueError(f"cluster {int(index.max()):,} of {clusters:,}")
    wide, parts = ATTRIBUTES + 3 * (degree + 1) ** 2, []
    for shape in layer_shapes(clusters, hidden, layers, wide):
        stream = next(given)
        scale = np.frombuffer(stream, "<f4", clusters).reshape(-1, 1, 1)
        codes = entropy.unzigzag(entropy.decode(stream[4 * clusters :], math.prod(shape))).reshape(shape)
        with np.errstate(over="ignore", invalid="ignore"):  # of a damaged file
            parts.append(torch.from_numpy((codes * scale).astype(np.float32)))
    halves = np.frombuffer(next(given), "<f2").astype(np.float32).reshape(2, wide)
    center, width = torch.from_numpy(halves)
    grid = PositionGrid(np.zeros(0, np.int64), cells, np.array(low), side, depth, [], levels)
    settings = NetworkSettings(clusters, hidden, layers, levels=levels)
    return decode(Networks(grid, index, parts, center, width, degree, settings))


def weight_scale(layer: Tensor, bits: int) -> Tensor:
    """(clusters, 1, 1) step of the whole numbers that stand for weights."""
    return (layer.abs().amax((1, 2), keepdim=True) / (2 ** (bits - 1) - 1)).clamp_min(1e-12)


def rounded_weights(layer: Tensor, bits: int) -> Tensor:
    """``layer`` as a file holds it."""
    scale = weight_scale(layer, bits)
    return torch.round(layer / scale) * scale


def members_of(networks: Networks) -> list[Tensor]:
    """Rows of each cluster."""
    return [(networks.index == number).nonzero()[:, 0] for number in range(networks.settings.clusters)]


def cloud_of(networks: Networks, positions: Tensor, members: list[Tensor]) -> GaussianCloud:
    """What the networks say at the encoded ``positions`` (N, E)."""
    parts = []
    for number, rows in enumerate(members):
        values = positions[rows]
        for layer in range(networks.settings.layers):
            weights, bias = (part[number] for part in networks.layers[2 * layer : 2 * layer + 2])
            values = torch.addmm(bias, values, weights)
            values = values.tanh() if layer < networks.settings.layers - 1 else values
        parts.append(values)
    back = torch.empty(len(positions), dtype=torch.int64)
    back[torch.cat(members)] = torch.arange(len(positions))
    values = torch.cat(parts)[back] * networks.width + networks.center
    grid = networks.grid
    means = torch.from_numpy((cell_centers(grid) * grid.side + grid.low).astype(np.float32))
    colours = values[:, ATTRIBUTES:].reshape(len(positions), -1, 3)
    return GaussianCloud(means, values[:, 1:4], values[:, 4:8], values[:, 0], colours)


def encode_positions(grid: PositionGrid) -> Tensor:
    """(N, 3 + 6·BANDS) float32: positions with sines and cosines of octaves.

    Far ones are drawn in, so that the bulk of a scene with a distant background fills the range from −1 to 1.
    """
    positions = cell_centers(grid)
    middle = np.median(positions, 0)
    positions = (positions - middle) / np.maximum(np.quantile(np.abs(positions - middle), BULK, 0), 1e-9)
    positions = positions / np.sqrt(1 + positions * positions)
    angles = positions[:, :, None] * (np.pi * 2.0 ** np.arange(BANDS))
    parts = [positions, np.sin(angles).reshape(len(positions), -1), np.cos(angles).reshape(len(positions), -1)]
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


def layer_shapes(clusters: int, hidden: int, layers: int, wide: int) -> list[tuple[int, ...]]:
    """Shapes of weights and biases of all clusters' layers."""
    widths = [3 + 6 * BANDS, *[hidden] * (layers - 1), wide]
    pairs = [((clusters, a, b), (clusters, 1, b)) for a, b in zip(widths, widths[1:], strict=False)]
    return [shape for pair in pairs for shape in pair]
