"""Whole training runs on a scene: time per step by stage, PSNR over wall-clock time and over count, peak memory.

    python tools/bench_train.py SCENE --steps 2000 --gaussians 30000
    python tools/bench_train.py SCENE --strategies mcmc,adc,adc-2023 --plot runs.png --json runs.json
    python tools/bench_train.py SCENE --strategies fast,fast+dilate.stride=2,mcmc+steps=1000

Each strategy (or preset), with settings of its own behind plus signs, is one run in a process of its own, on the same
photos, count and seed. The clock stands still while the held-out photos are evaluated.
"""

import multiprocessing
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

from splat import core
from splat.errors import InputError
from splat.files import atomic_path, write_json
from splat.rendering import cpu
from splat.scene import Scene
from splat.threads import one_torch_thread
from splat.training import config as settings
from splat.training import schedules, trainer
from splat.training.config import TrainConfig
from splat.training.evaluation import evaluate, options_of
from splat.training.run import peak_memory


@dataclass(frozen=True)
class Options:
    """What to train and how."""

    scene: tyro.conf.Positional[Path]
    """The scene's folder."""
    strategies: str = "mcmc"
    """Strategies or presets, with commas between them, each with settings if need be: fast+steps=900+coarse.start=2."""
    steps: int | None = None
    """Steps of each run; the preset's own number if not given."""
    minutes: float | None = None
    """Minutes of each run instead of a number of steps (evaluation does not count)."""
    gaussians: int | None = None
    """Budget of Gaussians; the preset's own if not given."""
    downscale: float | None = None
    """Divide the photos' sides by this."""
    seed: int = 0
    """Seed of each run."""
    backend: str = "auto"
    """What draws the pictures."""
    looks: int = 10
    """How often each run is evaluated on the held-out photos."""
    json: Path | None = None
    """Write all numbers here."""
    plot: Path | None = None
    """Draw PSNR over time and over count, and the stages of a step, here (PNG, SVG or PDF)."""


def config_of(run: str, options: Options) -> TrainConfig:
    """Settings of ``run``: a preset, or the defaults with another strategy; then its own. Raises InputError."""
    name, *own = run.split("+")
    if name in settings.presets():
        config = settings.preset(name)
    elif name in settings.STRATEGIES:
        config = TrainConfig(strategy=name)
    else:
        known = sorted({*settings.presets(), *settings.STRATEGIES})
        raise InputError(f"there is no strategy or preset '{name}'; expected some of {', '.join(known)}")
    given = {"steps": options.steps, "minutes": options.minutes, "gaussians": options.gaussians}
    given = {key: value for key, value in given.items() if value is not None}
    if options.steps is not None:
        given["minutes"] = None
    if options.gaussians is not None:
        given["gaussians_per_root_step"] = 0.0
    config = replace(config, **given, seed=options.seed, backend=options.backend)
    for setting in own:
        config = settings.merged(config, parsed(setting), f"the run {run}")
    return config


def parsed(setting: str) -> dict[str, Any]:
    """``name=value`` as TOML reads it, the name with dots; a bare word is a string. Raises InputError."""
    try:
        import tomllib
    except ModuleNotFoundError:  # Python 3.10
        import tomli as tomllib
    name, _, value = setting.partition("=")
    for text in (value, f'"{value}"'):
        try:
            return tomllib.loads(f"{name} = {text}")
        except tomllib.TOMLDecodeError:
            continue
    raise InputError(f"'{setting}' is no setting; write it as name=value, such as coarse.start=2")


# ---- one run ----


