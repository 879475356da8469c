"""Parts of ``tools/gpu_check.sh``: one call measures or checks one thing on this machine's GPU and writes it down.

    python tools/gpu_check.py PART --out FOLDER [--scene FOLDER]

Each part writes ``FOLDER/PART.json``, anew after every row, and exits with 1 when something is wrong. ``results``
gathers all of them in ``FOLDER/benchmarks/<gpu>.json``. With DRY=1 the kernels are emulated, sizes are tiny, and times
mean nothing: a rehearsal.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import bench_gpu
import torch

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.files import write_json
from splat.native import cuda_launcher, cuda_sort, nvrtc
from splat.ops.adam import AdamHyper, AdamState
from splat.ops.photometric_loss import compare_images
from splat.rendering import RenderOptions, check_backend, cuda, get_backend
from splat.rendering.types import ImageGradients

ROOT = Path(__file__).resolve().parents[1]
DRY = os.environ.get("DRY") == "1"
FILES = (
    "projection", "binning", "blending", "blending_backward", "gaussian_backward", "image_loss", "adam", "mcmc",
)  # fmt: skip
SIZE = (48, 32) if DRY else (1920, 1080)
COUNTS = (60, 80) if DRY else (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
USUAL = 80 if DRY else 1_000_000  # Gaussians, where one number has to do
REPEATS = 1 if DRY else 15
STEPS = 2 if DRY else 2000  # of a training run
SPREAD = 1e-4  # relative difference of two backward passes that the order of atomic additions may make
RATE = 1e-8  # so small that a cloud stays as it is while steps are timed


class Record:
    """What one part found, in a file that is written anew after every row."""

    def __init__(self, folder: Path, part: str) -> None:
        self._path = folder / f"{part}.json"
        self._rows: list[dict] = []
        self.wrong = 0

    def add(self, right: bool = True, **row: object) -> None:
        """Keep and print ``row``; ``right`` says whether all is as it should be."""
        self.wrong += not right
        self._rows.append(row if right else row | {"wrong": True})
        print("" if right else "WRONG", json.dumps(self._rows[-1]), flush=True)
        write_json(self._path, self._rows)


# ---- is it right? ----


def startup(record: Record) -> None:
    """Seconds until the GPU can be used, beginning with an empty cache of kernels."""
    begin = time.perf_counter()
    torch.zeros(1, device=bench_gpu.DEVICE)
    torch.cuda.synchronize()
    record.add(what="PyTorch", seconds=time.perf_counter() - begin)
    major, minor = torch.cuda.get_device_capability()
    for file in FILES[-2:] if DRY else FILES:
        start = time.perf_counter()
        nvrtc.compiled(file, 10 * major + minor)
        record.add(what=f"compile {file}", seconds=time.perf_counter() - start)
    reason = check_backend("cuda") if not DRY else None
    seconds = time.perf_counter() - begin
    record.add(reason is None, what="all", seconds=seconds, check=reason, sorting=str(cuda_sort.choice(0)))


def agreement(record: Record) -> None:
    """Pictures and gradients of every test scene against the reference in float64."""
    from support.cases import PICTURES, assert_gradients_match, assert_rendering_matches, case, case_names, expected

    for name in case_names:
        this, upstream = case(name), expected(name).upstream
        given = {picture: getattr(upstream, picture) for picture in PICTURES}
        given = {key: None if t is None else t.to(bench_gpu.DEVICE, torch.float32) for key, t in given.items()}
        try:
            rendering, context = cuda.forward(this.cloud.to(bench_gpu.DEVICE, torch.float32), this.camera, this.options)
            assert_rendering_matches(rendering, name)
            assert_gradients_match(cuda.backward(context, ImageGradients(**given)), name)
        except AssertionError as error:
            record.add(False, case=name, error=str(error)[:600])
        else:
            record.add(case=name)


def lists(record: Record) -> None:
    """The tiles' lists of big scenes: whole, in order of depth, no Gaussian twice in a tile, none of a stranger."""
    for count in COUNTS[1:3]:
        cloud, camera, _ = bench_gpu.scene(count, *SIZE)
        _, context = cuda.forward(cloud, camera, RenderOptions())
        ranges = context.ranges.long()
        lengths = ranges[:, 1] - ranges[:, 0]
        pairs = int(lengths.sum())
        tile = torch.repeat_interleave(torch.arange(len(ranges), device=ranges.device), lengths)
        start = torch.repeat_interleave(ranges[:, 0] - (lengths.cumsum(0) - lengths), lengths)
        ids = context.ids[torch.arange(pairs, device=ranges.device) + start].long()
        valid = (ids >= 0) & (ids < count)
        depth = (cloud.means[:, 2].double() + float(camera.world_to_camera[2, 3]))[ids.clamp(0, count - 1)]
        same = (tile[1:] == tile[:-1]) & valid[1:] & valid[:-1]
        found = {
            "empty": int((~valid).sum()),
            "unsorted": int((same & (depth[1:] < depth[:-1] - 1e-4)).sum()),
            "twice": pairs - len(torch.unique(tile * count + ids)) - max(0, int((~valid).sum()) - 1),
        }
        record.add(not any(found.values()), gaussians=count, pairs=pairs, **found)


