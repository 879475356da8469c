"""Making clouds small: `compress()` finds the smallest file for a quality, or the best quality for a size."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import torch

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import broken
from splat.compression.finetuning.finetune import distill, finetune
from splat.compression.methods.prune import prune, prune_below
from splat.compression.methods.significance import blending_weights, significance
from splat.compression.rate_control.bit_allocation import allocate
from splat.compression.rate_control.judge import Judge, by_renders
from splat.compression.rate_control.per_gaussian_precision import NAME, details
from splat.compression.rate_control.search import COARSEST, FINEST, Codec, Goal, Trial, search
from splat.compression.rate_control.with_photos import with_photos
from splat.compression.rate_control.with_renders import MOST, STAGES, refit
from splat.errors import InputError
from splat.rendering import RenderOptions
from splat.scene import Scene
from splat.viewpoints.around_cloud import scene_views, views_around

__all__ = [
    "Compressed", "blending_weights", "compress", "distill", "finetune", "prune", "prune_below", "significance",
    "views_around",
]  # fmt: skip

DEFAULT_FIDELITY = 45.0
SCORE_VIEWS = 18  # placed around a cloud without a scene
ERROR_SHARES = (0.0, 0.3, 0.6)  # of the allowed squared error that pruning may take
SIZE_SHARES = (0.0, 0.3, 0.55, 0.75)  # pruned, where a size is wanted
TINY_SHARES = (0.9, 0.97, 0.99, 0.999)  # where none of those can be as small
START = 50.0  # quality tried first
STEPS = 4000  # of training, with photos
FITTING = 12 + sum(steps for steps, _ in STAGES)  # trials and steps without photos
SLOPE_PSNR, SLOPE_SIZE = 0.5, 0.24  # by how much a trial usually changes with one step of quality, see `Goal.miss`


@dataclass(frozen=True)
class Compressed:
    """What `compress` found.

    Attributes:
        data: bytes of the file. cloud: what a reader gets from them.
        size, psnr: bytes and dB; gaussians, sh_degree, quality: what was chosen.
        source_gaussians: of the input, without ``dropped`` broken ones. source_size: bytes
            of the input as float32 .ply.
        trials: every setting that was tried.
    """

    data: bytes
    cloud: GaussianCloud
    size: int
    psnr: float
    gaussians: int
    sh_degree: int
    quality: float | None
    source_gaussians: int
    dropped: int
    source_size: int
    trials: list[dict] = field(default_factory=list)


def compress(
    cloud: GaussianCloud,
    out: Path | str = "cloud.splatz",
    *,
    fidelity: float | None = None,
    size: int | None = None,
    ratio: float | None = None,
    max_drop: float | None = None,
    scene: Scene | None = None,
    steps: int = STEPS,
    options: RenderOptions | None = None,
    report: Callable[[Trial], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> Compressed:
    """Search for the best small version of ``cloud`` in the format that the ending of ``out`` names; writes nothing.

    Give one goal (45 dB of fidelity if none):

    Args:
        fidelity: least PSNR, dB, against renders of ``cloud`` from views around it (or the scene's held-out cameras).
        size: most bytes. ratio: times smaller than the input as a float32 .ply.
        max_drop: most dB of PSNR lost on the held-out photos of ``scene``; prunes, and fine-tunes the rest.
        steps: of training in all, with ``max_drop``.
        options: how the cloud is to be drawn.
        report: called with every trial.
        progress: called with work done and all work, as it is guessed.
        say: called with a sentence after every stage of training.

    Gaussians that hold NaN are left out. Raises InputError when a goal cannot be met, naming the nearest that can.
    """
    _check(fidelity, size, ratio, max_drop, scene)
    options = options or RenderOptions()
    bad = torch.from_numpy(broken(GaussianArrays.of(cloud))).to(cloud.device)
    cloud = cloud.select(~bad).detach().to("cpu", torch.float32).replace(extras={})
    plain = 1500 + len(cloud) * 4 * (14 + 3 * cloud.sh.shape[1])
    cloud = cloud if bool(cloud.sh[:, 1:].any()) else cloud.with_sh_degree(0)
    codec = Codec(Path(out), options.antialiased)
    trials: list[dict] = []
    fitting = FITTING if codec.name == "splatz" and len(cloud) <= MOST else 0
    work = _Work(progress, 12 + fitting if max_drop is None else 20 + steps)

    def note(trial: Trial) -> None:
        trials.append(trial.row())
        work.done(1)
        if report is not None:
            report(trial)

    if len(cloud) == 0:
        found = codec.trial(cloud, None, Judge((), (), (), options))
    elif max_drop is not None:
        found = with_photos(
            cloud, scene, max_drop, steps, codec, options, note, partial(work.done, 1), say or (lambda _: None), _cut
        )
    else:
        wanted = size if size is not None else math.floor(plain / ratio) if ratio is not None else None
        goal = Goal(size=wanted) if wanted is not None else Goal(psnr=fidelity or DEFAULT_FIDELITY)
        found = _without_photos(cloud, scene, goal, codec, options, note, partial(work.done, 1))
    facts = {
        name: getattr(found, name) for name in ("data", "cloud", "size", "psnr", "gaussians", "sh_degree", "quality")
    }
    return Compressed(**facts, source_gaussians=len(cloud), dropped=int(bad.sum()), source_size=plain, trials=trials)


class _Work:
    """Counts work towards a guessed total, which grows where it was guessed too low."""

    def __init__(self, progress: Callable[[int, int], None] | None, total: int) -> None:
        self.progress, self.total, self.count = progress, total, 0

    def done(self, amount: int) -> None:
        self.count += amount
        self.total = max(self.total, self.count + 1)
        if self.progress is not None:
            self.progress(self.count, self.total)


def _check(fidelity, size, ratio, max_drop, scene) -> None:
    goals = {"fidelity": fidelity, "size": size, "ratio": ratio, "max-drop": max_drop}
    given = {name: value for name, value in goals.items() if value is not None}
    if len(given) > 1:
        raise InputError(f"{' and '.join(given)} were all given; give one goal, as they contradict each other")
    for name, value in given.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"the {name} is {value:g}, expected a positive number")
    if max_drop is not None and scene is None:
        raise InputError(
            "a largest drop is measured against photos; name them with a scene, or give a fidelity instead"
        )


def _without_photos(
    cloud: GaussianCloud, scene: Scene | None, goal: Goal, codec: Codec, options: RenderOptions, note, step
) -> Trial:
    """Post-hoc: prune by significance, cut or quantize, judge by renders of the input."""
    judge = by_renders(cloud, options, scene=scene)
    slope = SLOPE_PSNR if goal.psnr is not None else SLOPE_SIZE
    cameras = scene_views(scene, most=60) if scene else views_around(cloud, SCORE_VIEWS)
    cameras = [*cameras, *judge.cameras]  # what the judge sees must not count as unseen
    scores = blending_weights(cloud, cameras, options.antialiased)
    seen = prune_below(cloud, scores, float(torch.finfo(torch.float32).tiny)) if bool((scores > 0).any()) else cloud
    scores = scores[scores > 0] if len(seen) < len(cloud) else scores
    if not codec.tunable:
        return search(_cut(seen, scores, codec, judge), goal, (0.0, 1.0), note)
    if goal.psnr is not None:
        shares = [_share_within(seen, scores, judge, goal.psnr, part) for part in ERROR_SHARES]
    else:
        shares = SIZE_SHARES
    if codec.name == "splatz":
        seen = seen.replace(extras={NAME: details(seen, cameras, options)})
    codec = replace(codec, steps=allocate(seen, judge))
    parts: dict[int, GaussianCloud] = {}

    def pruned(shares: Sequence[float]) -> list[Callable[[float], Trial]]:
        parts.update((len(part), part) for part in (prune(seen, scores, share) for share in sorted(set(shares))))
        return [partial(codec.trial, part, judge=judge) for part in parts.values()]

    try:
        found = search(pruned(shares), goal, (COARSEST, FINEST), note, (START, slope))
    except InputError:
        if goal.size is None:
            raise
        parts.clear()
        found = search(pruned(TINY_SHARES), goal, (COARSEST, FINEST), note, (COARSEST, slope))
    if codec.name != "splatz":
        return found
    return refit(found, parts[found.gaussians], seen, scene, goal, codec, judge, options, slope, note, step)


def _cut(cloud: GaussianCloud, scores: torch.Tensor, codec: Codec, judge: Judge) -> Iterator[Callable[[float], Trial]]:
    """Candidates for formats of fixed precision: each SH degree, with the kept share of Gaussians as the knob."""
    for degree in sorted({cloud.sh_degree, min(cloud.sh_degree, 1), 0}, reverse=True):
        yield lambda kept, degree=degree: codec.trial(
            prune(cloud.with_sh_degree(degree), scores, min(1 - kept, 0.999)), None, judge
        )


def _share_within(cloud: GaussianCloud, scores: torch.Tensor, judge: Judge, psnr: float, part: float) -> float:
    """The largest share to prune that takes at most ``part`` of the squared error that ``psnr`` allows."""
    if part == 0:
        return 0.0
    limit, low, high = psnr - 10 * math.log10(part), 0.0, 1.0
    for _ in range(5):
        middle = (low + high) / 2
        if judge.psnr(prune(cloud, scores, middle)) >= limit:
            low = middle
        else:
            high = middle
    return low