class Clock:
    """Seconds of training, in all and by stage; stands still inside `paused`."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)  # by stage outside the core
        self._lost = 0.0
        self._core: dict[str, float] = defaultdict(float)
        cpu.reset_timings()

    def __call__(self) -> float:
        return time.perf_counter() - self._lost

    def core(self) -> dict[str, float]:
        """Seconds that the stages of the `cpu` backend took."""
        return {stage: seconds - self._core[stage] for stage, seconds in cpu.timings().items()}

    @contextmanager
    def paused(self) -> Iterator[None]:
        with self.counted_as(None):
            start = time.perf_counter()
            yield
            self._lost += time.perf_counter() - start

    @contextmanager
    def counted_as(self, stage: str | None) -> Iterator[None]:
        """Inside the block no stage counts, but the whole block as ``stage``, where that is given."""
        start, before, spent = time.perf_counter(), cpu.timings(), dict(self.spent)
        yield
        self.spent.clear()
        self.spent.update(spent)
        for each, seconds in cpu.timings().items():
            self._core[each] += seconds - before[each]
        if stage is not None:
            self.spent[stage] += time.perf_counter() - start


@contextmanager
def stage_clock(setup: trainer.Setup, clock: Clock) -> Iterator[Callable[[], dict[str, float]]]:
    """Inside the block, the trainer's calls are timed; the function that it yields gives seconds by stage so far.

    Of the stages inside the core, what its own clock counts; "drawing" and "update" are the rest of those calls.
    """

    def timed(stage: str, function: Callable) -> Callable:
        def call(*args: Any, **named: Any) -> Any:
            if stage == "strategy":  # it draws and compares too
                with clock.counted_as(stage):
                    return function(*args, **named)
            start = time.perf_counter()
            try:
                return function(*args, **named)
            finally:
                clock.spent[stage] += time.perf_counter() - start

        return call

    def stages() -> dict[str, float]:
        inside = clock.core() if setup.name == "cpu" else {}
        backward = inside.get("blend_backward", 0.0) + inside.get("gaussian_backward", 0.0)
        found = dict(inside) | clock.spent
        found["drawing"] = found.get("drawing", 0.0) - (sum(inside.values()) - backward)
        found["update"] = found.get("update", 0.0) - backward
        return found

    places = (
        ("photo", setup.cache, "get"),
        ("drawing", setup.backend, "forward"),
        ("loss", trainer, "picture_loss"),
        ("update", trainer, "update"),
        ("noise", trainer, "add_noise"),
        ("strategy", setup.strategy, "refine"),
    )
    with ExitStack() as stack:
        for stage, owner, name in places:
            call = timed(stage, getattr(owner, name))
            if owner is setup.strategy:  # frozen
                object.__setattr__(owner, name, call)
            else:
                stack.enter_context(patch.object(owner, name, call))
        yield stages


def train(name: str, options: Options) -> dict[str, Any]:
    """One run from beginning to end, in this process."""
    config = config_of(name, options)
    scene = Scene.load(options.scene, **({"downscale": options.downscale} if options.downscale else {}))
    before = peak_memory()
    setup = trainer.set_up(scene, config)
    for index in range(len(setup.cache) if setup.cache.fits else 0):  # decoding is no part of training
        setup.cache.get(index)
    clock, curve, looking = Clock(), [], [0.0]
    began = time.process_time()
    plan = schedules.Plan(config.steps, config.minutes, clock)
    state = trainer.begin(setup, plan)

    def look() -> None:
        entry = {"step": plan.step, "seconds": plan.seconds, "gaussians": len(state.cloud)}
        with clock.paused():
            used = time.process_time()
            cloud = trainer.finished(setup, state)
            found = evaluate(cloud, scene, setup.name, options_of(config), full=plan.finished)
            looking[0] += time.process_time() - used
        curve.append(entry | {"psnr": found.psnr, "ssim": found.ssim})

    with one_torch_thread(), stage_clock(setup, clock) as stages, _progress(name) as show:
        while not plan.finished:
            trainer.step(setup, state)
            if schedules.crossed(1 / options.looks, plan.before, plan.fraction) or plan.finished:
                look()
            show(plan.fraction, f"{len(state.cloud):,} Gaussians  {state.psnr:.2f} dB")
        seconds = plan.seconds
        processor = time.process_time() - began - looking[0]
        spent = stages()
    setup.cache.close()
    spent["other"] = seconds - sum(spent.values())
    camera = setup.views[0].camera
    return {
        "name": name,
        "config": asdict(config),
        "scene": scene.name,
        "photo_size": [camera.width, camera.height],
        "backend": setup.name,
        "variant": core.variant() if setup.name == "cpu" else None,
        "threads": core.threads() if setup.name == "cpu" else None,
        "steps": plan.step,
        "seconds": seconds,
        "processor_seconds": processor,
        "seconds_per_step": {stage: total / plan.step for stage, total in spent.items()},
        "gaussians": len(state.cloud),
        "psnr": curve[-1]["psnr"],
        "ssim": curve[-1]["ssim"],
        "curve": curve,
        "peak_memory_bytes": peak_memory(),
        "memory_before_training_bytes": before,
    }


@contextmanager
def _progress(name: str) -> Iterator[Callable[[float, str], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, TextColumn("{task.fields[facts]}"), transient=True) as bar:
        task = bar.add_task(name, total=1.0, facts="")
        yield lambda done, facts: bar.update(task, completed=done, facts=facts)


def train_apart(name: str, options: Options) -> dict[str, Any]:
    """The same in a process of its own, so that peak memory is that of this run alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, name, options).result()


