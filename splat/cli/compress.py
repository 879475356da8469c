"""``splat compress``: the smallest file for a quality, or the best quality in a size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from splat.cli.checks import require
from splat.cli.console import counter, narrated_counter, parse
from splat.cli.inputs import LoadedCloud, open_cloud, open_scene
from splat.cli.results import present
from splat.errors import InputError
from splat.files import bytes_of

if TYPE_CHECKING:
    from splat.compression import Compressed
    from splat.rendering import RenderOptions
    from splat.scene import Scene

MethodName = Literal["lightgaussian", "vectree", "compact3d", "omg", "neuralgs", "self-organizing-grid", "adaptive-sh"]
RESULTS = (
    "size", "psnr", "gaussians", "sh_degree", "quality", "source_gaussians", "source_size", "dropped", "trials",
)  # fmt: skip


@dataclass(frozen=True)
class Compress:
    """Compress a cloud: prune the least significant Gaussians, quantize the rest as coarsely as the goal allows.

    The ending of OUT names the format: .splatz (smallest), or one that other viewers open: .sog, .spz,
    .compressed.ply, .ply. Give one goal; without any it is --fidelity 45.
    Or give --method, which runs one method from a paper instead of the search.
    """

    path: tyro.conf.Positional[Path]
    """Run folder, or cloud file, to compress."""
    out: tyro.conf.Positional[Path]
    """File to write."""
    fidelity: float | None = None
    """Goal: at least this PSNR against renders of the input from cameras around the cloud, dB."""
    size: str | None = None
    """Goal: at most this file size, such as 8MB or 500kB."""
    ratio: float | None = None
    """Goal: this many times smaller than the input as an uncompressed .ply."""
    max_drop: float | None = None
    """Goal: lose at most this PSNR on the held-out photos of --scene, dB; prunes and fine-tunes, quantization-aware."""
    method: MethodName | None = None
    """One method from a paper, fine-tuned on the photos of --scene where one is given:
    - lightgaussian (Fan et al. 2024): prune by global significance, fine-tune, distil SH; .vectree or any other ending.
    - vectree: LightGaussian's VecTree quantization alone; .vectree.
    - compact3d (Navaneet et al. 2024): vector quantization of attributes; .codebooks.
    - omg (Lee et al. 2025): vector quantization of sub-vectors; .codebooks.
    - neuralgs (Tang et al. 2025): a small network for each cluster of Gaussians; .neuralgs.
    - self-organizing-grid (Morgenstern et al. 2024): rows sorted into a smooth grid, for .sog.
    - adaptive-sh (Papantonakis et al. 2024): each Gaussian keeps the SH degree it needs; any ending."""
    prune: float | None = None
    """With --method lightgaussian or neuralgs: fraction of the Gaussians to prune first, 0 to 1; by default 0.66 for
    lightgaussian, 0 for neuralgs."""
    scene: Path | None = None
    """Scene with the photos; by default that of the run, where --max-drop or --method trains."""
    downscale: float | None = None
    """Divide the photos' width and height by this factor; by default as in the run."""
    steps: int | None = None
    """Fine-tuning steps; by default 4000 in all with --max-drop (more make the file smaller), 1000 with --method."""
    report: Path | None = None
    """Write a web page: bytes by attribute, rate–distortion beside SOG, SPZ and compressed .ply, images."""
    json: Path | None = None
    """Write the result and every trial as JSON to this file; - is standard output, without the table."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat compress``."""
    options = parse("compress", Compress, arguments)
    from splat import formats
    from splat.cli.compress_report import show, write_page
    from splat.files import write_bytes

    formats.by_suffix(options.out)
    if options.out.name == "meta.json":
        raise InputError(f"{options.out}: compress writes one file; name it .sog, or convert it to a folder afterwards")
    size = None if options.size is None else bytes_of(options.size, "--size")
    check_method(options)
    source = open_cloud(require(options.path, "file or folder"))
    scene = None
    if options.scene is not None or options.max_drop is not None or (options.method and source.config is not None):
        scene = open_scene(source, options.scene, options.downscale, None)
    drawing = source.render_options
    compressed = by_method if options.method else by_search
    result = compressed(options, source, scene, size, drawing)
    write_bytes(options.out, result.data)
    on_photos = options.max_drop is not None or (options.method is not None and scene is not None)
    if options.report is not None:
        from splat.compression.rate_control.fidelity_metric import FidelityMetric

        with counter("comparing formats") as progress:
            metric = FidelityMetric.to_renders(source.cloud, drawing, scene=scene)
            write_page(options.report, options.out, result, source.cloud, metric, on_photos, progress)
    facts = {"path": str(options.path), "out": str(options.out)} | {name: getattr(result, name) for name in RESULTS}
    present(facts, options.json, lambda: show(options.out, result, on_photos))


def check_method(options: Compress) -> None:
    """Refuse goals beside a method, and its options without it."""
    goals = {"fidelity": options.fidelity, "size": options.size, "ratio": options.ratio, "max-drop": options.max_drop}
    given = [name for name, value in goals.items() if value is not None]
    if options.method is not None and given:
        raise InputError(f"--method has no goal, but --{given[0]} was given; leave one of them out")
    if options.method is None and options.prune is not None:
        raise InputError("--prune is for --method lightgaussian and neuralgs; the search prunes as its goal allows")


def by_search(
    options: Compress, source: LoadedCloud, scene: "Scene | None", size: int | None, drawing: "RenderOptions"
) -> "Compressed":
    """The best file for the goal."""
    from splat import compression
    from splat.compression.rate_control.task import STEPS

    with narrated_counter("compressing") as (progress, aside):
        return compression.compress(
            source.cloud, options.out, scene=scene, options=drawing, steps=options.steps or STEPS,
            callbacks=compression.Callbacks(progress=progress, say=aside),
            fidelity=options.fidelity, size=size, ratio=options.ratio, max_drop=options.max_drop,
        )  # fmt: skip


def by_method(
    options: Compress, source: LoadedCloud, scene: "Scene | None", _: int | None, drawing: "RenderOptions"
) -> "Compressed":
    """What the method of a paper makes."""
    from splat import compression
    from splat.compression.compressor import METHOD_STEPS

    steps = METHOD_STEPS if options.steps is None else options.steps
    choice = compression.MethodChoice(str(options.method), steps, options.prune)
    with narrated_counter("compressing") as (_progress, aside):
        return compression.compress_by_method(
            source.cloud, choice, options.out, scene=scene, options=drawing, say=aside
        )
