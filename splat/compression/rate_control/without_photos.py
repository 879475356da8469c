"""Compression without photos: prune by significance, quantize, measure against renders of the input."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.compression.finetuning.straight_through import DETAIL_EXTRA
from splat.compression.methods.prune import prune, prune_below
from splat.compression.methods.significance import blending_weights
from splat.compression.rate_control.bit_allocation import allocate_steps
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.compression.rate_control.fixed_precision import search_pruning
from splat.compression.rate_control.per_gaussian_precision import per_gaussian_precision
from splat.compression.rate_control.target_format import COARSEST, Trial
from splat.compression.rate_control.task import CompressionTask
from splat.compression.rate_control.with_renders import fit_to_renders
from splat.errors import InputError
from splat.viewpoints.around_cloud import scene_views, views_around

SCORE_VIEWS = 18  # placed around a cloud without a scene
ERROR_FRACTIONS = (0.0, 0.3, 0.6)  # of the allowed squared error that pruning may take
SIZE_FRACTIONS = (0.0, 0.3, 0.55, 0.75)  # pruned, where a size is wanted
TINY_FRACTIONS = (0.9, 0.97, 0.99, 0.999)  # where none of those can be as small
START = 50.0  # quality tried first


def without_photos(task: CompressionTask) -> Trial:
    """The best file that meets the goal. Raises InputError naming the nearest when none does."""
    cloud, goal, scene = task.cloud, task.goal, task.scene
    cameras = scene_views(scene, most=60) if scene else views_around(cloud, SCORE_VIEWS)
    cameras = [*cameras, *task.metric.cameras]  # what the metric sees must not count as unseen
    scores = blending_weights(cloud, cameras, task.options.antialiased)
    seen = prune_below(cloud, scores, float(torch.finfo(torch.float32).tiny)) if bool((scores > 0).any()) else cloud
    scores = scores[scores > 0] if len(seen) < len(cloud) else scores
    if not task.target.tunable:
        return search_pruning(task, seen, scores)
    fractions: Sequence[float] = SIZE_FRACTIONS
    if goal.psnr is not None:
        fractions = [_prunable_fraction(seen, scores, task.metric, goal.psnr, part) for part in ERROR_FRACTIONS]
    if task.target.name == "splatz":
        seen = seen.replace(extras={DETAIL_EXTRA: per_gaussian_precision(seen, cameras, task.options)})
    target = replace(task.target, steps=allocate_steps(seen, task.metric))
    task = replace(task, cloud=seen, target=target)
    best, pruned = _search_pruned(task, scores, fractions)
    return best if target.name != "splatz" else fit_to_renders(task, best, pruned[best.gaussians])


def _search_pruned(
    task: CompressionTask, scores: Tensor, fractions: Sequence[float]
) -> tuple[Trial, dict[int, GaussianCloud]]:
    """The best trial over quality and pruned ``fractions``, and the pruned clouds by their number of Gaussians."""
    pruned: dict[int, GaussianCloud] = {}

    def candidates(fractions: Sequence[float]) -> list[Callable[[float], Trial]]:
        clouds = (prune(task.cloud, scores, fraction) for fraction in sorted(set(fractions)))
        pruned.update((len(cloud), cloud) for cloud in clouds)
        return [task.candidate(cloud) for cloud in pruned.values()]

    try:
        return task.search_quality(candidates(fractions), START), pruned
    except InputError:
        if task.goal.size is None:
            raise
        pruned.clear()
        return task.search_quality(candidates(TINY_FRACTIONS), COARSEST), pruned


def _prunable_fraction(cloud: GaussianCloud, scores: Tensor, metric: FidelityMetric, psnr: float, part: float) -> float:
    """The largest fraction to prune that takes at most ``part`` of the squared error that ``psnr`` allows."""
    if part == 0:
        return 0.0
    limit, low, high = psnr - 10 * math.log10(part), 0.0, 1.0
    for _ in range(5):
        middle = (low + high) / 2
        if metric.psnr(prune(cloud, scores, middle)) >= limit:
            low = middle
        else:
            high = middle
    return low
