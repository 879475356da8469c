"""Methods from papers from end to end, as `splat compress --method` runs them: a cloud in, a file out.

With a scene, clouds are fine-tuned on its photos; without one, methods work from the cloud alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.compression.finetuning.fine_tuner import FineTuner, photo_targets, usual_rates
from splat.compression.finetuning.finetune import distill, finetune
from splat.compression.methods import neuralgs
from splat.compression.methods.adaptive_sh import adapt_degrees
from splat.compression.methods.grid_regularizer import grid_hook
from splat.compression.methods.prune import prune
from splat.compression.methods.self_organizing_grid import sort_grid
from splat.compression.methods.significance import blending_weights, significance
from splat.compression.methods.vector_quantization import CodebookRounding, compact3d, fit_codebooks, sub_vectors
from splat.compression.rate_control.target_format import Trial
from splat.compression.rate_control.task import CompressionTask
from splat.formats import codebooks, vectree
from splat.formats.codebooks import Group
from splat.formats.neuralgs import NetworkSettings
from splat.formats.neuralgs import pack as pack_networks
from splat.formats.neuralgs import unpack as unpack_networks
from splat.viewpoints.around_cloud import scene_views, views_around

PRUNED = {"lightgaussian": 0.66, "neuralgs": 0.0}  # fraction left out, where the user names none
DISTILLED_DEGREE = 2  # of LightGaussian
DISTILLING = 3  # steps of fine-tuning for each of distillation
CODEBOOK_PACE = (0.3, 0.01)  # learning rates while codebooks are trained on, of the usual
PRUNED_AT_ONCE = 0.2  # by NeuralGS's preparation, between two stages of fine-tuning
GAUSSIANS_PER_NETWORK = 1000  # about: 28 networks for 22,105 lost 0.2 dB
MOST_NETWORKS = 140  # of the paper
FITTING = 2  # steps on attributes for each on photos
VIEWS = 18  # placed around a cloud without a scene


@dataclass(frozen=True)
class Method:
    """One value of ``--method``.

    Attributes:
        run: makes the file; the second argument is the fraction of Gaussians to prune first, or None for the usual.
        own_format: name of the file format that only it writes, or "". any_format: whether it writes all others too.
        prunes: whether it prunes.
    """

    run: Callable[[CompressionTask, float | None], Trial]
    own_format: str = ""
    any_format: bool = False
    prunes: bool = False


def lightgaussian(task: CompressionTask, pruned: float | None) -> Trial:
    """Prune by global significance, fine-tune, distil SH to degree 2, VecTree (Fan et al. 2024)."""
    cameras = _cameras(task)
    fraction = PRUNED["lightgaussian"] if pruned is None else pruned
    cloud = prune(task.cloud, significance(task.cloud, cameras, antialiased=task.options.antialiased), fraction)
    task.say(f"pruned by significance: {len(cloud):,} of {len(task.cloud):,} Gaussians")
    if task.scene is not None:
        cloud = finetune(cloud, task.scene, task.steps, task.options, task.seed)
    cloud = distill(cloud, DISTILLED_DEGREE, cameras, task.steps // DISTILLING, task.options, task.seed)
    return vectree_quantization(replace(task, cloud=cloud), None)


def vectree_quantization(task: CompressionTask, _: float | None) -> Trial:
    """VecTree alone: octree positions, codebook colours for the less significant (Fan et al. 2024, §3.4)."""
    if task.target.name != "vectree":
        return task.trial(task.cloud, None)
    scores = significance(task.cloud, _cameras(task), antialiased=task.options.antialiased)
    codes = min(vectree.CODES, max(len(task.cloud) // 4, 1))
    data = vectree.pack(task.cloud, scores, codes=codes, seed=task.seed)
    return _measured(task, task.cloud, data, vectree.unpack(data))


def vector_quantization(groups: Callable[[GaussianCloud], Sequence[Group]]) -> Callable:
    """k-means codebooks for ``groups`` of columns, trained on photos by straight-through gradients."""

    def run(task: CompressionTask, _: float | None) -> Trial:
        cloud = task.cloud
        scores = significance(cloud, _cameras(task), antialiased=task.options.antialiased)
        books = fit_codebooks(cloud, list(groups(cloud)), scores, task.seed)
        if task.scene is not None and task.steps:
            rounding = CodebookRounding(books)
            cloud = finetune(cloud, task.scene, task.steps, task.options, task.seed, CODEBOOK_PACE, rounding)
        data = codebooks.pack(cloud, books)
        return _measured(task, cloud, data, codebooks.unpack(data))

    return run


def neuralgs_networks(task: CompressionTask, pruned: float | None) -> Trial:
    """A small network for each cluster, fitted to attributes, then trained on photos (Tang et al. 2025)."""
    fraction = PRUNED["neuralgs"] if pruned is None else pruned
    cloud = _pruned_in_stages(task, fraction)
    scores = significance(cloud, _cameras(task), antialiased=task.options.antialiased)
    clusters = min(max(len(cloud) // GAUSSIANS_PER_NETWORK, 1), MOST_NETWORKS)
    settings = NetworkSettings(clusters=clusters, steps=FITTING * task.steps)
    networks = neuralgs.fit(cloud, scores, settings, task.seed)
    task.say(f"{settings.clusters} networks were fitted to the attributes of {len(cloud):,} Gaussians")
    if task.scene is not None and task.steps:
        targets = photo_targets(task.scene, task.options)
        networks = neuralgs.train(networks, targets, task.steps, task.options, 3e-3, task.seed, task.advance)
    data = pack_networks(networks)
    return _measured(task, cloud, data, unpack_networks(data))


def self_organizing_grid(task: CompressionTask, _: float | None) -> Trial:
    """Rows sorted into a smooth grid; with photos, fine-tuned on it with its regularizer (Morgenstern et al. 2024)."""
    cloud = sort_grid(task.cloud, task.seed)
    if task.scene is not None and task.steps and len(cloud) > 1:
        targets, rates = photo_targets(task.scene, task.options), usual_rates(task.scene.extent)
        hooks = [grid_hook(sort_every=0)]
        tuner = FineTuner(cloud, targets, rates, task.options, task.seed, task.advance, hooks)
        tuner.run(task.steps, (1.0, 0.02))
        cloud = sort_grid(tuner.mean, task.seed)
    return replace(task.target, keep_order=True).trial(cloud, None, task.metric)


def adaptive_sh(task: CompressionTask, _: float | None) -> Trial:
    """SH bands that no picture would miss are zero, Gaussian by Gaussian (Papantonakis et al. 2024)."""
    weights = blending_weights(task.cloud, _cameras(task), task.options.antialiased)
    return task.trial(adapt_degrees(task.cloud, weights), None)


METHODS = {
    "lightgaussian": Method(lightgaussian, "vectree", any_format=True, prunes=True),
    "vectree": Method(vectree_quantization, "vectree"),
    "compact3d": Method(vector_quantization(compact3d), "codebooks"),
    "omg": Method(vector_quantization(sub_vectors), "codebooks"),
    "neuralgs": Method(neuralgs_networks, "neuralgs", prunes=True),
    "self-organizing-grid": Method(self_organizing_grid, any_format=True),
    "adaptive-sh": Method(adaptive_sh, any_format=True),
}


def _cameras(task: CompressionTask) -> list[Camera]:
    return scene_views(task.scene) if task.scene is not None else views_around(task.cloud, VIEWS)


def _pruned_in_stages(task: CompressionTask, fraction: float) -> GaussianCloud:
    """The cloud without ``fraction`` of its rows, a fifth at a time, fine-tuned in between where there are photos."""
    left = max(1, round((1 - fraction) * len(task.cloud)))
    if task.scene is None or left == len(task.cloud):
        scores = significance(task.cloud, _cameras(task), antialiased=task.options.antialiased)
        return prune(task.cloud, scores, fraction)
    cameras, rates = scene_views(task.scene), usual_rates(task.scene.extent)
    tuner = FineTuner(task.cloud, photo_targets(task.scene, task.options), rates, task.options, task.seed)
    while len(tuner.cloud) > left:
        scores = significance(tuner.mean, cameras, antialiased=task.options.antialiased)
        count = min(int(PRUNED_AT_ONCE * len(scores)) + 1, len(scores) - left)
        kept = torch.ones(len(scores), dtype=torch.bool)
        kept[torch.argsort(scores, stable=True)[:count]] = False
        tuner.prune(kept)
        tuner.run(max(task.steps // 4, 1), (1.0, 1.0))
    return tuner.mean


def _measured(task: CompressionTask, cloud: GaussianCloud, data: bytes, read: GaussianCloud) -> Trial:
    """The file ``data`` of ``cloud``, from which a reader gets ``read``."""
    return Trial(len(cloud), read.sh_degree, None, len(data), task.metric.psnr(read), data, read)
