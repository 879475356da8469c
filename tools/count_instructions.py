"""Warp-instructions of a training step on a GPU, counted without one.

    PYTHONPATH=tests python tools/count_instructions.py --cloud run/cloud.ply --scene photos/
    PYTHONPATH=tests python tools/count_instructions.py --cloud … --scene … --kernels other/cuda --json counts.json

Needs NVRTC and nvdisasm (``pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm``) and g++. Numbered markers go
into a copy of the kernels' sources (`instruction_count.markers`). Compiled by NVRTC, each stays one
recognisable instruction in the machine code, so every stretch of it can be told by the markers it holds
(`instruction_count.sass`). Compiled for the emulation, they count how often each warp passes them on a real
cloud from real cameras. A kernel's warp-instructions are the sum over its stretches of (times executed) ×
(instructions, without markers).

Assumed: diverged lanes meet again at the end of a branch or of a loop's round; of a loop unrolled k times every
copy runs equally often; a stretch without a marker runs whenever its way is taken at all, so short branches
count as always taken; slow paths of division and square root are never taken. Markers change the machine code a
little: the column `static` tells the instructions of the marked kernel as a fraction of the plain one's.

A step is: project, list, blend, image loss, backward blending, Adam, exploration noise. Sorting is not ours and
not counted. Kernels with a block per tile run on every n-th tile (drawn at random), those per Gaussian on every
n-th block where no later kernel needs the rest; their counts are scaled up.
"""

import ctypes
import functools
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import torch
import tyro
from instruction_count import markers, sass
from rich.console import Console
from rich.table import Table
from support.emulator import PLAIN, Emulator, build

from splat import formats
from splat.cloud import GaussianCloud
from splat.files import packaged_folder, write_json
from splat.native import cuda_launcher, nvrtc
from splat.ops import photometric_loss
from splat.ops.adam import AdamHyper, AdamState
from splat.ops.mcmc_noise import mcmc_noise
from splat.rendering import ImageGradients, RenderOptions, cuda
from splat.scene import Scene

SAMPLED = ("blend_", "compare_", "gaussian_backward", "mcmc_", "adam_")  # kernels of which not all blocks run
RATES = AdamHyper(1, 1e-4, 1e-3, 1e-3, 1e-2, 1e-3, 1e-4)


@dataclass(frozen=True)
class Options:
    """What to count."""

    cloud: Path
    """A trained cloud."""
    scene: Path
    """The scene it was trained on."""
    views: int = 3
    """Training views, evenly chosen; the table shows their mean."""
    every: int = 16
    """Run every n-th block of the kernels that allow it."""
    architecture: int = 90
    """Compute capability to compile for, 10·major + minor."""
    kernels: Path | None = None
    """Folder of the kernels; the repository's if not given."""
    json: Path | None = None
    """Where to write the numbers."""


