"""The smallest file that loses no more than so many dB on held-out photos: prune, fine-tune, train quantization-aware.

One run of training with one optimizer state. Gaussians leave a fifth at a time while the running mean of the cloud
keeps its quality; then pictures are rendered from what the file will hold, with a price on view-dependent colour; then
learning rates fall, more than once, each time at the coarseness that the last file asked for.
"""

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from splat.cloud import GaussianCloud
from splat.compression.finetuning.fine_tuner import FineTuner, photo_targets, render_targets, usual_rates
from splat.compression.finetuning.quantization_aware import train_quantized
from splat.compression.finetuning.straight_through import with_ordered_axes
from splat.compression.methods.significance import significance
from splat.compression.rate_control.bit_allocation import allocate_steps
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.compression.rate_control.fixed_precision import search_pruning
from splat.compression.rate_control.search import Goal
from splat.compression.rate_control.target_format import TargetFormat, Trial
from splat.compression.rate_control.task import CompressionTask
from splat.errors import InputError
from splat.viewpoints.around_cloud import scene_views

WARM, ROUND, POLISH = 0.05, 0.05, 0.1  # of all steps: before pruning, after each pruning, for each polish
ROUNDS, POLISHES = 9, 3  # most prunings; polishes at the end
PRUNED = 0.2  # of the Gaussians, each time
DROP_FOR_PRUNING = 0.5  # fraction of the allowed drop that may be gone after pruning
HEALED = 1.0  # dB that quantization-aware training wins back, about
PRICE = 0.5  # hundredths of the loss for a hundredth of the file
FAST, SLOW, LAST = (1.5, 1.0), (0.7, 0.02), (0.5, 0.02)  # paces: quantization-aware, falling, in each polish
JITTER = 0.3  # of the distance between neighbouring cameras, for renders that stand in for photos
# What is rounded must move by whole steps to show: quantization-aware learning rates, by those of usual fine-tuning.
FASTER = {"means": 2.0, "log_scales": 2.0, "quats": 2.0, "sh_rest": 4.0}
PHOTO_SLOPE = 0.05  # dB that a step of one in quality changes
PLAIN_SLOPE = 0.15  # the same before quantization-aware training
BEGIN = 60.0  # quality tried first


def with_photos(task: CompressionTask) -> Trial:
    """The smallest file within the drop that the goal allows on the held-out photos, after `task.steps` of training."""
    task = replace(task, slope=PHOTO_SLOPE)
    tuner = _pruned_on_photos(task)
    if len(tuner.cloud) == len(task.cloud) > 1:
        task.say("training on these photos shows the held-out ones worse; training on renders of the input instead")
        tuner = _pruned_on_renders(task, tuner.steps)
    if task.target.name == "splatz":
        pruned = tuner.mean
        return _quantization_aware(tuner, task) or _quantized_afterwards(task, [pruned, task.cloud])
    tuner.run(max(task.steps - tuner.steps, 1), SLOW)
    healed = tuner.mean
    if task.target.tunable:
        return _quantized_afterwards(task, [healed, task.cloud])
    scores = significance(healed, scene_views(task.scene), antialiased=task.options.antialiased)
    return search_pruning(task, healed, scores)


def _pruned_on_photos(task: CompressionTask) -> FineTuner:
    """The cloud trained on photos and pruned as far as the goal allows."""
    scene, steps = task.scene, task.steps
    targets = photo_targets(scene, task.options)
    cloud, rates = with_ordered_axes(task.cloud), usual_rates(scene.extent)
    tuner = FineTuner(cloud, targets, rates, task.options, task.seed, task.advance)
    start = time.monotonic()
    tuner.run(_steps(WARM, steps), (1.0, 1.0))
    task.say(_plan(steps, (time.monotonic() - start) / max(tuner.steps, 1)))
    _prune(tuner, task)
    return tuner


