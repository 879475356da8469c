"""The shortest time a GPU can take for each stage of a training step, computed and not measured.

    python tools/roofline.py --gaussians 1000000 --pixels 2073600 --pairs 5000000 --visible 0.8 [--counts counts.json]

A stage takes at least its bytes over the memory's bandwidth, and at least its warp-instructions over the rate at
which the schedulers issue them; the larger is its bound. Bytes are those that must pass if no cache helps across
kernels and none fails within one. Instructions are estimated from the sources per Gaussian, pair or pixel, unless
``--counts`` gives those of ``tools/count_instructions.py`` for the same cloud and camera.
"""

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

GEOMETRY = 11  # floats of a Gaussian beside its SH: centre, scales, quaternion, opacity
SPLAT, FEATURES, SUMS = 32, 16, 64  # bytes per Gaussian, as in cuda/frame.h and cuda/gaussian_backward.cu
STATE = 16  # bytes per pair that forward blending leaves: 4 floats for each of 256 pixels every 256 entries
WARP, WARPS = 32, 8  # lanes; warps of a tile
ADAM = 24  # bytes per parameter and step: it and two moments, read and written


@dataclass(frozen=True)
class Gpu:
    """From the makers' data sheets.

    Attributes:
        multiprocessors: each issues 4 warp-instructions a cycle.
        clock: boost, Hz.
        bandwidth: of the memory, bytes/s.
    """

    name: str
    multiprocessors: int
    clock: float
    bandwidth: float

    @property
    def issue(self) -> float:
        """Warp-instructions per second."""
        return 4 * self.multiprocessors * self.clock


GPUS = (
    Gpu("H200", 132, 1.98e9, 4.8e12),
    Gpu("RTX 4090", 128, 2.52e9, 1.008e12),
    Gpu("T4", 40, 1.59e9, 0.32e12),
)


@dataclass(frozen=True)
class Case:
    """One step: Gaussians, pixels, (Gaussian, 16×16 tile) pairs, visible fraction, SH functions in use."""

    gaussians: float
    pixels: float
    pairs: float
    visible: float
    bands: int = 16

    @property
    def drawn(self) -> float:
        """Visible Gaussians."""
        return self.gaussians * self.visible


@dataclass(frozen=True)
class Stage:
    """Its kernels' names begin with one of ``kernels``; bytes and warp-instructions of a step follow from the case."""

    name: str
    kernels: tuple[str, ...]
    traffic: Callable[[Case], float]
    instructions: Callable[[Case], float]


def _adam(c: Case) -> float:
    """Parameters with both moments of all Gaussians; sums and colours of those drawn."""
    return c.gaussians * (ADAM * (GEOMETRY + 3 * c.bands) + 4) + c.drawn * (SUMS + FEATURES)


# Instructions per lane are divided by 32. Blending's are per (pair, warp): 28 forward; backward 30 to repeat that, and
# 80 in each of 256 + 31 rounds for every 32 entries, where lanes are entries.
STAGES = (
    Stage(
        "project",
        ("project_",),
        lambda c: c.gaussians * (4 * GEOMETRY + 20) + c.drawn * (12 * c.bands + SPLAT + FEATURES),
        lambda c: (c.gaussians * 150 + c.drawn * (200 + 8 * c.bands)) / WARP,
    ),
    Stage("sort depths", (), lambda c: c.gaussians * (4 + 4 * 16), lambda c: c.gaussians * 4 * 25 / WARP),
    Stage(
        "list",
        ("emit_", "find_ranges_", "count_chunks"),
        lambda c: c.gaussians * 24 + c.drawn * (SPLAT + 12) + c.pairs * (6 + 2),
        lambda c: c.gaussians * 30 / WARP + c.pairs * (60 + 10) / WARP,
    ),
    Stage("sort tiles", (), lambda c: c.pairs * (2 + 2 * 12), lambda c: c.pairs * 2 * 25 / WARP),
    Stage(
        "blend",
        ("blend_rgb",),
        lambda c: c.pairs * (4 + SPLAT + FEATURES + STATE) + c.pixels * (16 + 16 + 4),
        lambda c: c.pairs * WARPS * 28,
    ),
    Stage(
        "loss",
        ("compare_images",),
        lambda c: c.pixels * (2 * (12 + 3) + 2 * 36 + 12),
        lambda c: c.pixels * 1200 / WARP,
    ),
    Stage(
        "blend backward",
        ("blend_backward",),
        lambda c: c.pairs * (4 + SPLAT + FEATURES + STATE + SUMS) + c.pixels * (12 + 16 + 4) + c.gaussians * SUMS,
        lambda c: c.pairs * WARPS * (30 + 80 * (256 + 31) / 256) + c.pairs * 6,
    ),
    Stage(
        "chain rule, Adam",
        ("gaussian_backward_adam",),
        _adam,
        lambda c: (c.drawn * 600 + c.gaussians * 14 * (GEOMETRY + 3 * c.bands)) / WARP,
    ),
    Stage("noise", ("mcmc_noise",), lambda c: c.gaussians * 56, lambda c: c.gaussians * 150 / WARP),
)


