"""``splat compress``: the smallest file for a quality, or the best quality in a size."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from splat.cli.console import counter, emit_json, narrated_counter, parse, require
from splat.cli.inputs import open_subject
from splat.errors import InputError
from splat.files import bytes_of


@dataclass(frozen=True)
class Compress:
    """Shrink a cloud: leave out what is hardly seen, store the rest as coarsely as the goal allows.

    The ending of OUT names the format: .splatz (smallest), or one that other viewers open: .sog, .spz,
    .compressed.ply, .ply. Give one goal; without any it is --fidelity 45.
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
    """Largest loss of PSNR in dB on the held-out photos of --scene; prunes and fine-tunes."""
    scene: Path | None = None
    """Scene with the photos; by default that of the run, where --max-drop needs one."""
    downscale: float | None = None
    """Divide the photos' sides by this; by default as in the run."""
    steps: int = 4000
    """Steps of training in all, with --max-drop; more make the file smaller."""
    report: Path | None = None
    """Write a web page: where the bytes go, quality against size beside SOG, SPZ and compressed .ply, pictures."""
    json: Path | None = None
    """Write what was chosen and every trial to this file; - is standard output, without the table."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat compress``."""
    options = parse("compress", Compress, arguments)
    from splat import compression, formats
    from splat.cli.compress_report import show, write_page
    from splat.cli.inputs import open_scene
    from splat.files import write_bytes
    from splat.rendering import RenderOptions

    formats.by_suffix(options.out)
    if options.out.name == "meta.json":
        raise InputError(f"{options.out}: compress writes one file; name it .sog, or convert it to a folder afterwards")
    size = None if options.size is None else bytes_of(options.size, "--size")
    subject = open_subject(require(options.path, "file or folder"))
    scene = None
    if options.scene is not None or options.max_drop is not None:
        scene = open_scene(subject, options.scene, options.downscale, None)
    drawing = RenderOptions(background=subject.background, antialiased=subject.antialiased)
    with narrated_counter("compressing") as (progress, aside):
        found = compression.compress(
            subject.cloud, options.out, scene=scene, options=drawing, steps=options.steps,
            callbacks=compression.Callbacks(progress=progress, say=aside),
            fidelity=options.fidelity, size=size, ratio=options.ratio, max_drop=options.max_drop,
        )  # fmt: skip
    write_bytes(options.out, found.data)
    names = (
        "size",
        "psnr",
        "gaussians",
        "sh_degree",
        "quality",
        "source_gaussians",
        "source_size",
        "dropped",
        "trials",
    )
    on_photos = options.max_drop is not None
    if options.report is not None:
        with counter("comparing formats") as progress:
            write_page(options.report, options.out, subject, found, scene, drawing, on_photos, progress)
    if options.json is not None:
        about = {"path": str(options.path), "out": str(options.out)}
        # JSON has no infinity; a PSNR without any error is null.
        emit_json(_finite(about | {name: getattr(found, name) for name in names}), options.json)
        if str(options.json) == "-":
            return
    show(options.out, found, on_photos)


def _finite(value):
    """``value`` with numbers that JSON cannot hold as None."""
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and value - value != 0 else value
