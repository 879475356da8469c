"""`compress()`: the smallest file for a quality, or the best quality for a size."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypedDict

import torch

from splat import formats
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import broken
from splat.compression.methods.pipelines import METHODS, Method
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.compression.rate_control.search import Goal
from splat.compression.rate_control.target_format import TargetFormat, Trial
from splat.compression.rate_control.task import STEPS, CompressionTask, ignore
from splat.compression.rate_control.with_photos import with_photos
from splat.compression.rate_control.with_renders import MOST, STAGES
from splat.compression.rate_control.without_photos import without_photos
from splat.errors import InputError
from splat.formats.ply.ply import ply_bytes
from splat.rendering import RenderOptions
from splat.scene import Scene

DEFAULT_FIDELITY = 45.0
METHOD_STEPS = 1000  # of fine-tuning in the methods of papers
TRIALS, PHOTO_TRIALS = 12, 20  # that are usually made, without photos and with
FITTING_STEPS = 12 + sum(steps for steps, _ in STAGES)  # trials and steps of fitting to renders
SLOPE_PSNR, SLOPE_SIZE = 0.5, 0.24  # by how much a trial usually changes with one step of quality, see `Goal.miss`


class Goals(TypedDict, total=False):
    """What `compress` may be asked for; one of them.

    Attributes:
        fidelity: least PSNR, dB, against renders of the input. size: most bytes.
        ratio: times smaller than the input as a float32 .ply.
        max_drop: most dB of PSNR lost on the held-out photos of the scene.
    """

    fidelity: float | None
    size: int | None
    ratio: float | None
    max_drop: float | None


@dataclass(frozen=True)
class Callbacks:
    """How `compress` tells what it does.

    Attributes:
        report: called with every trial.
        progress: called with work done and all work, as it is guessed.
        say: called with a sentence after every stage of training.
    """

    report: Callable[[Trial], None] = ignore
    progress: Callable[[int, int], None] = ignore
    say: Callable[[str], None] = ignore


@dataclass(frozen=True)
class MethodChoice:
    """A method from a paper and how it is to work.

    Attributes:
        name: one of `METHODS`. steps: of fine-tuning, where there are photos.
        pruned: fraction of the Gaussians to leave out first, for methods that prune; None is the usual.
    """

    name: str
    steps: int = METHOD_STEPS
    pruned: float | None = None


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

    @staticmethod
    def of(trial: Trial, source: "Source", trials: list[dict]) -> "Compressed":
        """``trial`` as the result, of all ``trials``."""
        return Compressed(
            **vars(trial), source_gaussians=len(source.cloud), dropped=source.dropped, source_size=source.size,
            trials=trials,
        )  # fmt: skip


_HOLDS_NO_PLACE = "coordinates are relative to {target.place}, which {target.name} files cannot say"


@dataclass(frozen=True)
class Source:
    """The input of a compression.

    Attributes:
        cloud: float32, on the CPU, without extras, broken rows and bands that are all zero.
        dropped: broken rows that were left out. size: bytes as float32 .ply, with all bands.
    """

    cloud: GaussianCloud
    dropped: int
    size: int

    @staticmethod
    def of(cloud: GaussianCloud) -> "Source":
        """``cloud`` made ready."""
        bad = torch.from_numpy(broken(GaussianArrays.of(cloud))).to(cloud.device)
        cloud = cloud.select(~bad).detach().to("cpu", torch.float32).replace(extras={})
        size = ply_bytes(len(cloud), cloud.sh_degree)
        cloud = cloud if bool(cloud.sh[:, 1:].any()) else cloud.with_sh_degree(0)
        return Source(cloud, int(bad.sum()), size)


def compress(
    cloud: GaussianCloud,
    out: Path | str = "cloud.splatz",
    *,
    scene: Scene | None = None,
    options: RenderOptions | None = None,
    steps: int = STEPS,
    callbacks: Callbacks | None = None,
    **goals: "float | None",
) -> Compressed:
    """Search for the best small version of ``cloud`` in the format that the ending of ``out`` names; writes nothing.

    Give one of the `Goals` (45 dB of fidelity if none): ``fidelity``, ``size``, ``ratio`` or ``max_drop``, which
    prunes, and fine-tunes the rest on the photos of ``scene``.

    Args:
        scene: its held-out cameras measure fidelity instead of views around the cloud.
        options: how the cloud is to be rendered.
        steps: of training in all, with ``max_drop``.
        callbacks: who is told of trials and progress.

    Gaussians that hold NaN are left out. Raises InputError when a goal cannot be met, naming the nearest that can.
    """
    given = check_goals(goals, scene)
    source, options, callbacks = Source.of(cloud), options or RenderOptions(), callbacks or Callbacks()
    target, trials = TargetFormat(Path(out), options.antialiased, place=cloud.georeference), []
    scene = None if scene is None else scene.beside(cloud)
    if not target.holds_place:
        callbacks.say(_HOLDS_NO_PLACE.format(target=target))
    fitting = FITTING_STEPS if target.name == "splatz" and len(source.cloud) <= MOST else 0
    work = WorkCounter(callbacks.progress, PHOTO_TRIALS + steps if "max_drop" in given else TRIALS + fitting)

    def report(trial: Trial) -> None:
        trials.append(trial.row())
        work.done(1)
        callbacks.report(trial)

    if len(source.cloud) == 0:
        best = target.trial(source.cloud, None, FidelityMetric((), (), (), options))
        return Compressed.of(best, source, trials)
    metric, goal = _metric_and_goal(given, source, scene, options)
    task = CompressionTask(
        source.cloud, target, goal, metric, options, scene, steps,
        slope=SLOPE_PSNR if goal.psnr is not None else SLOPE_SIZE, report=report, advance=partial(work.done, 1),
        say=callbacks.say,
    )  # fmt: skip
    best = with_photos(task) if "max_drop" in given else without_photos(task)
    return Compressed.of(best, source, trials)


def compress_by_method(
    cloud: GaussianCloud,
    choice: MethodChoice,
    out: Path | str,
    *,
    scene: Scene | None = None,
    options: RenderOptions | None = None,
    say: Callable[[str], None] = ignore,
) -> Compressed:
    """``cloud`` as one of the `METHODS` from papers makes it small; writes nothing.

    Args:
        scene: photos to fine-tune on, whose held-out ones measure the result; without it, nothing is fine-tuned, and
            renders of ``cloud`` measure.
        say: called with a sentence after stages that take long.

    Raises InputError for an unknown method, a format that it does not write, or a cloud without Gaussians.
    """
    source, options = Source.of(cloud), options or RenderOptions()
    method, target = _method(choice, Path(out)), TargetFormat(Path(out), options.antialiased, place=cloud.georeference)
    scene = None if scene is None else scene.beside(cloud)
    if not target.holds_place:
        say(_HOLDS_NO_PLACE.format(target=target))
    if len(source.cloud) == 0:
        raise InputError("the cloud has no Gaussians that methods could work on; give another cloud")
    if scene is None:
        metric = FidelityMetric.to_renders(source.cloud, options)
    else:
        metric = FidelityMetric.to_photos(scene, options)
    task = CompressionTask(source.cloud, target, Goal(), metric, options, scene, choice.steps, say=say)
    trial = method.run(task, choice.pruned)
    return Compressed.of(trial, source, [trial.row()])


def _method(choice: MethodChoice, out: Path) -> Method:
    """The method that ``choice`` names, if it can write ``out``. Raises InputError."""
    if choice.name not in METHODS:
        raise InputError(f"no method is called '{choice.name}'; choose one of {', '.join(METHODS)}")
    method, target = METHODS[choice.name], formats.by_suffix(out)
    if choice.pruned is not None and not (method.prunes and 0 <= choice.pruned < 1):
        pruning = " and ".join(name for name, known in METHODS.items() if known.prunes)
        raise InputError(f"{choice.name} cannot prune {choice.pruned:g}; give 0 to below 1, to {pruning} only")
    writes = target.name == method.own_format if target.method else method.any_format
    if not writes:
        suffix = formats.find(method.own_format).suffixes[0] if method.own_format else ".splatz or .sog"
        raise InputError(f"{out}: {choice.name} does not write such a file; give it the ending {suffix}")
    return method


def check_goals(goals: Goals, scene: Scene | None) -> Goals:
    """Those of ``goals`` that are not None. Raises InputError for several or senseless ones."""
    unknown = set(goals) - set(Goals.__annotations__)
    if unknown:
        raise TypeError(f"compress() got an unexpected keyword argument '{unknown.pop()}'")
    given = {name: value for name, value in goals.items() if value is not None}
    names = [name.replace("_", "-") for name in given]
    if len(given) > 1:
        raise InputError(f"{' and '.join(names)} were all given; give one goal, as they contradict each other")
    for name, value in zip(names, given.values(), strict=True):
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"the {name} is {value:g}, expected a positive number")
    if "max_drop" in given and scene is None:
        raise InputError(
            "a largest drop is measured against photos; name them with a scene, or give a fidelity instead"
        )
    return given


def _metric_and_goal(
    given: Goals, source: Source, scene: Scene | None, options: RenderOptions
) -> tuple[FidelityMetric, Goal]:
    if "max_drop" in given:
        metric = FidelityMetric.to_photos(scene, options)
        return metric, Goal.below(metric.psnr(source.cloud), given["max_drop"])
    metric = FidelityMetric.to_renders(source.cloud, options, scene=scene)
    if "size" in given:
        return metric, Goal(size=given["size"])
    if "ratio" in given:
        return metric, Goal(size=math.floor(source.size / given["ratio"]))
    return metric, Goal(psnr=given.get("fidelity", DEFAULT_FIDELITY))


class WorkCounter:
    """Counts work towards a guessed total, which grows where it was guessed too low."""

    def __init__(self, progress: Callable[[int, int], None], total: int) -> None:
        self._progress, self._total, self._count = progress, total, 0

    def done(self, amount: int) -> None:
        """``amount`` more is done."""
        self._count += amount
        self._total = max(self._total, self._count + 1)
        self._progress(self._count, self._total)
