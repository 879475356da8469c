"""Whole training runs on scenes: time per step by stage, PSNR over wall-clock time and over count, frame rate, memory.

    python tools/bench_train.py SCENE --steps 2000 --gaussians 30000
    python tools/bench_train.py SCENE --strategies mcmc,adc,adc-2023 --plot runs.png --json runs.json
    python tools/bench_train.py SCENE --strategies fast,fast+dilate.stride=2,mcmc+steps=1000
    python tools/bench_train.py SCENE SCENE SCENE --downscale 4 --gaussians 60000 --strategies adc,fast+share=1

Each strategy (or preset), with settings of its own behind plus signs, is one run in a process of its own, on the same
photos and seed; `share=0.5` gives it half as many Gaussians as the first run ended with. The clock stands still while
the held-out photos are evaluated. At the end, all runs are held against the first, as means over the scenes.
"""

import multiprocessing
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from stage_clock import Clock

from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path, write_json
from splat.native import cpu_library
from splat.native.threads import one_torch_thread
from splat.rendering import render
from splat.runs.evaluation import evaluate, options_of
from splat.runs.train import peak_memory
from splat.scene import Scene, load_scene
from splat.training import schedules, trainer
from splat.training.config import config as settings
from splat.training.config.config import TrainConfig


@dataclass(frozen=True)
class Options:
    """What to train and how."""

    scenes: tyro.conf.Positional[tuple[Path, ...]]
    """The folders of one or more scenes."""
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


def config_of(run: str, options: Options, first: int = 1) -> TrainConfig:
    """Settings of ``run``: a preset, or the defaults with another strategy; then its own. Raises InputError.

    Args:
        first: number of Gaussians that the first run ended with.
    """
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
    for values in map(parsed, own):
        if "share" in values:
            count = max(1, int(values.pop("share") * first))
            values |= {"gaussians": count, "gaussians_per_root_step": 0.0}
        config = settings.merged(config, values, f"the run {run}")
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


