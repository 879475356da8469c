"""Fitting the codes of a file to renders of the cloud that it is made from: no photos, no scene.

Rounding errors of Gaussians that overlap may cancel: pictures are drawn from what the file will hold, and compared with
those of the input from many views, none of which judges.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch

from splat.cloud import GaussianCloud
from splat.compression.finetuning.fine_tuner import Recovery, square_loss
from splat.compression.finetuning.quantization_aware import train_coded
from splat.compression.finetuning.straight_through import Rounding, with_ordered_axes
from splat.compression.rate_control.judge import Judge
from splat.compression.rate_control.per_gaussian_precision import NAME
from splat.compression.rate_control.search import COARSEST, FINEST, Codec, Goal, Trial, search
from splat.errors import InputError
from splat.formats.splatz.quantizer import Steps
from splat.rendering import RenderOptions, render
from splat.scene import Scene
from splat.sh_basis import C0
from splat.training.schedules import Rates
from splat.viewpoints.around_cloud import scene_views, views_around

# Steps and pace of training; quality is looked for before each.
STAGES = ((300, (1.0, 0.05)), (150, (0.5, 0.05)), (150, (0.5, 0.05)))
GAIN = 0.9  # dB that the first wins, about
MOST = 200_000  # Gaussians above which it would take too long
VIEWS, PHASES = 24, (0.0, 0.25, 0.75)  # placed around a cloud without a scene; judges have phase 0.5
SCENE_VIEWS = 40
SPEED = 0.005  # of a code's width that a value may move in a step, about


def refit(
    found: Trial, part: GaussianCloud, whole: GaussianCloud, scene: Scene | None, goal: Goal, codec: Codec,
    judge: Judge, options: RenderOptions, slope: float, note: Callable[[Trial], None],
    step: Callable[[], None] | None = None,
) -> Trial:  # fmt: skip
    """``found``, or what is better after its codes were fitted to renders of ``whole``.

    Args:
        part: the Gaussians of ``found`` as they were before they were coded.
        slope: by how much a step of one in quality changes `Goal.miss`. step: called after each step of training.
    """
    cameras = scene_views(scene, most=SCENE_VIEWS) if scene else []
    cameras = cameras or [camera for phase in PHASES for camera in views_around(whole, VIEWS, phase=phase)]
    if not cameras or len(part) > MOST or found.quality is None:
        return found
    with torch.no_grad():
        pictures = [render(whole, camera, options=options).rgb.clamp(0, 1) for camera in cameras]
    detail = part.extras.get(NAME)
    start = with_ordered_axes(part.replace(extras={}))
    frame = Rounding.of(start, codec.steps_at(found.quality)).frame
    recovery = Recovery(
        start, lambda index: (cameras[index], pictures[index], None), len(cameras), rates_for(frame.steps), options,
        progress=step, loss=square_loss,
    )  # fmt: skip
    best, gain, quality, tried = found, GAIN, found.quality, []

    def seen(trial: Trial) -> None:
        tried.append(trial)
        note(trial)

    for steps, pace in STAGES:
        # Quality acts in jumps, so that a good one is looked for without training, lower by what training wins.
        aim = replace(goal, psnr=goal.psnr - gain) if goal.psnr is not None else replace(goal, size=0.995 * goal.size)
        candidate = partial(codec.trial, part, judge=judge)
        try:
            start = search([candidate], aim, (COARSEST, FINEST), note, (quality, slope))
        except InputError:
            break
        stage = [(steps, pace)]
        begin = start.quality, 8.0 * start.size
        better = train_coded(recovery, codec, judge, goal, begin, stage, note=seen, slope=slope, detail=detail)
        gain, quality = max(tried[-1].psnr - start.psnr, 0.0), start.quality
        best = better if better is not None and goal.better(better, best) else best
    return best


def rates_for(steps: Steps) -> Rates:
    """Learning rates that move each attribute by the same share of its step, at the usual visibility."""
    return Rates(
        means=SPEED * steps.position, sh_dc=SPEED * steps.colour / C0, sh_rest=SPEED * steps.sh / C0,
        logit_opacities=SPEED * steps.opacity / 0.15, log_scales=SPEED * steps.log_scale,
        quats=SPEED * steps.rotation,
    )  # fmt: skip
