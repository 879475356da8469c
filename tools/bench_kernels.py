"""Speed of every stage of the CPU training step, against the arithmetic peak measured in the same run.

    python tools/bench_kernels.py                  # full sweeps, some minutes
    python tools/bench_kernels.py --quick          # one size, seconds
    python tools/bench_kernels.py --cloud run/cloud.ply --scene photos/   # a real cloud from a real camera
    python tools/bench_kernels.py --memory         # resident memory of training, over count and size

Units: an evaluation is one Gaussian at one pixel, whether it contributes or not; a contributing pair has alpha ≥ 1/255
at a pixel that is not finished; FMA lanes are the multiply-adds the machine could have done in the time a stage took.
"""

import ctypes
import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import tyro
from rich.console import Console
from rich.table import Table

from splat import formats
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.files import atomic_path, write_json
from splat.native import cpu_library
from splat.ops.adam import AdamHyper, AdamState
from splat.ops.mcmc_noise import add_noise
from splat.ops.photometric_loss import image_loss
from splat.rendering import ImageGradients, RenderOptions, cpu
from splat.scene import load_scene

COUNTS = (10_000, 30_000, 100_000, 300_000, 1_000_000, 2_000_000, 5_000_000)
HEIGHTS = (240, 360, 540, 720, 1080, 1440, 2160)  # pictures of 16:9
MEMORY_CASES = ((50_000, 540), (200_000, 540), (500_000, 540), (1_000_000, 540), (200_000, 240), (200_000, 1080))
COUNT, HEIGHT = 150_000, 540  # what stays fixed while the other varies
WARM_UP = 5  # steps until the C library has seen how much memory a step frees and takes again
# Vector instructions that one evaluation needs at least, counted from the inner loops of cpu/blending.cpp. Forward:
# position, exponent, 2^q, transmittance, three colours. Backward: the same decisions, the gradients of colour and
# alpha, and six moments of the latter.
FORWARD_OPERATIONS, BACKWARD_OPERATIONS = 22, 40
BLENDING = ("blend", "blend_backward")


@dataclass(frozen=True)
class Options:
    """What to measure."""

    quick: bool = False
    """Only one size, few repetitions."""
    variant: tuple[str, ...] = ()
    """Build variants; the one in use if none is named, `all` for all that run here."""
    threads: tuple[int, ...] = ()
    """Numbers of threads; one and the default if none is given."""
    memory: bool = False
    """Measure resident memory instead of time (Linux)."""
    repeats: int = 7
    """Measurements of each size; the median counts."""
    cloud: Path | None = None
    """Measure this cloud instead of synthetic ones; needs a scene."""
    scene: Path | None = None
    """A scene whose first training view draws the cloud."""
    json: Path | None = None
    """Write all numbers here."""
    plot: Path | None = None
    """Draw time over count and size here (PNG, SVG or PDF)."""
    counts: tuple[int, ...] = field(default=COUNTS)
    """Numbers of Gaussians of the first sweep."""
    heights: tuple[int, ...] = field(default=HEIGHTS)
    """Picture heights of the second sweep."""


# ---- what is measured ----


