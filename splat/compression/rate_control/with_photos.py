"""The smallest file that loses no more than so many dB on held-out photos: prune, heal, train on the rounded.

One run of training with one optimizer state. Gaussians leave a fifth at a time while the running mean of the cloud
keeps its quality; then pictures are drawn from what the file will hold, with a price on view-dependent colour; then
learning rates fall, more than once, each time at the coarseness that the last file asked for.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch

from splat.cloud import GaussianCloud
from splat.compression.finetuning.fine_tuner import Recovery, photos, renders, usual_rates
from splat.compression.finetuning.quantization_aware import train_coded
from splat.compression.finetuning.straight_through import with_ordered_axes
from splat.compression.methods.significance import significance
from splat.compression.rate_control.bit_allocation import allocate
from splat.compression.rate_control.judge import Judge, by_photos, by_renders
from splat.compression.rate_control.search import COARSEST, FINEST, Codec, Goal, Trial, search
from splat.errors import InputError
from splat.rendering import RenderOptions
from splat.scene import Scene
from splat.viewpoints.around_cloud import scene_views

WARM, ROUND, POLISH = 0.05, 0.05, 0.1  # shares of all steps: before pruning, after each pruning, for each polish
ROUNDS, POLISHES = 9, 3  # most prunings; polishes at the end
PRUNED = 0.2  # of the Gaussians, each time
DROP_FOR_PRUNING = 0.5  # share of the allowed drop that may be gone after pruning
HEALED = 1.0  # dB that training on the rounded wins back, about
PRICE = 0.5  # hundredths of the loss for a hundredth of the file
FAST, SLOW, LAST = (1.5, 1.0), (0.7, 0.02), (0.5, 0.02)  # paces: on the rounded, falling, in each polish
JITTER = 0.3  # of the distance between neighbouring cameras, for renders that stand in for photos
# What is rounded must move by whole steps to show: learning rates on the rounded, by those of usual recovery.
FASTER = {"means": 2.0, "log_scales": 2.0, "quats": 2.0, "sh_rest": 4.0}
PHOTO_SLOPE = 0.05  # dB that a step of one in quality changes
BEGIN = 60.0  # quality tried first


@dataclass(frozen=True)
class Work:
    """What the stages share.

    Attributes:
        scene, options: photos, and how to draw. judge: held-out photos.
        goal, before: what is wanted, and the PSNR of the input.
        codec: what writes. note: called with every trial. say: called with a sentence after every stage.
    """

    scene: Scene
    options: RenderOptions
    judge: Judge
    goal: Goal
    before: float
    codec: Codec
    note: Callable[[Trial], None]
    say: Callable[[str], None]

    def gap(self, cloud: GaussianCloud) -> float:
        """dB that ``cloud`` is better than the input, on the held-out photos."""
        return self.judge.psnr(cloud) - self.before


def with_photos(
    cloud: GaussianCloud, scene: Scene, drop: float, steps: int, codec: Codec, options: RenderOptions,
    note: Callable[[Trial], None], step: Callable[[], None], say: Callable[[str], None],
    cut: Callable[[GaussianCloud, torch.Tensor, Codec, Judge], Iterator[Callable[[float], Trial]]],
) -> Trial:  # fmt: skip
    """The smallest file at most ``drop`` dB below ``cloud`` on the held-out photos, after ``steps`` of training.

    Args:
        step: called after each step of training.
        cut: candidates for formats that have no quality.
    """
    judge = by_photos(scene, options)
    before = judge.psnr(cloud)
    work = Work(scene, options, judge, Goal(psnr=before - drop, close=0.15 * drop), before, codec, note, say)
    target, views = photos(scene, options)
    recovery = Recovery(with_ordered_axes(cloud), target, views, usual_rates(scene.extent), options, progress=step)
    start = time.monotonic()
    recovery.run(_part(WARM, steps), (1.0, 1.0))
    say(_plan(steps, (time.monotonic() - start) / max(recovery.steps, 1)))
    _thin(recovery, work, drop, steps)
    if len(recovery.cloud) == len(cloud) > 1:
        say("training on these photos shows the held-out ones worse; training on renders of the input instead")
        spent, cameras = recovery.steps, scene_views(scene)
        recovery = Recovery(
            with_ordered_axes(cloud), renders(cloud, cameras, options, JITTER), len(cameras),
            usual_rates(scene.extent), options, progress=step,
        )  # fmt: skip
        recovery.steps = spent
        _thin(recovery, work, drop, steps)
    if codec.name == "splatz":
        thinned = recovery.mean
        return _on_the_rounded(recovery, work, steps) or _searched([thinned, cloud], work)
    recovery.run(max(steps - recovery.steps, 1), SLOW)
    healed = recovery.mean
    if not codec.tunable:
        scores = significance(healed, scene_views(scene), antialiased=options.antialiased)
        return search(cut(healed, scores, codec, judge), work.goal, (0.0, 1.0), note)
    return _searched([healed, cloud], work)


def _part(share: float, steps: int) -> int:
    return max(1, round(share * steps))


def _plan(steps: int, seconds: float) -> str:
    minutes = max(1, round(steps * (1 - WARM) * seconds / 60))
    thinning = _part(WARM + ROUND * ROUNDS, steps)
    return f"{steps:,} steps, at most {thinning:,} of them while pruning: about {minutes} min, less as Gaussians leave"


def _thin(recovery: Recovery, work: Work, drop: float, steps: int) -> None:
    """Prune and heal in turn while the running mean keeps its quality."""
    cameras = scene_views(work.scene)
    for _ in range(ROUNDS):
        count = len(recovery.cloud)
        if count < 2:
            break
        last = recovery.snapshot()
        scores = significance(recovery.mean, cameras, antialiased=work.options.antialiased)
        kept = torch.ones(count, dtype=torch.bool)
        kept[torch.argsort(scores, stable=True)[: int(PRUNED * count)]] = False
        recovery.thin(kept)
        recovery.run(_part(ROUND, steps), (1.0, 1.0))
        gap = work.gap(recovery.mean)
        work.say(f"{len(recovery.cloud):,} Gaussians: {gap:+.2f} dB on the held-out photos")
        if gap < -DROP_FOR_PRUNING * drop:
            recovery.restore(last)
            work.say(f"back to {count:,} Gaussians")
            break


def _searched(clouds: Sequence[GaussianCloud], work: Work) -> Trial:
    """The smallest file of one of ``clouds`` that reaches the goal, without more training."""
    candidates = []
    for cloud in clouds:
        steps = allocate(cloud, by_renders(cloud, work.options, scene=work.scene))
        candidates.append(partial(replace(work.codec, steps=steps).trial, cloud, judge=work.judge))
    return search(candidates, work.goal, (COARSEST, FINEST), work.note, (BEGIN, PHOTO_SLOPE))


def _on_the_rounded(recovery: Recovery, work: Work, steps: int) -> Trial | None:
    """Train what the file will hold, at the coarseness that meets the goal; None if that was missed every time."""
    recovery.order_axes()
    usual = recovery.usual
    recovery.usual = replace(usual, **{name: factor * getattr(usual, name) for name, factor in FASTER.items()})
    healed = recovery.mean
    codec = replace(work.codec, steps=allocate(healed, by_renders(healed, work.options, scene=work.scene)))
    quality, bits = _first_quality(healed, work, codec)
    rest = max(steps - recovery.steps, 3)
    polish = min(_part(POLISH, steps), rest // (POLISHES + 2))
    stages = [(rest - (POLISHES + 1) * polish, FAST), (polish, SLOW)] + [(polish, LAST)] * POLISHES

    def note(trial: Trial) -> None:
        work.note(trial)
        gap = trial.psnr - work.before
        work.say(f"trained on quality {trial.quality:.1f}: {trial.size:,} bytes at {gap:+.3f} dB")

    best = train_coded(
        recovery, codec, work.judge, work.goal, (quality, bits), stages, note=note, slope=PHOTO_SLOPE, price=PRICE
    )
    if best is None:
        work.say("the goal was not met on the rounded; looking for a finer quality")
    return best


def _first_quality(cloud: GaussianCloud, work: Work, codec: Codec) -> tuple[float, float]:
    """A quality to train on, and the bits of the file: what lies below the goal by what training wins back."""
    goal = Goal(psnr=work.goal.psnr - HEALED, close=0.1)
    guess = (BEGIN, 0.15)
    try:
        found = search([partial(codec.trial, cloud, judge=work.judge)], goal, (COARSEST, FINEST), work.note, guess)
    except InputError:
        found = codec.trial(cloud, BEGIN, work.judge)
    return found.quality, 8.0 * found.size
