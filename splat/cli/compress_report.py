"""What ``splat compress`` shows: tables, a rate–distortion plot in text, and the web page of ``--report``."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from splat.cli.console import amount, console, literal, say, table

if TYPE_CHECKING:
    from splat.cloud import GaussianCloud
    from splat.compression import Compressed
    from splat.compression.rate_control.fidelity_metric import FidelityMetric

PLOT = (58, 12)  # columns and rows of the plot
PICTURED = 4  # views with pictures in the page


def show(out: Path, result: "Compressed", on_photos: bool) -> None:
    """Print what was chosen, where the bytes go, and every trial as a plot."""
    rows = [
        ("size", amount(result.source_size), amount(result.size)),
        ("Gaussians", f"{result.source_gaussians:,}", f"{result.gaussians:,}"),
        ("SH degree", "", str(result.sh_degree)),
        ("quality", "", "–" if result.quality is None else f"{result.quality:.1f}"),
        ("PSNR on photos" if on_photos else "PSNR to the input", "", f"{result.psnr:.2f} dB"),
    ]
    console.print(table(("", "input as .ply", literal(out.name)), rows, numeric=(1, 2)))
    if parts := sizes(out, result):
        rows_by_part = [(name, amount(size), f"{8 * size / result.gaussians:.1f}") for name, size in parts.items()]
        console.print(table(("", "size", "bits per Gaussian"), rows_by_part, numeric=(1, 2)))
    if drawn := plot([(trial["size"], trial["psnr"]) for trial in result.trials], (result.size, result.psnr)):
        console.print(drawn, highlight=False)
    left_out = f"; {result.dropped:,} Gaussians with NaN or infinite values left out" if result.dropped else ""
    times = result.source_size / max(result.size, 1)
    say(f"{out}: {times:.1f}× smaller than as .ply, {len(result.trials)} settings tried{left_out}")


def sizes(out: Path, result: "Compressed") -> dict[str, int]:
    """Bytes by attribute, of a .splatz that holds something."""
    if out.suffix != ".splatz" or not result.gaussians:
        return {}
    from splat.formats.splatz import container

    return container.sizes(result.data, out)


def plot(points: Sequence[tuple[int, float]], chosen: tuple[int, float]) -> str:
    """Rate–distortion plot of (bytes, dB) in text: ● what was chosen, · what else was tried; "" for fewer than two."""
    points = [(math.log(size), psnr) for size, psnr in points if math.isfinite(psnr) and size > 0]
    if len(set(points)) < 2 or not math.isfinite(chosen[1]):
        return ""
    chosen = (math.log(chosen[0]), chosen[1])
    (left, right), (low, high) = ((min(values), max(values)) for values in zip(*points, chosen, strict=True))
    rows = [[" "] * PLOT[0] for _ in range(PLOT[1])]
    for mark, (x, y) in [*(("·", point) for point in points), ("●", chosen)]:
        row = round((high - y) / max(high - low, 1e-9) * (PLOT[1] - 1))
        rows[row][round((x - left) / max(right - left, 1e-9) * (PLOT[0] - 1))] = mark
    labels = [f"{high:.1f} dB", *[""] * (PLOT[1] - 2), f"{low:.1f} dB"]
    lines = [f"{label:>9} │{''.join(row)}" for label, row in zip(labels, rows, strict=True)]
    ends = amount(round(math.exp(left))), amount(round(math.exp(right)))
    return "\n".join([*lines, " " * 10 + "└" + "─" * PLOT[0], f"{'':11}{ends[0]:<{PLOT[0] - 10}}{ends[1]:>10}"])


def write_page(
    path: Path,
    out: Path,
    result: "Compressed",
    source: "GaussianCloud",
    metric: "FidelityMetric",
    on_photos: bool,
    progress: Callable[[int, int], None],
) -> None:
    """The page: the file beside what other formats make of the cloud ``source``, and pictures before and after.

    Args:
        metric: against renders of ``source``.
    """
    from splat.compression.rate_control.fidelity_metric import psnr_of_mse
    from splat.compression.rate_control.format_comparison import OTHER_FORMATS, compare_formats
    from splat.files import write_text
    from splat.rendering import render
    from splat.report.compression_page import Comparison, page

    curves, total = {}, len(OTHER_FORMATS) + 1
    for name, trials in compare_formats(source, metric):
        curves[name] = [(trial.size, trial.psnr) for trial in trials]
        progress(len(curves), total)
    curves[f"{out.name}, chosen"] = [(result.size, metric.psnr(result.cloud))]
    views = []
    for number, (camera, before) in enumerate(list(zip(metric.cameras, metric.pictures, strict=True))[:PICTURED]):
        after = render(result.cloud, camera, options=metric.options).rgb.clamp(0, 1)
        psnr = psnr_of_mse(float((after - before).double().square().mean()))
        views.append(Comparison(f"View {number + 1}", before.numpy(), after.numpy(), psnr))
    facts = [
        ("Size", *amount(result.size).split(" ", 1)),
        ("Smaller than .ply", f"{result.source_size / max(result.size, 1):.1f}", "×"),
        ("Gaussians", f"{result.gaussians:,}", f"of {result.source_gaussians:,}"),
        ("PSNR on photos" if on_photos else "PSNR to the input", f"{result.psnr:.2f}", "dB"),
    ]
    write_text(path, page(out.name, facts, sizes(out, result), curves, result.trials, views))