def synthetic_cloud(count: int, seed: int = 0) -> GaussianCloud:
    """Flat Gaussians on 40 spheres before a wall, about as large as their spacing: what a trained scene looks like.

    The more Gaussians, the smaller each, as in training; opacities spread over (0, 1).
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator)

    spheres = torch.cat([(uniform(40, 2) - 0.5) * torch.tensor([10.0, 6.0]), 4 + 6 * uniform(40, 1)], 1)
    radii = 0.3 + 1.2 * uniform(40, 1)
    which = torch.randint(0, 41, (count,), generator=generator)
    outward = torch.nn.functional.normalize(normal(count, 3), dim=1)
    on_wall = (which == 40)[:, None]
    wall = torch.cat([(uniform(count, 2) - 0.5) * torch.tensor([24.0, 14.0]), torch.full((count, 1), 12.0)], 1)
    index = which.clamp_max(39)
    means = torch.where(on_wall, wall, spheres[index] + radii[index] * outward)
    outward = torch.where(on_wall, torch.tensor([0.0, 0.0, 1.0]), outward)
    area = torch.where(on_wall[:, 0], torch.tensor(24 * 14.0), 4 * math.pi * radii[index, 0] ** 2)
    spacing = (area * 41 / count).sqrt()
    scales = spacing[:, None] * torch.exp(0.4 * normal(count, 3)) * torch.tensor([0.6, 0.6, 0.1])
    # The rotation that takes z to the outward normal.
    quats = torch.stack([1 + outward[:, 2], -outward[:, 1], outward[:, 0], torch.zeros(count)], 1)
    quats[outward[:, 2] < -0.999] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    sh = 0.1 * normal(count, 16, 3)
    sh[:, 0] += 0.5 * normal(count, 3)
    return GaussianCloud(means, scales.log(), quats, 1.5 * normal(count) + 0.5, sh)


def camera(height: int) -> Camera:
    """A 16:9 camera at the origin of the synthetic scene."""
    width = round(height * 16 / 9)
    focal = 0.6 * width
    return Camera(focal, focal, width / 2, height / 2, width, height, torch.eye(4, dtype=torch.float64))


def fma_peak(seconds: float = 0.15) -> float:
    """Multiply-adds per second of the variant in use on the threads in use."""
    spin = cpu_library.function("splat_fma_peak", [ctypes.c_int64], ctypes.c_int64)
    rounds = 1 << 16
    best = 0.0
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        start = time.perf_counter()
        lanes = spin(rounds)
        best = max(best, lanes / (time.perf_counter() - start))
    return best


def count_work(context: Any) -> tuple[int, int]:
    """Contributing pairs and evaluations of a forward pass."""
    numbers = (ctypes.c_int64 * 2)()
    count = cpu_library.function("splat_count_work", [ctypes.c_void_p] * 3)
    base = ctypes.addressof(numbers)
    count(context.workspace.handle, base, base + 8)
    return numbers[0], numbers[1]


def measure(cloud: GaussianCloud, view: Camera, repeats: int) -> dict[str, Any]:
    """Seconds of each stage of a training step (median of ``repeats``), and the work it held."""
    target = torch.randint(
        0, 256, (view.height, view.width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    moments = AdamState.zeros(cloud)
    rates = {"means": 1e-9, "log_scales": 1e-9, "quats": 1e-9, "logit_opacities": 1e-9, "sh_dc": 1e-9, "sh_rest": 1e-9}
    options = RenderOptions()
    times: dict[str, list[float]] = {}
    work: dict[str, Any] = {}
    for repeat in range(WARM_UP + repeats):
        begin = time.perf_counter()
        rendering, context = cpu.forward(cloud, view, options)
        rendered = time.perf_counter()
        loss = image_loss(rendering.rgb, target)
        compared = time.perf_counter()
        cpu.backward_adam(context, ImageGradients(rgb=loss.grad), moments, AdamHyper(step=repeat + 1, **rates))
        stepped = time.perf_counter()
        add_noise(cloud, 1e-12, 0, repeat)
        end = time.perf_counter()
        if repeat == 0:  # the first one pays for fresh memory
            work["visible"], work["tile_pairs"] = context.workspace.counts()
            del rendering, context
            rendering, context = cpu.forward(cloud, view, options)
            work["contributing"], work["evaluated"] = count_work(context)
            work["workspace_bytes"] = context.workspace.nbytes()
        inside = context.workspace.seconds()
        del rendering, context  # the next frame uses the same memory
        if repeat < WARM_UP:
            continue
        stages = {**inside, "loss": compared - rendered, "noise": end - stepped}
        stages["other"] = end - begin - sum(stages.values())
        stages["step"] = end - begin
        for name, seconds in stages.items():
            times.setdefault(name, []).append(seconds)
    return {"seconds": {name: statistics.median(values) for name, values in times.items()}, **work}


def judge(found: dict[str, Any], peak: float, threads: int) -> dict[str, Any]:
    """What the measured times mean beside the machine's peak (lanes per second, all threads)."""
    seconds, evaluated, contributing = found["seconds"], found["evaluated"], max(found["contributing"], 1)
    forward, backward = (seconds[name] for name in BLENDING)
    outside = seconds["step"] - forward - backward
    return {
        "evaluations_per_second_per_core": {
            "forward": evaluated / forward / threads,
            "backward": evaluated / backward / threads,
        },
        "lanes_per_contributing_pair": {
            "forward": forward * peak / contributing,
            "backward": backward * peak / contributing,
            "together": (forward + backward) * peak / contributing,
        },
        "fraction_of_peak": {
            "forward": evaluated * FORWARD_OPERATIONS / (forward * peak),
            "backward": evaluated * BACKWARD_OPERATIONS / (backward * peak),
        },
        "outside_blending": outside / seconds["step"],
    }


