"""``splat compress``: the smallest file for a quality, or the best quality in a size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from splat.cli.checks import require
from splat.cli.console import counter, emit_json, narrated_counter, parse
from splat.cli.inputs import LoadedCloud, open_cloud, open_scene
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
    """Shrink a cloud: prune what is hardly seen, quantize the rest as coarsely as the goal allows.

    The ending of OUT names the format: .splatz (smallest), or one that other viewers open: .sog, .spz,
    .compressed.ply, .ply. Give one goal; without any it is --fidelity 45.
    Or give --method, which runs one method from a paper instead of the search.
    """

    path: tyro.conf.Positional[Path]
    """Run or cloud to shrink."""
    out: tyro.conf.Positional[Path]
    """File to write."""
    fidelity: float | None = None
    """Least PSNR in dB against renders of the input, from views placed around the cloud."""
    size: str | None = None
    """Largest file, such as 8MB or 500kB."""
    ratio: float | None = None
    """How many times smaller than the input as an uncompressed .ply."""
    max_drop: float | None = None
    """Largest loss of PSNR in dB on the held-out photos of --scene; prunes and fine-tunes, quantization-aware."""
    method: MethodName | None = None
    """One method from a paper:
    - lightgaussian (Fan et al. 2024): prune by global significance, fine-tune, distil SH; .vectree or any other ending.
    - vectree: LightGaussian's VecTree quantization alone; .vectree.
    - compact3d (Navaneet et al. 2024): vector quantization of attributes; .codebooks.
    - omg (Lee et al. 2025): vector quantization of sub-vectors; .codebooks.
    - neuralgs (Tang et al. 2025): a small network for each cluster of Gaussians; .neuralgs.
    - self-organizing-grid (Morgenstern et al. 2024): rows sorted into a smooth grid, for .sog.
    - adaptive-sh (Papantonakis et al. 2024): each Gaussian keeps the SH degree it needs; any ending.
    Given a scene, they fine-tune on its photos."""
    prune: float | None = None
    """With --method lightgaussian or neuralgs: fraction of the Gaussians to prune first; by default 0.66 or 0."""
    scene: Path | None = None
    """Scene with the photos; by default that of the run, where --max-drop or --method trains."""
    downscale: float | None = None
    """Divide the photos' sides by this; by default as in the run."""
    steps: int | None = None
    """Steps of training: by default 4000 in all with --max-drop (more make the file smaller), 1000 with --method."""
    report: Path | None = None
    """Write a web page: where the bytes go, quality against size beside SOG, SPZ and compressed .ply, pictures."""
    json: Path | None = None
    """Write what was chosen and every trial to this file; - is standard output, without the table."""


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
    loaded = open_cloud(require(options.path, "file or folder"))
    scene = None
    if options.scene is not None or options.max_drop is not None or (options.method and loaded.config is not None):
        scene = open_scene(loaded, options.scene, options.downscale, None)
    render_options = loaded.render_options
    compressed = by_method if options.method else by_search
    result = compressed(options, loaded, scene, size, render_options)
    write_bytes(options.out, result.data)
    on_photos = options.max_drop is not None or (options.method is not None and scene is not None)
    if options.report is not None:
        from splat.compression.rate_control.fidelity_metric import FidelityMetric

        with counter("comparing formats") as progress:
            metric = FidelityMetric.to_renders(loaded.cloud, render_options, scene=scene)
            write_page(options.report, options.out, result, loaded.cloud, metric, on_photos, progress)
    if options.json is not None:
        about = {"path": str(options.path), "out": str(options.out)}
        # JSON has no infinity; a PSNR without any error is null.
        emit_json(_finite(about | {name: getattr(result, name) for name in RESULTS}), options.json)
        if str(options.json) == "-":
            return
    show(options.out, result, on_photos)


def check_method(options: Compress) -> None:
    """Refuse goals beside a method, and its options without it."""
    goals = {"fidelity": options.fidelity, "size": options.size, "ratio": options.ratio, "max-drop": options.max_drop}
    given = [name for name, value in goals.items() if value is not None]
    if options.method is not None and given:
        raise InputError(f"--method has no goal, but --{given[0]} was given; leave one of them out")
    if options.method is None and options.prune is not None:
        raise InputError("--prune is for --method lightgaussian and neuralgs; the search prunes as its goal allows")


def by_search(
    options: Compress, loaded: LoadedCloud, scene: "Scene | None", size: int | None, render_options: "RenderOptions"
) -> "Compressed":
    """The best file for the goal."""
    from splat import compression
    from splat.compression.rate_control.task import STEPS

    with narrated_counter("compressing") as (progress, aside):
        return compression.compress(
            loaded.cloud, options.out, scene=scene, options=render_options, steps=options.steps or STEPS,
            callbacks=compression.Callbacks(progress=progress, say=aside),
            fidelity=options.fidelity, size=size, ratio=options.ratio, max_drop=options.max_drop,
        )  # fmt: skip


def by_method(
    options: Compress, loaded: LoadedCloud, scene: "Scene | None", _: int | None, render_options: "RenderOptions"
) -> "Compressed":
    """What the method of a paper makes."""
    from splat import compression
    from splat.compression.compressor import METHOD_STEPS

    steps = METHOD_STEPS if options.steps is None else options.steps
    choice = compression.MethodChoice(str(options.method), steps, options.prune)
    with narrated_counter("compressing") as (_progress, aside):
        return compression.compress_by_method(
            loaded.cloud, choice, options.out, scene=scene, options=render_options, say=aside
        )


def _finite(value):
    """``value`` with numbers that JSON cannot hold as None."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