def counted(path: Path) -> dict[str, float]:
    """Warp-instructions by kernel, mean over the views that ``tools/count_instructions.py --json`` counted."""
    views = [view["kernels"] for view in json.loads(path.read_text())["views"]]
    return {kernel: sum(view[kernel] for view in views) / len(views) for kernel in views[0]}


def instructions(stage: Stage, case: Case, counts: dict[str, float]) -> float:
    """Those that were counted for the stage's kernels, else the estimate."""
    own = [count for kernel, count in counts.items() if kernel.startswith(stage.kernels)]
    return sum(own) if own else stage.instructions(case)


def bound(gpu: Gpu, traffic: float, work: float) -> tuple[float, str]:
    """Seconds at least, and what sets them."""
    memory, issue = traffic / gpu.bandwidth, work / gpu.issue
    return (memory, "memory") if memory >= issue else (issue, "issue")


def table(case: Case, counts: dict[str, float]) -> str:
    """Markdown: a row per stage, milliseconds per GPU, and their sums."""
    names = " | ".join(gpu.name for gpu in GPUS)
    lines = [f"| stage | MB | 10⁶ warp-instructions | {names} |", "|---" * (3 + len(GPUS)) + "|"]
    totals = [0.0] * (2 + len(GPUS))
    for stage in STAGES:
        traffic, work = stage.traffic(case), instructions(stage, case, counts)
        bounds = [bound(gpu, traffic, work) for gpu in GPUS]
        cells = [f"{1e3 * seconds:.3f} {kind}" for seconds, kind in bounds]
        lines.append(f"| {stage.name} | {traffic / 1e6:.0f} | {work / 1e6:.1f} | {' | '.join(cells)} |")
        values = [traffic, work, *(seconds for seconds, _ in bounds)]
        totals = [total + value for total, value in zip(totals, values, strict=True)]
    sums = " | ".join(f"**{1e3 * seconds:.2f}**" for seconds in totals[2:])
    return "\n".join([*lines, f"| step | {totals[0] / 1e6:.0f} | {totals[1] / 1e6:.0f} | {sums} |"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gaussians", type=float, default=1e6)
    parser.add_argument("--pixels", type=float, default=1920 * 1080)
    parser.add_argument("--pairs", type=float, default=5e6, help="of a Gaussian and a tile of 16×16 pixels")
    parser.add_argument("--visible", type=float, default=0.8, help="fraction of the Gaussians that are drawn")
    parser.add_argument("--degree", type=int, default=3, help="of the spherical harmonics in use")
    parser.add_argument("--counts", type=Path, help="from tools/count_instructions.py --json, for the same case")
    given = parser.parse_args()
    case = Case(given.gaussians, given.pixels, given.pairs, given.visible, (given.degree + 1) ** 2)
    print(table(case, counted(given.counts) if given.counts else {}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