def run(cloud: GaussianCloud, view: Camera, variant: str, threads: int, repeats: int) -> dict[str, Any]:
    """One row of the results."""
    cpu_library.set_threads(threads)
    peak = fma_peak()
    found = measure(cloud, view, repeats)
    peak = max(peak, fma_peak())
    facts = {
        "variant": variant,
        "threads": threads,
        "gaussians": len(cloud),
        "width": view.width,
        "height": view.height,
    }
    return {**facts, "peak_lanes_per_second": peak, **found, **judge(found, peak, threads)}


# ---- memory ----


def resident(name: str = "VmRSS") -> int:
    """Resident memory of this process (`VmHWM`: its peak), bytes."""
    return 1024 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])


def memory_of(count: int, height: int) -> dict[str, Any]:
    """Peak resident memory of training steps beside that of a process with everything loaded; alone in its process."""
    trim = ctypes.CDLL(None).malloc_trim
    measure(synthetic_cloud(64), camera(16), 1)
    cpu.release()
    trim(0)
    before = resident()
    cloud, view = (
        synthetic_cloud(count).map(lambda tensor: tensor.to(torch.float32).contiguous().clone()),
        camera(height),
    )
    trim(0)  # what making the cloud left behind
    Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here on
    found = measure(cloud, view, 2)
    peak = resident("VmHWM") - before
    facts = {"gaussians": count, "width": view.width, "height": height, "tile_pairs": found["tile_pairs"]}
    return {
        **facts,
        "bytes": peak,
        "cloud_and_moments_bytes": 3 * cloud.nbytes,
        "workspace_bytes": found["workspace_bytes"],
    }


def measure_memory(console: Console) -> list[dict[str, Any]]:
    """One process for each case; prints bytes per Gaussian and pixel, and what is allowed: 1000 and 64 + pictures."""
    table = Table("Gaussians", "pixels", "MB", "cloud + moments", "workspace", "MB allowed", title="memory of training")
    rows = []
    for count, height in MEMORY_CASES:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            row = pool.submit(memory_of, count, height).result()
        pixels = row["width"] * height
        row["allowed_bytes"] = 1000 * count + (64 + 27) * pixels  # rgb and its gradient as float, the photo as bytes
        rows.append(row)
        names = ("bytes", "cloud_and_moments_bytes", "workspace_bytes", "allowed_bytes")
        table.add_row(f"{count:,}", f"{row['width']}×{height}", *(f"{row[name] / 1e6:.1f}" for name in names))
    console.print(table)
    terms = torch.tensor([[row["gaussians"], row["width"] * row["height"], 1] for row in rows], dtype=torch.float64)
    sizes = torch.tensor([[row["bytes"]] for row in rows], dtype=torch.float64)
    per_gaussian, per_pixel, rest = torch.linalg.lstsq(terms, sizes).solution.flatten().tolist()
    console.print(f"fitted: {per_gaussian:.0f} bytes a Gaussian, {per_pixel:.0f} a pixel, {rest / 1e6:.1f} MB besides")
    return rows


# ---- what to measure ----


def cases(options: Options) -> list[tuple[str, Callable[[], GaussianCloud], Camera]]:
    """(sweep, cloud maker, camera) of every size to measure."""
    if options.cloud is not None:
        if options.scene is None:
            raise InputError("a cloud needs a scene that has cameras; add --scene FOLDER")
        view = load_scene(options.scene).train_views[0].camera
        return [("cloud", lambda: formats.read(options.cloud), view)]
    base = [("base", lambda: synthetic_cloud(COUNT), camera(HEIGHT))]
    if options.quick:
        return base
    by_count = [("count", lambda n=count: synthetic_cloud(n), camera(HEIGHT)) for count in options.counts]
    by_size = [("size", lambda: synthetic_cloud(COUNT), camera(height)) for height in options.heights]
    return base + by_count + by_size


