"""NeuralGS (Tang et al. 2025): clusters of Gaussians, each a tiny network from position to all other attributes.

`fit` makes each cluster's network learn its Gaussians' attributes, weighted by their importance; `train` goes on with
what pictures say. A file holds positions (octree), the cluster of each Gaussian, and the networks in whole numbers.
Decoding is a few matrix products in NumPy.
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.coding import rans as entropy
from splat.coding import vector_kmeans
from splat.coding.octree import Places, join, middles, read_places, split, write_places
from splat.compression.finetuning.fine_tuner import Targets
from splat.compression.finetuning.straight_through import with_ordered_axes
from splat.rendering import RenderOptions
from splat.rendering.backends import choose_backend
from splat.training.step_context import StepContext

BANDS = 10  # of the encoding of positions
HEAD = struct.Struct("<IBBBHHHH4d")
BULK = 0.8  # of the Gaussians lie within 1/√2 of the drawn in space, along each axis
ATTRIBUTES = 8  # opacity, log scales, rotation; then the colours
REMEMBERED = 0.98  # of the running mean of the networks, each step


@dataclass(frozen=True)
class Fit:
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
        degree, form: of the colours; how they were made.
    """

    grid: Places
    index: Tensor
    layers: list[Tensor]
    center: Tensor
    width: Tensor
    degree: int
    form: Fit


def pack(cloud: GaussianCloud, weights: Tensor, form: Fit | None = None, seed: int = 0) -> bytes:
    """The bytes of ``cloud`` with networks that were only fitted; see `fit`, `train` and `coded` for the whole way."""
    form = form or Fit()
    if len(cloud) == 0:
        return HEAD.pack(0, cloud.sh_degree, 0, form.bits, 0, 0, 0, 0, 0, 0, 0, 1)
    return coded(fit(cloud, weights, form, seed))


