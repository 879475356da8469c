"""Formats of fixed precision are made small by leaving Gaussians and SH bands out."""

from collections.abc import Callable, Iterator

from torch import Tensor

from splat.cloud import GaussianCloud
from splat.compression.methods.prune import prune
from splat.compression.rate_control.search import search
from splat.compression.rate_control.target_format import Trial
from splat.compression.rate_control.task import CompressionTask


def search_pruning(task: CompressionTask, cloud: GaussianCloud, scores: Tensor) -> Trial:
    """The best trial that meets the goal, of ``cloud`` with fewer bands and without rows of lowest ``scores`` (N,)."""
    return search(_candidates(task, cloud, scores), task.goal, (0.0, 1.0), task.report)


def _candidates(task: CompressionTask, cloud: GaussianCloud, scores: Tensor) -> Iterator[Callable[[float], Trial]]:
    """Each SH degree, with the kept fraction of Gaussians as the knob."""
    for degree in sorted({cloud.sh_degree, min(cloud.sh_degree, 1), 0}, reverse=True):
        yield lambda kept, degree=degree: task.trial(
            prune(cloud.with_sh_degree(degree), scores, min(1 - kept, 0.999)), None
        )
