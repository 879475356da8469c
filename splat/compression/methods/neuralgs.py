"""NeuralGS (Tang et al. 2025): clusters of Gaussians, each a tiny network from position to all other attributes.

`fit` makes each cluster's network learn its Gaussians' attributes, weighted by their importance; `train` goes on with
what pictures say. `splat.formats.neuralgs` has the networks and their file.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.coding import vector_kmeans
from splat.coding.octree import quantize_positions
from splat.compression.finetuning.fine_tuner import Targets
from splat.compression.finetuning.straight_through import with_ordered_axes
from splat.compression.rate_control.task import ignore
from splat.formats.neuralgs import (
    Networks,
    NetworkSettings,
    cloud_of,
    encode_positions,
    layer_shapes,
    members_of,
    rounded_weights,
)
from splat.rendering import RenderOptions
from splat.rendering.backends import choose_backend
from splat.training.step_context import StepContext

REMEMBERED = 0.98  # of the running mean of the networks, each step


def fit(
    cloud: GaussianCloud,
    weights: Tensor,
    settings: NetworkSettings | None = None,
    seed: int = 0,
) -> Networks:
    """Networks for ``cloud`` of N ≥ 1; ``weights`` (N,) ≥ 0 say how much each Gaussian matters."""
    settings = settings or NetworkSettings()
    grid = quantize_positions(cloud.means.double().numpy(), settings.levels)
    order = torch.from_numpy(grid.order)
    rows, weights = with_ordered_axes(cloud.select(order)), weights[order]
    targets = _targets(rows)
    center = targets.mean(0).half().float()
    width = targets.std(0, correction=0).clamp_min(1e-4).half().float()
    normal = ((targets - center) / width).contiguous()
    heavy = (weights.float() / weights.float().mean().clamp_min(1e-30)).clamp(0.05, 20)
    index = _clusters(normal, heavy, settings.clusters, seed)
    layers = _train(encode_positions(grid), normal, heavy, index, settings, seed)
    return Networks(grid, index, layers, center, width, cloud.sh_degree, settings)


def train(
    networks: Networks,
    targets: Targets,
    steps: int,
    options: RenderOptions | None = None,
    rate: float = 5e-4,
    seed: int = 0,
    advance: Callable[[], None] = ignore,
) -> Networks:
    """The networks after ``steps`` of Adam on the views of ``targets`` (see `fine_tuner.photo_targets`).

    Pictures show weights as they will be stored, gradients move what is behind them; the result is the running mean.
    """
    options, generator = options or RenderOptions(), torch.Generator().manual_seed(seed)
    layers = [layer.detach().clone().requires_grad_() for layer in networks.layers]
    means = [layer.detach().clone() for layer in layers]
    positions, members = encode_positions(networks.grid), members_of(networks)
    adam = torch.optim.Adam(layers, lr=rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, 0.02 ** (1 / max(steps, 1)))
    order, bits = [], networks.settings.bits
    for step in range(steps):
        order = order or torch.randperm(targets.count, generator=generator).tolist()
        view = targets.get(order.pop())
        straight = [layer + (rounded_weights(layer.detach(), bits) - layer.detach()) for layer in layers]
        cloud = cloud_of(Networks(**vars(networks) | {"layers": straight}), positions, members)
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
        advance()
    return Networks(**vars(networks) | {"layers": means})


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


def _train(
    positions: Tensor, normal: Tensor, heavy: Tensor, index: Tensor, fit: NetworkSettings, seed: int
) -> list[Tensor]:
    """Weights and biases, all clusters at once, by Adam on the weighted squared error."""
    generator = torch.Generator().manual_seed(seed)
    layers = []
    for shape in layer_shapes(fit.clusters, fit.hidden, fit.layers, normal.shape[1]):
        scale = shape[1] ** -0.5 if shape[1] > 1 else 0.0
        layers.append((torch.randn(shape, generator=generator) * scale).requires_grad_())
    members = [(index == number).nonzero()[:, 0] for number in range(fit.clusters)]
    members = [rows if len(rows) else torch.zeros(1, dtype=torch.int64) for rows in members]
    adam = torch.optim.Adam(layers, lr=fit.rate)
    decay = torch.optim.lr_scheduler.ExponentialLR(adam, 0.01 ** (1 / max(fit.steps, 1)))
    for _ in range(fit.steps):
        picks = [rows[torch.randint(len(rows), (fit.batch,), generator=generator)] for rows in members]
        rows = torch.stack(picks)
        values = positions[rows]
        for number in range(fit.layers):
            values = torch.baddbmm(layers[2 * number + 1], values, layers[2 * number])
            values = values.tanh() if number < fit.layers - 1 else values
        loss = ((values - normal[rows]).square().mean(2) * heavy[rows]).mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
        decay.step()
    return [layer.detach() for layer in layers]
