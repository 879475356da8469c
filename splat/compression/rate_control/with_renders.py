"""Fitting the codes of a file to renders of the cloud that it is made from: no photos, no scene.

Rounding errors of Gaussians that overlap may cancel: pictures are rendered from what the file will hold, and compared
with those of the input from many views, none of which the metric uses.
"""

from dataclasses import replace

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.compression.finetuning.fine_tuner import FineTuner, fixed_targets
from splat.compression.finetuning.quantization_aware import train_quantized
from splat.compression.finetuning.straight_through import DETAIL_EXTRA, Rounding, with_ordered_axes
from splat.compression.rate_control.search import Goal
from splat.compression.rate_control.target_format import Trial
from splat.compression.rate_control.task import CompressionTask
from splat.errors import InputError
from splat.formats.splatz.quantizer import QuantizationSteps
from splat.rendering import render
from splat.sh_basis import C0
from splat.training.schedules import Rates
from splat.viewpoints.around_cloud import scene_views, views_around

# Steps and pace of training; quality is looked for before each.
STAGES = ((300, (1.0, 0.05)), (150, (0.5, 0.05)), (150, (0.5, 0.05)))
GAIN = 0.9  # dB that the first wins, about
MOST = 200_000  # Gaussians above which it would take too long
VIEWS, PHASES = 24, (0.0, 0.25, 0.75)  # placed around a cloud without a scene; metrics have phase 0.5
SCENE_VIEWS = 40
SPEED = 0.005  # of a code's width that a value may move in a step, about


def fit_to_renders(task: CompressionTask, best: Trial, pruned: GaussianCloud) -> Trial:
    """``best``, or what is better after its codes were fitted to renders of the task's cloud.

    Args:
        pruned: the Gaussians of ``best`` as they were before they were coded.
    """
    cameras = _cameras(task)
    if not cameras or len(pruned) > MOST or best.quality is None:
        return best
    tuner = _tuner(task, pruned, cameras, best.quality)
    detail, gain, quality, tried = pruned.extras.get(DETAIL_EXTRA), GAIN, best.quality, []

    def report(trial: Trial) -> None:
        tried.append(trial)
        task.report(trial)

    for stage in STAGES:
        # Quality acts in jumps, so that a good one is looked for without training, lower by what training wins.
        try:
            start = replace(task, goal=_goal_before_training(task.goal, gain)).search_quality(
                [task.candidate(pruned)], quality
            )
        except InputError:
            break
        begin = start.quality, 8.0 * start.size
        better = train_quantized(tuner, replace(task, report=report), begin, [stage], detail=detail)
        gain, quality = max(tried[-1].psnr - start.psnr, 0.0), start.quality
        best = better if better is not None and task.goal.better(better, best) else best
    return best


def _cameras(task: CompressionTask) -> list[Camera]:
    """Where renders are made from: the scene's cameras, or some around the cloud."""
    cameras = scene_views(task.scene, most=SCENE_VIEWS) if task.scene else []
    return cameras or [camera for phase in PHASES for camera in views_around(task.cloud, VIEWS, phase=phase)]


def _tuner(task: CompressionTask, pruned: GaussianCloud, cameras: list[Camera], quality: float) -> FineTuner:
    """Trains ``pruned`` on renders of the task's cloud, at rates that suit a file of ``quality``."""
    with torch.no_grad():
        pictures = [render(task.cloud, camera, options=task.options).rgb.clamp(0, 1) for camera in cameras]
    start = with_ordered_axes(pruned.replace(extras={}))
    rates = rates_for(Rounding.of(start, task.target.steps_at(quality)).grid.steps)
    return FineTuner(
        start, fixed_targets(cameras, pictures, task.options), rates, task.options, task.seed, task.advance
    )


def _goal_before_training(goal: Goal, gain: float) -> Goal:
    if goal.psnr is not None:
        return replace(goal, psnr=goal.psnr - gain)
    return replace(goal, size=0.995 * goal.size)


def rates_for(steps: QuantizationSteps) -> Rates:
    """Learning rates that move each attribute by the same fraction of its step, at the usual visibility."""
    return Rates(
        means=SPEED * steps.position, sh_dc=SPEED * steps.colour / C0, sh_rest=SPEED * steps.sh / C0,
        logit_opacities=SPEED * steps.opacity / 0.15, log_scales=SPEED * steps.log_scale,
        quats=SPEED * steps.rotation,
    )  # fmt: skip
