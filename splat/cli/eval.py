"""``splat eval``: measures a run or a cloud on the held-out photos."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import tyro

from splat import text
from splat.cli.console import console, counter, heading, literal, parse, table
from splat.cli.inputs import on_device, open_cloud, open_scene
from splat.cli.results import present
from splat.errors import InputError

if TYPE_CHECKING:
    from splat.runs.evaluation import Evaluation
    from splat.scene import Scene


@dataclass(frozen=True)
class Eval:
    """Measure a run or a cloud on the held-out photos: PSNR, SSIM, and LPIPS where its weights are on this machine."""

    path: tyro.conf.Positional[Path]
    """Run folder, or cloud file, to measure."""
    scene: Path | None = None
    """Scene with the photos and cameras; by default the one that the run was trained on."""
    json: Path | None = None
    """Write the scores as JSON to this file; - is standard output, without the table."""
    save: Path | None = None
    """Folder for JPEGs of each view: the photo, the render, and both side by side."""
    downscale: float | None = None
    """Divide the photos' width and height by this factor; by default as in the run."""
    max_side: int | None = None
    """Scale the photos down so that the longer side is at most this, pixels; by default as in the run."""
    backend: Literal["auto", "cpu", "cuda", "gsplat", "reference"] = "auto"
    """Rendering backend; auto is cuda where it works, else cpu."""


def run(arguments: Sequence[str]) -> None:
    """Run ``splat eval``."""
    options = parse("eval", Eval, arguments)
    from splat.runs.evaluation import evaluate

    source = open_cloud(options.path)
    scene = open_scene(source, options.scene, options.downscale, options.max_side)
    if not scene.test_views:
        raise InputError(
            f"no photo of {scene.root} is held out, so there is nothing to measure on; train with --hold-out 8 for "
            "scores"
        )
    drawing = source.render_options
    cloud = on_device(source.cloud, options.backend)
    with counter("rendering") as progress:
        result = evaluate(cloud, scene, options.backend, drawing, save=options.save, progress=progress)
    facts = {"path": str(options.path), "scene": str(scene.root), "gaussians": len(cloud)} | result.as_dict()
    present(facts, options.json, lambda: _show(options.path, scene, result))


def _show(path: Path, scene: "Scene", result: "Evaluation") -> None:
    rows = [_row(dataclasses.asdict(view)) for view in result.views]
    rows.append(_row({"name": "mean", "psnr": result.psnr, "ssim": result.ssim, "lpips": result.lpips}, "bold"))
    heading(f"{path} on {len(result.views)} held-out photos of {scene.name}")
    console.print(table(("photo", "PSNR", "SSIM", "LPIPS"), rows, numeric=(1, 2, 3)))


def _row(score: dict, style: str = "none") -> tuple[str, ...]:
    cells = [
        literal(score["name"]),
        text.score(score["psnr"], 2),
        text.score(score["ssim"], 4),
        text.score(score["lpips"], 4),
    ]
    return tuple(f"[{style}]{cell}[/]" for cell in cells)