def measure_all(options: Options, console: Console) -> list[dict[str, Any]]:
    """All rows: the base case on every number of threads, the sweeps on the largest."""
    variants = (
        cpu_library.variants() if options.variant == ("all",) else list(options.variant) or [cpu_library.variant()]
    )
    threads = sorted(set(options.threads)) or sorted({1, cpu_library.threads()})
    repeats = 3 if options.quick else options.repeats
    rows = []
    for variant in variants:
        with cpu_library.use_variant(variant):
            for sweep, make, view in cases(options):
                cloud = make().to(dtype=torch.float32).map(torch.Tensor.contiguous)
                for count in threads if sweep in ("base", "cloud") else threads[-1:]:
                    row = {"sweep": sweep, **run(cloud, view, variant, count, repeats)}
                    rows.append(row)
                    console.print(f"{', '.join(_labels(row))}: {1e3 * row['seconds']['step']:.1f} ms a step")
                del cloud
                cpu.release()
    return rows


# ---- telling ----


def show(rows: list[dict[str, Any]], console: Console) -> None:
    """Two tables: time of each stage; how near to the peak."""
    stages = list(rows[0]["seconds"])
    table = Table(*_COLUMNS, *(stage.replace("_", " ") for stage in stages), title="milliseconds of a training step")
    for row in rows:
        table.add_row(*_labels(row), *(f"{1e3 * row['seconds'][stage]:.2f}" for stage in stages))
    console.print(table)
    names = ["peak/core", "eval/core ▶", "◀", "lanes/pair ▶", "◀", "▶◀", "of peak ▶", "◀", "outside blending"]
    title = "against the multiply-adds this machine could do (▶ forward, ◀ backward; 10⁹ lanes/s, 10⁶ evaluations/s)"
    table = Table(*_COLUMNS, *names, title=title)
    for row in rows:
        speed, lanes, share = (
            row[key] for key in ("evaluations_per_second_per_core", "lanes_per_contributing_pair", "fraction_of_peak")
        )
        table.add_row(
            *_labels(row),
            f"{row['peak_lanes_per_second'] / row['threads'] / 1e9:.1f}",
            *(f"{value / 1e6:.0f}" for value in speed.values()),
            *(f"{value:.0f}" for value in lanes.values()),
            *(f"{value:.0%}" for value in share.values()),
            f"{row['outside_blending']:.0%}",
        )
    console.print(table)
    base = [row for row in rows if row["sweep"] in ("base", "cloud")]
    for few, many in zip(base, base[1:], strict=False):
        if few["variant"] == many["variant"]:
            gain = few["seconds"]["step"] / many["seconds"]["step"]
            console.print(f"{few['variant']}: {few['threads']} → {many['threads']} threads: {gain:.2f}× faster")


_COLUMNS = ("variant", "threads", "Gaussians", "pixels")


def _labels(row: dict[str, Any]) -> tuple[str, ...]:
    return row["variant"], str(row["threads"]), f"{row['gaussians']:,}", f"{row['width']}×{row['height']}"


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Time of the stages over the number of Gaussians and over the number of pixels."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 5), constrained_layout=True)
    sides = (
        ("count", "Gaussians", lambda row: row["gaussians"]),
        ("size", "pixels", lambda row: row["width"] * row["height"]),
    )
    for axis, (sweep, name, position) in zip(axes, sides, strict=True):
        chosen = sorted((row for row in rows if row["sweep"] == sweep), key=position)
        for stage in rows[0]["seconds"]:
            values = [1e3 * row["seconds"][stage] for row in chosen]
            style = {"color": "black", "linewidth": 2.5} if stage == "step" else {}
            axis.loglog([position(row) for row in chosen], values, marker="o", markersize=3, label=stage, **style)
        axis.set(xlabel=name, ylabel="ms")
        axis.grid(True, which="both", alpha=0.3)
    axes[0].legend(fontsize="small")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=120)


def main() -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 200
    options = tyro.cli(Options, description=__doc__)
    try:
        rows = measure_memory(console) if options.memory else measure_all(options, console)
        if not options.memory:
            show(rows, console)
        if options.json is not None:
            write_json(options.json, {"rows": rows})
        if options.plot is not None and not options.memory:
            plot(rows, options.plot)
    except InputError as error:
        console.print(f"[red]error:[/red] {error}")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
