"""`train`: a whole training run, from a scene to a folder of results."""

import resource
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import splat
from splat import formats
from splat.cloud import GaussianCloud
from splat.errors import InputError, Interrupted, NonFiniteError, OutOfMemory
from splat.files import write_json
from splat.native import cuda_launcher
from splat.native.threads import one_torch_thread
from splat.ops.adam import parameters
from splat.ops.nonfinite import first_nonfinite
from splat.report import write_report
from splat.runs import fingerprints, folder, lock
from splat.runs.evaluation import SCORES, Evaluation, evaluate, options_of
from splat.scene import Scene
from splat.scene.scene import photo_count
from splat.signals import requests
from splat.training import checkpoint, trainer
from splat.training import population as edit
from splat.training.budget import max_gaussians
from splat.training.config import config as settings
from splat.training.config.config import EnhanceConfig, PriorsConfig, TrainConfig, WildConfig
from splat.training.hooks.hook import TrainingHook
from splat.training.progress import Progress
from splat.training.remaining import Remaining
from splat.training.schedules import Schedule, crossed
from splat.training.setup import Setup
from splat.training.start import Start, settled
from splat.training.state import State

_CHECK_EVERY = 50  # steps between two searches of all parameters for NaN and infinity
_REPORT_SECONDS = 1.0  # what writing the report takes at the end of a run, about
# Where in a run of so many minutes the time for its end is estimated anew; the last time shortly before it.
_REPLAN = (0.03, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class TrainResult:
    """Attributes:
    cloud: trained, in the frame of the scene's cameras.
    metrics: content of metrics.json; without scores if the run was stopped early.
    finished: False if `stop` ended the run early.
    out: folder of results, or None.
    """

    cloud: GaussianCloud
    metrics: dict[str, Any]
    finished: bool
    out: Path | None


def train(
    scene: Scene,
    config: TrainConfig | None = None,
    out: str | Path | None = None,
    *,
    start: Start | None = None,
    resume: bool = False,
    progress: Callable[[Progress], None] | None = None,
    stop: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
    spent: float = 0.0,
) -> TrainResult:
    """Train Gaussians on the photos of ``scene`` that are not held out, and evaluate them on those that are.

    Args:
        config: settings; the defaults if None.
        out: folder for settings, cloud, scores, report, pictures and checkpoints; None writes nothing.
        start: clouds and points to begin with (`splat.training.start`); of no need to a run that is resumed.
        resume: go on from the newest checkpoint in ``out``, to the same result bit for bit on the CPU.
        progress: called after every step.
        stop: asked after every step; True ends the run with a checkpoint.
        clock: seconds, for tests.
        spent: seconds that count as part of the run though they were spent before, such as those of starting up.

    Raises:
        InputError: for a scene without training photos, an unusable ``out``, settings unlike those of a resumed run.
        NonFiniteError: when a NaN or infinity appears, after a checkpoint of the last good state.
        OutOfMemory: when a GPU's memory is full, likewise.
        Interrupted: on Ctrl-C, SIGTERM, SIGHUP and SIGQUIT, after a checkpoint; SIGUSR1 writes one and the run goes on.
    """
    config = settings.resolved(config or TrainConfig())
    out = None if out is None else Path(out)
    folder.check_place(out, resume)
    start = start or Start()
    config = settled(_settled(config, scene), start)
    schedule = Schedule(config.steps, config.minutes, clock, spent)
    with lock.held(out):
        folder.prepare(out, config, resume)
        if resume and (found := folder.finished(out)) is not None:
            return _finished(out, *found)
        try:
            return _trained(scene, config, out, schedule, start, resume, progress, stop)
        except InputError:
            if out is not None and not resume:
                folder.forget(out)
            raise


def _trained(
    scene: Scene,
    config: TrainConfig,
    out: Path | None,
    schedule: Schedule,
    start: Start,
    resume: bool,
    progress: Callable[[Progress], None] | None,
    stop: Callable[[], bool] | None,
) -> TrainResult:
    """What `train` does in a folder that is its own."""
    photos = [] if out is None else fingerprints.of_views(scene.train_views)
    given = scene
    scene, hooks = _with_priors(scene, config)
    setup = trainer.set_up(scene, config, hooks, start=start)
    try:
        with cuda_launcher.memory_errors():
            state = _resumed(setup, schedule, given, out, photos) if resume else trainer.begin(setup, schedule)
        record = {"photos": photos, "settings": settings.to_toml(config), "start": list(state.start_files)}
        record["depth"] = fingerprints.of_depth(setup.keypoints)
        if start.files and state.schedule.step == 0:  # from here on, the run needs no cloud file any more
            _save(setup, state, out, record)
        complete = _loop(setup, state, out, record, progress, stop)
    finally:
        setup.photos.close()
    if not complete:
        return TrainResult(trainer.finished(setup, state), _facts(setup, state), False, out)
    with cuda_launcher.memory_errors():
        return _finish(setup, state, out)


def _resumed(setup: Setup, schedule: Schedule, scene: Scene, out: Path, photos: list[dict[str, Any]]) -> State:
    """The state of the newest checkpoint in ``out`` that is of use, or the first one if there is none yet."""
    checkpoints = out / "checkpoints"
    for path, packed in checkpoint.readable(checkpoints):
        folder.check_same_settings(packed, setup.config, out)
        fingerprints.check(packed["photos"], scene, out, photos)
        fingerprints.check_start(packed.get("start", []), setup.start.files, out)
        fingerprints.check_depth(packed.get("depth"), fingerprints.of_depth(setup.keypoints), out)
        try:
            return checkpoint.unpack(setup, packed, schedule)
        except ValueError as error:
            checkpoint.pass_over(path, error)
    if checkpoint.all_in(checkpoints):
        raise checkpoint.none_left(checkpoints)
    warnings.warn(f"{out} has no checkpoint yet; the run begins with its first step", stacklevel=4)
    return trainer.begin(setup, schedule)


def _settled(config: TrainConfig, scene: Scene) -> TrainConfig:
    """``config`` with what depends on the photos: the colour behind the scene, if it is to be theirs."""
    views = scene.train_views
    # Photos with transparency are compared on the background that the user names.
    if not config.priors.mean_background or not views or views[0].load().alpha is not None:
        return config
    from splat.scene.background import colour_behind

    return replace(config, background=colour_behind(views))


def _with_priors(scene: Scene, config: TrainConfig) -> tuple[Scene, tuple[TrainingHook, ...]]:
    """The scene with what the priors know of it, and their hooks; the plain path when none is switched on."""
    if (config.priors, config.wild, config.enhance) == (PriorsConfig(), WildConfig(), EnhanceConfig()):
        return scene, ()
    from splat.priors.build import prepare

    return prepare(scene, config)


def _loop(
    setup: Setup,
    state: State,
    out: Path | None,
    record: dict[str, Any],
    progress: Callable[[Progress], None] | None,
    stop: Callable[[], bool] | None,
) -> bool:
    """Steps until the run is finished; False when `stop` ended it before. Checkpoints hold ``record`` too."""
    config, schedule = setup.config, state.schedule
    saved, saving = schedule.seconds, 0.0
    speed = Speed()
    most = max_gaussians(config, schedule.expected, setup.pixels)
    remaining = Remaining(config, setup.pixels, setup.first_count, most)
    eval_psnr = next((entry["psnr"] for entry in reversed(state.history) if "psnr" in entry), None)
    with one_torch_thread(), requests() as requested:
        while not schedule.finished:
            try:
                with cuda_launcher.memory_errors():
                    trainer.step(setup, state)
                    # A faulty gradient shows at once; a parameter that is out of every picture only here.
                    if schedule.step % _CHECK_EVERY == 0 or schedule.finished:
                        trainer.check_finite(state)
                    if (
                        crossed(config.eval_every, schedule.previous_fraction, schedule.fraction)
                        and not schedule.finished
                    ):
                        eval_psnr = _look(setup, state)
                        _record(state, eval_psnr)
                    elif crossed(0.01, schedule.previous_fraction, schedule.fraction) and not schedule.finished:
                        _record(state)
                    if config.minutes is not None and any(
                        schedule.previous_fraction < at <= schedule.fraction for at in _REPLAN
                    ):
                        schedule.reserve = _reserve(setup, state, out, saving)
            except (NonFiniteError, OutOfMemory) as error:
                _let_go(error)
                # Memory may run out between two tensors of an edit.
                saved_to = _save(setup, state, out, record) if edit.aligned(state.population) else None
                if isinstance(error, OutOfMemory) and saved_to is not None:
                    raise OutOfMemory(f"{error}; the run so far is kept in {saved_to}") from error
                raise
            if progress is not None and requested.ending is None:  # a terminal that hung up takes no more
                rate = speed.after(schedule.seconds)
                progress(
                    Progress(
                        schedule.step,
                        schedule.steps,
                        schedule.fraction,
                        state.loss,
                        state.psnr,
                        state.count,
                        rate,
                        schedule.seconds,
                        eval_psnr,
                        trainer.shown(state),
                        remaining.after(schedule.step, schedule.fraction, schedule.seconds, len(state.cloud)),
                    )  # fmt: skip
                )
            ending = requested.ending is not None or (stop is not None and stop())
            asked = ending or schedule.finished or requested.saving
            if asked or 0 < config.checkpoint_seconds <= schedule.seconds - saved:
                requested.saving = False
                start = schedule.seconds
                _save(setup, state, out, record)
                saved = schedule.seconds
                saving = saved - start
            if requested.ending is not None:
                raise Interrupted(requested.ending)
            if ending and not schedule.finished:
                return False
    return True


class Speed:
    """Steps per second over the last second or so."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._steps = 0
        self._rate = 0.0

    def after(self, seconds: float) -> float:
        """Count one step that ended at ``seconds``."""
        if self._since is None:
            self._since = seconds
            return 0.0
        self._steps += 1
        elapsed = seconds - self._since
        if elapsed > 1.0 or (self._rate == 0.0 and elapsed > 0):
            self._rate = self._steps / elapsed
            if elapsed > 1.0:
                self._since, self._steps = seconds, 0
        return self._rate


# ---- looking and writing ----


def _look(setup: Setup, state: State) -> float | None:
    """Mean PSNR over the held-out photos, dB."""
    views, options = setup.scene.test_views, options_of(setup.config)
    cloud = trainer.finished(setup, state)
    return evaluate(cloud, setup.scene, setup.name, options, views, full=False).psnr


def _reserve(setup: Setup, state: State, out: Path | None, saving: float) -> float:
    """Seconds that the end of the run will take, by doing a part of it: evaluating and writing.

    Args:
        saving: what the last checkpoint took.
    """
    start, views = state.schedule.seconds, setup.scene.test_views
    cloud = trainer.finished(setup, state)
    if out is None:
        evaluate(cloud, setup.scene, setup.name, options_of(setup.config), views[:1])
        return (state.schedule.seconds - start) * len(views)
    with tempfile.TemporaryDirectory(dir=out, prefix=folder.TRIAL) as folder_name:
        evaluate(cloud, setup.scene, setup.name, options_of(setup.config), views[:1], save=Path(folder_name))
        evaluating = (state.schedule.seconds - start) * len(views)
        start = state.schedule.seconds
        formats.write(cloud.to("cpu"), Path(folder_name) / "cloud.ply")
        return evaluating + state.schedule.seconds - start + saving + _REPORT_SECONDS


def _record(state: State, psnr: float | None = None) -> None:
    """Add an entry to the history."""
    entry = {
        "step": state.schedule.step,
        "seconds": round(state.schedule.seconds, 3),
        "loss": state.loss,
        "gaussians": state.count,
    }
    state.history.append(entry | ({} if psnr is None else {"psnr": psnr}))


def _let_go(error: BaseException | None) -> None:
    """Free what the frames that ``error`` came through still hold: on a full GPU, writing a checkpoint needs room."""
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__cause__ or error.__context__


def _save(setup: Setup, state: State, out: Path | None, record: dict[str, Any]) -> Path | None:
    """Write a checkpoint and return its path, unless the state is faulty: then the one before stays the newest."""
    if out is not None and first_nonfinite(parameters(state.cloud)) is None:
        return checkpoint.save(out / "checkpoints", state.schedule.step, checkpoint.pack(setup, state) | record)
    return None


def _finish(setup: Setup, state: State, out: Path | None) -> TrainResult:
    """Evaluate, and write everything but the checkpoints."""
    state.population.cloud, state.frozen = trainer.finished(setup, state), None  # all are of one cloud now
    if out is not None:  # first: whatever fails later, this is what the run was for
        checkpoint.forget_old(out / "checkpoints")  # one too many stays where a run was killed between two
        formats.write(state.cloud.to("cpu"), out / "cloud.ply")
    renders = None if out is None else out / "renders"
    scores = evaluate(state.cloud, setup.scene, setup.name, options_of(setup.config), save=renders)
    _record(state, scores.psnr)
    metrics = _facts(setup, state, scores)
    if out is not None:
        metrics["seconds"] = round(state.schedule.seconds, 3)
        write_json(out / "metrics.json", metrics)
        try:
            write_report(out, setup.scene)
        except InputError as error:
            warnings.warn(f"the run is done, but has no report: {error}", stacklevel=2)
    return TrainResult(state.cloud, metrics, True, out)


def _facts(setup: Setup, state: State, scores: Evaluation | None = None) -> dict[str, Any]:
    """The content of metrics.json."""
    camera = setup.views[0].camera
    scored = scores.as_dict() if scores else dict.fromkeys(SCORES) | {"views": []}
    return {
        "steps": state.schedule.step,
        "seconds": round(state.schedule.seconds, 3),
        "gaussians": state.count,
        **{name: scored[name] for name in SCORES},
        "peak_memory_bytes": peak_memory(),
        "protocol": {
            "scene": setup.scene.name,
            "photos": {"training": photo_count(setup.views), "held_out": photo_count(setup.scene.test_views)},
            "first_photo_size": [camera.width, camera.height],
            "resize": "area",
            "lpips": "vgg, range [-1, 1]",
            "strategy": setup.config.strategy,
            "backend": setup.name,
            "version": splat.__version__,
            **({"start": list(state.start_files)} if state.start_files else {}),
        },
        "views": scored["views"],
        "history": state.history,
    }


def peak_memory() -> int:
    """Largest resident size of this process so far, bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _finished(out: Path, cloud: GaussianCloud, metrics: dict[str, Any]) -> TrainResult:
    """The result of a run that has nothing left to do."""
    if not (out / "report.html").exists():  # killed in the last moment
        write_report(out)
    return TrainResult(cloud, metrics, True, out)