def fit(
    cloud: GaussianCloud,
    weights: Tensor,
    form: Fit | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Networks:
    """Networks for ``cloud`` of N ≥ 1; ``weights`` (N,) ≥ 0 say how much each Gaussian matters."""
    form = form or Fit()
    grid = write_places(cloud.means.double().numpy(), form.levels)
    order = torch.from_numpy(grid.order)
    rows, weights = with_ordered_axes(cloud.select(order)), weights[order]
    targets = _targets(rows)
    center = targets.mean(0).half().float()
    width = targets.std(0, correction=0).clamp_min(1e-4).half().float()
    normal = ((targets - center) / width).contiguous()
    heavy = (weights.float() / weights.float().mean().clamp_min(1e-30)).clamp(0.05, 20)
    index = _clusters(normal, heavy, form.clusters, seed)
    layers = _train(_encoded(grid), normal, heavy, index, form, seed, progress)
    return Networks(grid, index, layers, center, width, cloud.sh_degree, form)


def shown(networks: Networks) -> GaussianCloud:
    """The cloud that the networks stand for; gradients reach their layers."""
    return _cloud(networks, _encoded(networks.grid), _members(networks))


def train(
    networks: Networks,
    targets: Targets,
    steps: int,
    options: RenderOptions | None = None,
    rate: float = 5e-4,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Networks:
    """The networks after ``steps`` of Adam on the views of ``targets`` (see `fine_tuner.photo_targets`).

    Pictures show weights as they will be stored, gradients move what is behind them; the result is the running mean.
    """
    options, generator = options or RenderOptions(), torch.Generator().manual_seed(seed)
    layers = [layer.detach().clone().requires_grad_() for layer in networks.layers]
    means = [layer.detach().clone() for layer in layers]
    places, members = _encoded(networks.grid), _members(networks)
    adam = torch.optim.Adam(layers, lr=rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, 0.02 ** (1 / max(steps, 1)))
    order: list[int] = []
    for step in range(steps):
        order = order or torch.randperm(targets.count, generator=generator).tolist()
        view = targets.get(order.pop())
        straight = [layer + (_rounded(layer.detach(), networks.form.bits) - layer.detach()) for layer in layers]
        cloud = _cloud(Networks(**vars(networks) | {"layers": straight}), places, members)
        plain = cloud.detach().map(torch.Tensor.contiguous)
        backend = choose_backend(plain)
        rendering, context = backend.forward(plain, view.camera, options)
        loss = targets.loss(rendering, view, StepContext())
        gradients = backend.backward(context, loss.gradients)
        names = [name for name in FIELDS if name != "means"]
        adam.zero_grad()
        torch.autograd.backward([getattr(cloud, name) for name in names], [getattr(gradients, name) for name in names])
        adam.step()
        decay.step()
        for mean, layer in zip(means, layers, strict=True):
            mean.lerp_(layer.detach(), 1 - min(REMEMBERED, (step + 1) / (step + 10)))
        if progress is not None:
            progress(step + 1, steps)
    return Networks(**vars(networks) | {"layers": means})


def coded(networks: Networks) -> bytes:
    """The bytes of ``networks``."""
    grid, form = networks.grid, networks.form
    streams = [*grid.streams, entropy.encode(networks.index.numpy())]
    for layer in networks.layers:
        scale = _scale(layer, form.bits)
        codes = torch.round(layer / scale).long().numpy()
        streams.append(scale.numpy().astype("<f4").tobytes() + entropy.encode(entropy.zigzag(codes.reshape(-1))))
    streams.append(np.concatenate([networks.center.numpy(), networks.width.numpy()]).astype("<f2").tobytes())
    head = HEAD.pack(
        *(len(networks.index), networks.degree, grid.depth, form.bits), form.clusters, form.hidden, form.layers,
        form.levels, *grid.low, grid.side,
    )  # fmt: skip
    return head + join(streams)


def unpack(data: bytes) -> GaussianCloud:
    """The cloud that `coded` was given, along the Morton curve."""
    count, degree, depth, _, clusters, hidden, layers, levels, *low, side = HEAD.unpack_from(data)
    if count == 0:
        return GaussianCloud.empty(degree)
    given = split(data, HEAD.size)
    cells = read_places(given, count, depth, levels)
    index = torch.from_numpy(entropy.decode(next(given), count))
    wide, parts = ATTRIBUTES + 3 * (degree + 1) ** 2, []
    for shape in _shapes(clusters, hidden, layers, wide):
        stream = next(given)
        scale = np.frombuffer(stream, "<f4", clusters).reshape(-1, 1, 1)
        codes = entropy.unzigzag(entropy.decode(stream[4 * clusters :], int(np.prod(shape)))).reshape(shape)
        parts.append(torch.from_numpy((codes * scale).astype(np.float32)))
    center, width = torch.from_numpy(np.frombuffer(next(given), "<f2").astype(np.float32)).chunk(2)
    grid = Places(np.zeros(0, np.int64), cells, np.array(low), side, depth, [], levels)
    return shown(Networks(grid, index, parts, center, width, degree, Fit(clusters, hidden, layers, levels=levels)))


def _scale(layer: Tensor, bits: int) -> Tensor:
    """(clusters, 1, 1) step of the whole numbers that stand for weights."""
    return (layer.abs().amax((1, 2), keepdim=True) / (2 ** (bits - 1) - 1)).clamp_min(1e-12)


def _rounded(layer: Tensor, bits: int) -> Tensor:
    scale = _scale(layer, bits)
    return torch.round(layer / scale) * scale


def _members(networks: Networks) -> list[Tensor]:
    return [(networks.index == number).nonzero()[:, 0] for number in range(networks.form.clusters)]


def _cloud(networks: Networks, places: Tensor, members: list[Tensor]) -> GaussianCloud:
    """What the networks say at the encoded ``places`` (N, E)."""
    parts = []
    for number, rows in enumerate(members):
        found = places[rows]
        for layer in range(networks.form.layers):
            weights, bias = (part[number] for part in networks.layers[2 * layer : 2 * layer + 2])
            found = torch.addmm(bias, found, weights)
            found = found.tanh() if layer < networks.form.layers - 1 else found
        parts.append(found)
    back = torch.empty(len(places), dtype=torch.int64)
    back[torch.cat(members)] = torch.arange(len(places))
    values = torch.cat(parts)[back] * networks.width + networks.center
    grid = networks.grid
    means = torch.from_numpy((middles(grid) * grid.side + grid.low).astype(np.float32))
    colours = values[:, ATTRIBUTES:].reshape(len(places), -1, 3)
    return GaussianCloud(means, values[:, 1:4], values[:, 4:8], values[:, 0], colours)


def _targets(cloud: GaussianCloud) -> Tensor:
    """(N, 8 + 3K) opacity, log scales, rotation with w ≥ 0, colours."""
    parts = [
        cloud.logit_opacities[:, None].clamp(-12, 12), cloud.log_scales.clamp(-20, 20), cloud.quats, cloud.sh.flatten(1)
    ]  # fmt: skip
    return torch.cat(parts, 1).float()


def _clusters(normal: Tensor, heavy: Tensor, count: int, seed: int) -> Tensor:
    """(N,) cluster of each row, by k-means weighted by importance."""
    count = min(count, len(normal))
    if count <= 1:
        return torch.zeros(len(normal), dtype=torch.int64)
    return torch.as_tensor(vector_kmeans.fit(normal.numpy(), heavy.numpy(), count, seed=seed)[1]).long()


def _encoded(grid: Places) -> Tensor:
    """(N, 3 + 6·BANDS) float32: positions with sines and cosines of octaves.

    Far ones are drawn in, so that the bulk of a scene with a distant background fills the range from −1 to 1.
    """
    places = middles(grid)
    middle = np.median(places, 0)
    places = (places - middle) / np.maximum(np.quantile(np.abs(places - middle), BULK, 0), 1e-9)
    places = places / np.sqrt(1 + places * places)
    angles = places[:, :, None] * (np.pi * 2.0 ** np.arange(BANDS))
    parts = [places, np.sin(angles).reshape(len(places), -1), np.cos(angles).reshape(len(places), -1)]
    return torch.from_numpy(np.concatenate(parts, 1).astype(np.float32))


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
    return [layer.detach() for layer in layers]