def _pruned_on_renders(task: CompressionTask, steps_made: int) -> FineTuner:
    """The cloud trained on renders of itself and pruned as far as the goal allows."""
    scene = task.scene
    targets = render_targets(task.cloud, scene_views(scene), task.options, JITTER, task.seed)
    cloud, rates = with_ordered_axes(task.cloud), usual_rates(scene.extent)
    tuner = FineTuner(cloud, targets, rates, task.options, task.seed, task.advance)
    tuner.steps = steps_made
    _prune(tuner, task)
    return tuner


def _steps(fraction: float, steps: int) -> int:
    return max(1, round(fraction * steps))


def _plan(steps: int, seconds: float) -> str:
    minutes = max(1, round(steps * (1 - WARM) * seconds / 60))
    pruning = _steps(WARM + ROUND * ROUNDS, steps)
    return f"{steps:,} steps, at most {pruning:,} of them while pruning: about {minutes} min, less as Gaussians leave"


def _prune(tuner: FineTuner, task: CompressionTask) -> None:
    """Prune and fine-tune in turn while the running mean keeps its quality."""
    cameras = scene_views(task.scene)
    for _ in range(ROUNDS):
        count = len(tuner.cloud)
        if count < 2:
            break
        last = tuner.snapshot()
        scores = significance(tuner.mean, cameras, antialiased=task.options.antialiased)
        kept = torch.ones(count, dtype=torch.bool)
        kept[torch.argsort(scores, stable=True)[: int(PRUNED * count)]] = False
        tuner.prune(kept)
        tuner.run(_steps(ROUND, task.steps), (1.0, 1.0))
        gap = task.metric.psnr(tuner.mean) - task.goal.reference
        task.say(f"{len(tuner.cloud):,} Gaussians: {gap:+.2f} dB on the held-out photos")
        if gap < -DROP_FOR_PRUNING * task.goal.drop:
            tuner.restore(last)
            task.say(f"back to {count:,} Gaussians")
            break


def _allocated(task: CompressionTask, cloud: GaussianCloud) -> TargetFormat:
    """The task's target with quantization steps allocated for ``cloud``."""
    metric = FidelityMetric.to_renders(cloud, task.options, scene=task.scene)
    return replace(task.target, steps=allocate_steps(cloud, metric))


def _quantized_afterwards(task: CompressionTask, clouds: Sequence[GaussianCloud]) -> Trial:
    """The smallest file of one of ``clouds`` that reaches the goal, without more training."""
    candidates = [replace(task, target=_allocated(task, cloud)).candidate(cloud) for cloud in clouds]
    return task.search_quality(candidates, BEGIN)


def _quantization_aware(tuner: FineTuner, task: CompressionTask) -> Trial | None:
    """Train what the file will hold, at the coarseness that meets the goal; None if that was missed every time."""
    tuner.order_axes()
    usual = tuner.usual
    tuner.usual = replace(usual, **{name: factor * getattr(usual, name) for name, factor in FASTER.items()})
    healed = tuner.mean
    task = replace(task, target=_allocated(task, healed))
    start = _first_quality(task, healed)
    rest = max(task.steps - tuner.steps, 3)
    polish = min(_steps(POLISH, task.steps), rest // (POLISHES + 2))
    stages = [(rest - (POLISHES + 1) * polish, FAST), (polish, SLOW)] + [(polish, LAST)] * POLISHES

    def report(trial: Trial) -> None:
        task.report(trial)
        gap = trial.psnr - task.goal.reference
        task.say(f"trained at quality {trial.quality:.1f}: {trial.size:,} bytes at {gap:+.3f} dB")

    best = train_quantized(tuner, replace(task, report=report), start, stages, PRICE)
    if best is None:
        task.say("the goal was not met by quantization-aware training; looking for a finer quality")
    return best


def _first_quality(task: CompressionTask, cloud: GaussianCloud) -> tuple[float, float]:
    """A quality to train at, and the bits of the file: what lies below the goal by what training wins back."""
    goal = Goal(psnr=task.goal.psnr - HEALED, close=0.1)
    try:
        first = replace(task, goal=goal).search_quality([task.candidate(cloud)], BEGIN, PLAIN_SLOPE)
    except InputError:
        first = task.trial(cloud, BEGIN)
    return first.quality, 8.0 * first.size