class CountingEmulator(Emulator):
    """Runs marked kernels on a part of their blocks and keeps what their warps passed.

    Attributes:
        warps: per kernel, launched so far; passed: per kernel and marker. Both scaled up to all blocks.
        tiles: those that the kernels with a block per tile run on; slots: blocks of the backward blending on them.
    """

    def __init__(self, folder: Path, every: int) -> None:
        super().__init__(folder, PLAIN)
        self.every = every
        self.files: dict[str, str] = {}
        self.warps: dict[str, float] = defaultdict(float)
        self.passed: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        self.tiles: list[int] = []
        self.slots: list[int] = []
        self._fraction = 1.0

    def choose_tiles(self, count: int) -> None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(0))
        self.tiles = sorted(order[: max(1, count // self.every)].tolist())
        self._fraction = len(self.tiles) / count

    def choose_slots(self, chunk_ends: torch.Tensor) -> None:
        ends = [0, *chunk_ends.tolist()]
        self.slots = [slot for tile in self.tiles for slot in range(ends[tile], ends[tile + 1])]

    def blocks(self, kernel: str, count: int) -> list[int] | None:
        if kernel.startswith("blend_backward"):
            return self.slots
        if kernel.startswith(("blend_", "compare_")):
            return self.tiles
        return list(range(0, count, self.every)) if kernel.startswith(SAMPLED) else None

    def launch(self, file: str, kernel: str, blocks: int, threads: int, *arguments: cuda_launcher.Argument) -> None:
        find_totals = build(self.folder / f"{file}.cu", PLAIN).mark_totals
        find_totals.restype = ctypes.POINTER(ctypes.c_ulonglong * markers.LIMIT)
        totals = find_totals().contents
        ctypes.memset(totals, 0, ctypes.sizeof(totals))
        super().launch(file, kernel, blocks, threads, *arguments)
        chosen = self.blocks(kernel, blocks)
        ran = blocks if chosen is None else len(chosen)
        scale = 1 / self._fraction if kernel.startswith(("blend_", "compare_")) else blocks / ran
        self.files[kernel] = file
        self.warps[kernel] += scale * ran * (threads // 32)
        for number, times in enumerate(totals):
            self.passed[kernel][number] += scale * times


def training_step(emulator: CountingEmulator, cloud: GaussianCloud, view) -> None:
    """One step of MCMC training on a view, on a copy of the cloud."""
    cloud = cloud.clone()
    photo = view.load().rgb
    tiles = cuda_launcher.blocks_for(photo.shape[0], 16) * cuda_launcher.blocks_for(photo.shape[1], 16)
    emulator.choose_tiles(tiles)
    rendering, context = cuda.forward(cloud, view.camera, RenderOptions())
    emulator.choose_slots(context.chunk_ends)
    # Where no block ran there is no picture: the photo stands in for it.
    drawn = torch.zeros(tiles, dtype=torch.bool)
    drawn[emulator.tiles] = True
    columns = cuda_launcher.blocks_for(photo.shape[1], 16)
    mask = (
        drawn.reshape(-1, columns).repeat_interleave(16, 0).repeat_interleave(16, 1)[: photo.shape[0], : photo.shape[1]]
    )
    rgb = torch.where(mask[..., None], rendering.rgb, photo.float() / 255)
    _, gradient = photometric_loss.compare_images(rgb, photo, None, 0.2, gradient=True)
    gradient = torch.where(mask[..., None], gradient, 0.0)
    cuda.backward_adam(context, ImageGradients(rgb=gradient), AdamState.zeros(cloud), RATES)
    mcmc_noise(cloud, 1.0, 0, 1, 0.005)


@dataclass
class Count:
    """One kernel: warp-instructions, the instructions of its marked and plain code, loops without a marker."""

    instructions: float
    marked: int
    plain: int
    unmarked_loops: int


def weigh(emulator: CountingEmulator, plain: Path, architecture: int) -> dict[str, Count]:
    """What was passed, in instructions."""
    found = {}
    for kernel, file in emulator.files.items():
        blocks, others = (disassembled(folder, file, architecture)[kernel] for folder in (emulator.folder, plain))
        executed = sass.execute(blocks, emulator.warps[kernel], emulator.passed[kernel])
        sizes = (sum(block.size for block in listing) for listing in (blocks, others))
        found[kernel] = Count(executed.instructions, *sizes, executed.unmarked_loops)
    return found


@functools.cache
def disassembled(folder: Path, file: str, architecture: int) -> dict[str, list[sass.Block]]:
    with patch.object(nvrtc, "packaged_folder", lambda _: folder):
        return sass.disassemble(nvrtc.compile_file(file, architecture).image)


def main(options: Options) -> None:
    cloud = formats.read(options.cloud).to(dtype=torch.float32)
    views = Scene.load(options.scene).train_views
    chosen = [views[round(i * (len(views) - 1) / max(1, options.views - 1))] for i in range(options.views)]
    folder = options.kernels or packaged_folder("cuda")
    with tempfile.TemporaryDirectory() as temporary:
        marked = Path(temporary) / "cuda"
        markers.mark_folder(folder, marked)
        counts = []
        for view in chosen:
            emulator = CountingEmulator(marked, options.every)
            with cuda_launcher.use(emulator):
                training_step(emulator, cloud, view)
            counts.append(weigh(emulator, folder, options.architecture))
    report(options, [view.name for view in chosen], counts)


def report(options: Options, names: list[str], counts: list[dict[str, Count]]) -> None:
    totals = [sum(count.instructions for count in one.values()) for one in counts]
    mean = sum(totals) / len(totals)
    table = Table(title=f"warp-instructions of a training step, sm_{options.architecture}, mean of {len(counts)} views")
    for column in ("kernel", "millions", "fraction", "static"):
        table.add_column(column, justify="left" if column == "kernel" else "right")
    for kernel, count in counts[0].items():
        own = sum(one[kernel].instructions for one in counts) / len(counts)
        note = f" ({count.unmarked_loops} loops without a marker)" if count.unmarked_loops else ""
        table.add_row(kernel + note, f"{own / 1e6:.1f}", f"{own / mean:.1%}", f"{count.marked / count.plain:.2f}")
    table.add_section()
    table.add_row("all", f"{mean / 1e6:.1f}", "", "")
    for name, total in zip(names, totals, strict=True):
        table.add_row(f"  of {name}", f"{total / 1e6:.1f}", "", "")
    Console().print(table)
    if options.json:
        views = [
            {"view": name, "total": total, "kernels": {kernel: count.instructions for kernel, count in one.items()}}
            for name, total, one in zip(names, totals, counts, strict=True)
        ]
        write_json(options.json, {"architecture": options.architecture, "mean": mean, "views": views})


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
