"""``splat eval``: measures a run or a cloud on the held-out photos."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from splat.cli.console import console, counter, emit_json, heading, literal, parse, table
from splat.cli.inputs import on_device, open_cloud, open_scene


@dataclass(frozen=True)
class Eval:
    """Measure a run or a cloud on the held-out photos: PSNR, SSIM, and LPIPS where its weights are on this machine."""

    path: tyro.conf.Positional[Path]
    """Run or cloud to measure."""
    scene: Path | None = None
    """Scene with the photos; by default the one that the run was trained on."""
    json: Path | None = None
    """Write the scores to this file; - is standard output, without the table."""
    save: Path | None = None
    """Folder for photo, render and both side by side of each view, as JPEG."""
    downscale: float | None = None
    """Divide the photos' sides by this; by default as in the run."""
    max_side: int | None = None
    """Shrink the photos so that no side is longer, pixels."""
    backend: Literal["auto", "cpu", "cuda", "gsplat", "reference"] = "auto"
    """What draws the pictures."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat eval``."""
    options = parse("eval", Eval, arguments)
    from splat.runs.evaluation import evaluate

    loaded = open_cloud(options.path)
    scene = open_scene(loaded, options.scene, options.downscale, options.max_side)
    render_options = loaded.render_options
    cloud = on_device(loaded.cloud, options.backend)
    with counter("rendering") as progress:
        result = evaluate(cloud, scene, options.backend, render_options, save=options.save, progress=progress)
    if options.json is not None:
        about = {"path": str(options.path), "scene": str(scene.root), "gaussians": len(cloud)}
        emit_json(about | result.as_dict(), options.json)
        if str(options.json) == "-":
            return
    rows = [_row(dataclasses.asdict(view)) for view in result.views]
    rows.append(_row({"name": "mean", "psnr": result.psnr, "ssim": result.ssim, "lpips": result.lpips}, "bold"))
    heading(f"{options.path} on {len(result.views)} held-out photos of {scene.name}")
    console.print(table(("photo", "PSNR", "SSIM", "LPIPS"), rows, numeric=(1, 2, 3)))


def _row(score: dict, style: str = "none") -> tuple[str, ...]:
    cells = [
        literal(score["name"]),
        "–" if score["psnr"] is None else f"{score['psnr']:.2f}",
        "–" if score["ssim"] is None else f"{score['ssim']:.4f}",
        "–" if score["lpips"] is None else f"{score['lpips']:.4f}",
    ]
    return tuple(f"[{style}]{cell}[/]" for cell in cells)