# ---- telling ----


def show(runs: list[dict[str, Any]], console: Console) -> None:
    """Print what came out, and where the time went."""
    width, height = runs[0]["photo_size"]
    title = f"{runs[0]['scene']}, {width}×{height}, {runs[0]['backend']} {runs[0]['variant'] or ''}"
    table = Table("run", title=title)
    for heading in ("PSNR, dB", "SSIM", "Gaussians", "steps", "seconds", "CPU seconds", "ms/step", "peak memory, MB"):
        table.add_column(heading, justify="right")
    for run in runs:
        table.add_row(
            run["name"],
            f"{run['psnr']:.2f}" if run["psnr"] is not None else "–",
            f"{run['ssim']:.4f}" if run["ssim"] is not None else "–",
            f"{run['gaussians']:,}",
            f"{run['steps']:,}",
            f"{run['seconds']:.1f}",
            f"{run['processor_seconds']:.1f}",
            f"{1e3 * run['seconds'] / run['steps']:.1f}",
            f"{run['peak_memory_bytes'] / 1e6:.0f}",
        )
    console.print(table)
    table = Table("ms per step", *(run["name"] for run in runs))
    for stage in runs[0]["seconds_per_step"]:
        table.add_row(
            stage.replace("_", " "), *(f"{1e3 * run['seconds_per_step'].get(stage, 0.0):.2f}" for run in runs)
        )
    console.print(table)


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """PSNR on the held-out photos over time and over count; the stages of a step as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(16, 4.5), constrained_layout=True)
    for axis, key, label in ((axes[0], "seconds", "training time, s"), (axes[1], "gaussians", "Gaussians")):
        for run in runs:
            curve = [entry for entry in run["curve"] if entry["psnr"] is not None]
            values = [entry["psnr"] for entry in curve]
            axis.plot([entry[key] for entry in curve], values, marker="o", markersize=3, label=run["name"])
        axis.set(xlabel=label, ylabel="PSNR of held-out photos, dB")
        axis.grid(alpha=0.3)
    axes[0].legend()
    left = [0.0] * len(runs)
    for number, stage in enumerate(runs[0]["seconds_per_step"]):
        values = [1e3 * run["seconds_per_step"].get(stage, 0.0) for run in runs]
        colour = pyplot.get_cmap("tab20")(number % 20)
        axes[2].barh([run["name"] for run in runs], values, left=left, label=stage.replace("_", " "), color=colour)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes[2].set(xlabel="ms per step")
    axes[2].invert_yaxis()
    axes[2].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def main() -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 140
    options = tyro.cli(Options, description=__doc__)
    try:
        names = [name.strip() for name in options.strategies.split(",") if name.strip()]
        for name in names:
            config_of(name, options)
        runs = [train_apart(name, options) for name in names]
        show(runs, console)
        if options.json is not None:
            write_json(options.json, {"runs": runs})
        if options.plot is not None:
            plot(runs, options.plot)
    except InputError as error:
        console.print(f"[red]error:[/red] {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
