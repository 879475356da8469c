"""What is said at the end of a training run, and what can be done next."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from splat.cli.console import console, grid, heading, say
from splat.cli.results import present

if TYPE_CHECKING:
    from splat.runs.train import TrainResult
    from splat.scene import Scene


def what_now(scene: Path, out: Path) -> str:
    """What somebody who interrupted a run should know."""
    from splat.training import checkpoint

    checkpoints = checkpoint.all_in(out / "checkpoints")
    if not checkpoints:
        return f"there is no checkpoint in {out} yet"
    command = shlex.join(["splat", "train", str(scene), "--out", str(out), "--resume"])
    return f"the checkpoint is {checkpoints[-1]}; go on with: {command}"


def show_result(result: "TrainResult", json: Path | None = None) -> None:
    """Print the metrics and where the results are; ``json`` as of `present`."""
    scalars = {name: value for name, value in result.metrics.items() if not isinstance(value, (list, dict))}
    out = None if result.out is None else str(result.out)
    present({"out": out, **scalars}, json, lambda: _print_result(result))


def _print_result(result: "TrainResult") -> None:
    from splat.cli.info import metric_text

    names = {
        "steps": "steps",
        "seconds": "time",
        "gaussians": "Gaussians",
        "psnr": "PSNR",
        "ssim": "SSIM",
        "lpips": "LPIPS",
        "peak_memory_bytes": "peak memory",
    }
    rows = [(text, metric_text(name, result.metrics[name])) for name, text in names.items()]
    console.print()
    heading("Held-out photos" if result.metrics["views"] else "Result")
    console.print(grid(rows))
    if result.out is not None:
        console.print()
        for name, text in (("cloud.ply", "cloud"), ("report.html", "report"), ("renders", "pictures")):
            say(f"{text:<8} {result.out / name}")


def save_stopped(result: "TrainResult", scene: "Scene") -> None:
    """Write the cloud and the report of a run that was stopped before its end."""
    from splat import formats
    from splat.report import write_report

    cloud = result.out / "cloud.ply"
    formats.write(result.cloud.replace(extras={}).to("cpu"), cloud)
    say(f"cloud    {cloud}")
    say(f"report   {write_report(result.out, scene)}")