def train(name: str, place: Path, options: Options, first: int) -> dict[str, Any]:
    """The run ``name`` on the scene at ``place``, in this process; ``first`` as of `config_of`."""
    config = config_of(name, options, first)
    scene = load_scene(place, **({"downscale": options.downscale} if options.downscale else {}))
    before = peak_memory()
    clock, curve, looking = Clock(), [], [0.0]
    setup = trainer.set_up(scene, config, timer=clock.stage)
    for index in range(len(setup.cache) if setup.cache.fits else 0):  # decoding is no part of training
        setup.cache.get(index)
    began = time.process_time()
    schedule = schedules.Schedule(config.steps, config.minutes, clock)
    state = trainer.begin(setup, schedule)

    def look() -> None:
        entry = {"step": schedule.step, "seconds": schedule.seconds, "gaussians": len(state.cloud)}
        with clock.paused():
            used = time.process_time()
            cloud = trainer.finished(setup, state)
            found = evaluate(cloud, scene, setup.name, options_of(config), full=schedule.finished)
            looking[0] += time.process_time() - used
        curve.append(entry | {"psnr": found.psnr, "ssim": found.ssim})

    with one_torch_thread(), _progress(name) as show:
        while not schedule.finished:
            trainer.step(setup, state)
            if schedules.crossed(1 / options.looks, schedule.previous_fraction, schedule.fraction) or schedule.finished:
                look()
            show(schedule.fraction, f"{len(state.cloud):,} Gaussians  {state.psnr:.2f} dB")
        seconds = schedule.seconds
        processor = time.process_time() - began - looking[0]
        spent = clock.stages(setup.name)
        pace = frame_rate(trainer.finished(setup, state), scene, config, setup.name)
    setup.cache.close()
    spent["other"] = seconds - sum(spent.values())
    camera = setup.views[0].camera
    return {
        "name": name,
        "config": asdict(config),
        "scene": scene.name,
        "photo_size": [camera.width, camera.height],
        "backend": setup.name,
        "variant": cpu_library.variant() if setup.name == "cpu" else None,
        "threads": cpu_library.threads() if setup.name == "cpu" else None,
        "steps": schedule.step,
        "seconds": seconds,
        "processor_seconds": processor,
        "seconds_per_step": {stage: total / schedule.step for stage, total in spent.items()},
        "gaussians": len(state.cloud),
        "psnr": curve[-1]["psnr"],
        "ssim": curve[-1]["ssim"],
        "frames_per_second": pace,
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


def frame_rate(cloud: GaussianCloud, scene: Scene, config: TrainConfig, backend: str) -> float | None:
    """Pictures per second, over the held-out views one after the other: the median of rounds that take two seconds."""
    cameras = [view.camera for view in scene.test_views]
    options, paces, start = options_of(config), [], time.perf_counter()
    while cameras and (len(paces) < 3 or time.perf_counter() - start < 2.0):
        began = time.perf_counter()
        for camera in cameras:
            render(cloud, camera, backend, options).rgb.cpu()  # waits for a GPU
        paces.append(len(cameras) / (time.perf_counter() - began))
    return statistics.median(paces) if paces else None


def train_apart(name: str, place: Path, options: Options, first: int) -> dict[str, Any]:
    """The same in a process of its own, so that peak memory is that of this run alone."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(train, name, place, options, first).result()


# ---- telling ----


def show(runs: list[dict[str, Any]], console: Console) -> None:
    """Print what came out of the runs on one scene, and where the time went."""
    width, height = runs[0]["photo_size"]
    title = f"{runs[0]['scene']}, {width}×{height}, {runs[0]['backend']} {runs[0]['variant'] or ''}"
    table = Table("run", title=title)
    for heading in (
        "PSNR, dB",
        "SSIM",
        "Gaussians",
        "steps",
        "seconds",
        "CPU seconds",
        "ms/step",
        "frames/s",
        "memory, MB",
    ):
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
            f"{run['frames_per_second']:.1f}" if run["frames_per_second"] is not None else "–",
            f"{run['peak_memory_bytes'] / 1e6:.0f}",
        )
    console.print(table)
    table = Table("ms per step", *(run["name"] for run in runs))
    for stage in runs[0]["seconds_per_step"]:
        table.add_row(
            stage.replace("_", " "), *(f"{1e3 * run['seconds_per_step'].get(stage, 0.0):.2f}" for run in runs)
        )
    console.print(table)


def compare(scenes: list[list[dict[str, Any]]], console: Console) -> None:
    """Print each run against the first one, as means over the scenes: of differences, and geometric ones of ratios."""
    table = Table("run", title=f"against {scenes[0][0]['name']}, mean of {len(scenes)} scenes")
    for heading in ("PSNR, dB", "on each scene", "Gaussians", "steps", "seconds ÷", "CPU seconds ÷", "frames/s ×"):
        table.add_column(heading, justify="right")
    for number, run in enumerate(scenes[0]):
        pairs = [(runs[number], runs[0]) for runs in scenes]
        gains = [one["psnr"] - base["psnr"] for one, base in pairs]

        def ratio(key: str, pairs: list = pairs) -> float:
            return statistics.geometric_mean(one[key] / base[key] for one, base in pairs)

        table.add_row(
            run["name"],
            f"{statistics.mean(gains):+.2f}",
            " ".join(f"{gain:+.2f}" for gain in gains),
            f"{ratio('gaussians'):.0%}",
            f"{ratio('steps'):.0%}",
            f"{1 / ratio('seconds'):.2f}",
            f"{1 / ratio('processor_seconds'):.2f}",
            f"{ratio('frames_per_second'):.2f}",
        )
    console.print(table)


def plot(scenes: list[list[dict[str, Any]]], path: Path) -> None:
    """Of each scene: PSNR on the held-out photos over time and over count; the stages of a step as bars."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (16, 4.5 * len(scenes))
    figure, rows = pyplot.subplots(len(scenes), 3, figsize=size, constrained_layout=True, squeeze=False)
    for runs, axes in zip(scenes, rows, strict=True):
        _draw(runs, axes, pyplot.get_cmap("tab20"))
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _draw(runs: list[dict[str, Any]], axes: Any, colours: Callable) -> None:
    """The three diagrams of one scene."""
    for axis, key, label in ((axes[0], "seconds", "training time, s"), (axes[1], "gaussians", "Gaussians")):
        for run in runs:
            curve = [entry for entry in run["curve"] if entry["psnr"] is not None]
            values = [entry["psnr"] for entry in curve]
            axis.plot([entry[key] for entry in curve], values, marker="o", markersize=3, label=run["name"])
        axis.set(xlabel=label, ylabel="PSNR of held-out photos, dB")
        axis.grid(alpha=0.3)
    axes[0].set_title(runs[0]["scene"])
    axes[0].legend()
    left = [0.0] * len(runs)
    for number, stage in enumerate(runs[0]["seconds_per_step"]):
        values = [1e3 * run["seconds_per_step"].get(stage, 0.0) for run in runs]
        colour = colours(number % 20)
        axes[2].barh([run["name"] for run in runs], values, left=left, label=stage.replace("_", " "), color=colour)
        left = [a + b for a, b in zip(left, values, strict=True)]
    axes[2].set(xlabel="ms per step")
    axes[2].invert_yaxis()
    axes[2].legend(fontsize="x-small", loc="center left", bbox_to_anchor=(1.0, 0.5))


def main() -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 140
    options = tyro.cli(Options, description=__doc__)
    try:
        names = [name.strip() for name in options.strategies.split(",") if name.strip()]
        for name in names:
            config_of(name, options)
        scenes: list[list[dict[str, Any]]] = []
        for place in options.scenes:
            runs = []
            for name in names:
                runs.append(train_apart(name, place, options, runs[0]["gaussians"] if runs else 1))
            show(runs, console)
            scenes.append(runs)
            if options.json is not None:
                write_json(options.json, {"runs": [run for each in scenes for run in each]})
        if len(names) > 1 and all(run["psnr"] is not None for each in scenes for run in each):
            compare(scenes, console)
        if options.plot is not None:
            plot(scenes, options.plot)
    except InputError as error:
        console.print(f"[red]error:[/red] {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