def repeatable(record: Record) -> None:
    """Two pictures bit for bit; two backward passes up to the order of atomic additions; all of it finite."""
    cloud, camera, _ = bench_gpu.scene(USUAL, *SIZE)
    (first, context), (second, _) = (cuda.forward(cloud, camera, RenderOptions(depth=True)) for _ in range(2))
    for picture in ("rgb", "alpha", "depth"):
        record.add(torch.equal(getattr(first, picture), getattr(second, picture)), picture=picture)
    upstream = ImageGradients(rgb=torch.rand_like(first.rgb) - 0.5)
    one, other = cuda.backward(context, upstream), cuda.backward(context, upstream)
    for field in FIELDS:
        p, q = getattr(one, field).double(), getattr(other, field).double()
        spread = float((p - q).norm() / p.norm().clamp_min(1e-30))
        record.add(bool(p.isfinite().all()) and spread < SPREAD, gradient=field, spread=spread)


def draw(record: Record) -> None:
    """Every kernel of a step on a small picture, to be run under compute-sanitizer."""
    cloud, camera, photo = bench_gpu.scene(80 if DRY else 20_000, *((48, 32) if DRY else (640, 360)))
    state = AdamState.zeros(cloud)
    for number in (1, 2):
        step(cloud, camera, photo, state, number)
    rendering, context = cuda.forward(cloud, camera, RenderOptions(depth=True, normal=True))
    found = cuda.backward(context, ImageGradients(rgb=rendering.rgb, depth=torch.ones_like(rendering.depth)))
    torch.cuda.synchronize()
    record.add(bool(found.means.isfinite().all()), drawn=len(cloud))


# ---- how fast is it? ----


def step(cloud: GaussianCloud, camera: Camera, photo: torch.Tensor, state: AdamState, number: int) -> None:
    """One step of training as the trainer makes it."""
    rendering, context = cuda.forward(cloud, camera, RenderOptions())
    _, gradient = compare_images(rendering.rgb, photo, None, 0.2, True)
    cuda.backward_adam(context, ImageGradients(rgb=gradient), state, AdamHyper(number, *[RATE] * 6))


class Timed:
    """A `splat.native.cuda_launcher.Launcher` that puts events around every kernel."""

    def __init__(self, inner: cuda_launcher.Launcher) -> None:
        self._inner = inner
        self._events: dict[str, list[tuple[torch.cuda.Event, torch.cuda.Event]]] = {}

    def launch(self, file: str, kernel: str, blocks: int, threads: int, *arguments: cuda_launcher.Argument) -> None:
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        self._inner.launch(file, kernel, blocks, threads, *arguments)
        end.record()
        self._events.setdefault(kernel, []).append((begin, end))

    def medians(self) -> dict[str, float]:
        """Milliseconds by kernel."""
        torch.cuda.synchronize()
        return {
            name: round(statistics.median(a.elapsed_time(b) for a, b in pairs), 4)
            for name, pairs in self._events.items()
        }


def stages(record: Record) -> None:
    """Milliseconds of every kernel of a step, and of steps back to back, as training runs them."""
    cloud, camera, photo = bench_gpu.scene(USUAL, *SIZE)
    state = AdamState.zeros(cloud)
    for number in range(1, 4):
        step(cloud, camera, photo, state, number)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for number in range(4, 4 + REPEATS):
        step(cloud, camera, photo, state, number)
    end.record()
    end.synchronize()
    timed = Timed(cuda_launcher.launcher(cloud.device))
    with cuda_launcher.use(timed):
        for number in range(4 + REPEATS, 4 + 2 * REPEATS):
            step(cloud, camera, photo, state, number)
    kernels = timed.medians()
    whole = begin.elapsed_time(end) / REPEATS
    record.add(gaussians=USUAL, size=SIZE, step_ms=whole, kernels_sum_ms=sum(kernels.values()), kernels_ms=kernels)


def sizes(record: Record) -> None:
    """Forward, backward, step and memory from 10⁵ to 10⁷ Gaussians, beside gsplat where it is installed."""
    order = sorted(COUNTS, key=lambda count: (count != USUAL, count))  # the most wanted number first
    for count in order:
        record.add(**bench_gpu.compare(count, SIZE, REPEATS, check_backend("gsplat") is None))


def viewer(record: Record) -> None:
    """Frames a second of the viewer's path: pictures without gradients or sums of weights, each waited for."""
    for count in COUNTS:
        try:
            cloud, camera, _ = bench_gpu.scene(count, *SIZE)
            with torch.no_grad():
                each = bench_gpu.milliseconds(
                    lambda _, cloud=cloud, camera=camera: cuda.forward(cloud, camera, RenderOptions()),
                    REPEATS,
                )
        except torch.cuda.OutOfMemoryError:
            record.add(gaussians=count, size=SIZE, fps=bench_gpu.FULL)
        else:
            record.add(gaussians=count, size=SIZE, fps=1e3 / each)


def photos(record: Record) -> None:
    """Milliseconds that the host waits for the copy of a photo from pageable and from page-locked memory."""
    photo = torch.zeros(SIZE[1], SIZE[0], 3, dtype=torch.uint8)
    for name, source in (("pageable", photo), ("page-locked", photo if DRY else photo.pin_memory())):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(20):
            source.to(bench_gpu.DEVICE, non_blocking=True)
        host = time.perf_counter() - begin
        torch.cuda.synchronize()
        record.add(memory=name, host_ms=50 * host, whole_ms=50 * (time.perf_counter() - begin))


# ---- whole runs ----


def training(record: Record, scene: Path, folder: Path) -> None:
    """`splat train` with our kernels and with gsplat's: held-out PSNR and seconds of the same run."""
    for backend in ("cuda", "gsplat"):
        reason = check_backend(backend)
        if reason is not None:
            record.add(backend != "cuda", backend=backend, skipped=reason)
            continue
        out = folder / f"run-{backend}"
        options = ["--steps", str(STEPS), "--backend", backend, "--eval-every", "0", "--out", str(out)]
        options += ["--gaussians", "70" if DRY else "300000"]
        command = [sys.executable, __file__, "command", "train", str(scene), *options]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode != 0:
            record.add(False, backend=backend, error=done.stderr[-600:])
            continue
        metrics = json.loads((out / "metrics.json").read_text())
        wanted = ("steps", "gaussians", "seconds", "psnr", "ssim")
        record.add(backend=backend, scene=scene.name, **{name: metrics[name] for name in wanted})


def demo_scene(folder: Path) -> Path:
    """A scene that the computer draws itself, for machines without photos at hand."""
    from splat.scene import demo

    place = folder / "scene"
    if not place.exists():
        demo.make(place, **({"views": 8, "width": 64} if DRY else {}))
    return place


# ---- what ran, and where ----


def facts(record: Record) -> None:
    """GPU, driver and versions."""
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    get_backend("cuda")
    record.add(
        gpu=card.name,
        capability=f"{card.major}.{card.minor}",
        multiprocessors=card.multi_processor_count,
        memory_gb=round(card.total_memory / 2**30, 1),
        torch=torch.__version__,
        cuda=torch.version.cuda,
        nvrtc=nvrtc.version(),
        gsplat=check_backend("gsplat") or "works",
        date=time.strftime("%Y-%m-%d"),
    )


def results(folder: Path) -> Path:
    """Gather what the parts wrote; returns the file's place."""
    found = {part: folder / f"{part}.json" for part in PARTS}
    found = {part: json.loads(path.read_text()) for part, path in found.items() if path.is_file()}
    name = found["facts"][0]["gpu"].lower().replace(" ", "_").replace("/", "_") if "facts" in found else "unknown"
    place = folder / "benchmarks" / f"{name}.json"
    write_json(place, found)
    return place


PARTS: dict[str, Callable[[Record], None]] = {
    each.__name__: each
    for each in (
        facts,
        startup,
        agreement,
        lists,
        training,
        stages,
        sizes,
        repeatable,
        draw,
        viewer,
        photos,
    )  # fmt: skip
}


@contextlib.contextmanager
def rehearsal() -> Iterator[None]:
    """With DRY=1, the stand-ins of the tests."""
    if not DRY:
        yield
        return
    from support import pretend

    bench_gpu.DEVICE = "cpu"
    with pretend.machine():
        for module in (bench_gpu, sys.modules[__name__]):
            module.check_backend = lambda name: None
        yield


def main() -> int:
    if sys.argv[1:2] == ["command"]:  # of `splat`, on the machine as it is, or as it is pretended to be
        from splat.cli import main as splat

        sys.argv = ["splat", *sys.argv[2:]]
        with rehearsal():
            return splat() or 0
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("part", choices=[*PARTS, "results"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scene", type=Path, help="photos with cameras, for whole runs; without: made by the computer")
    arguments = parser.parse_args()
    if arguments.part == "results":
        print(results(arguments.out))
        return 0
    record = Record(arguments.out, arguments.part)
    with rehearsal():
        if arguments.part == "training":
            training(record, arguments.scene or demo_scene(arguments.out), arguments.out)
        else:
            PARTS[arguments.part](record)
    return 1 if record.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
