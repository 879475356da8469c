"""Time, size and picture quality of conversions against PlayCanvas splat-transform, same files and machine.

    python tools/bench_formats.py scene.ply scene.sog --node ../format-clients

Seconds are the median of whole commands, start of the interpreter included, ours and theirs in turn. PSNR is of renders
of the converted cloud against renders of the source, all by our CPU renderer.
"""

import argparse
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from splat import formats
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import render

# Ending of the file, and options of either program.
TARGETS = {
    "ply": ("x.ply", []),
    "compressed.ply": ("x.compressed.ply", []),
    "splat": ("x.splat", []),
    "spz v3": ("x.spz", ["--spz-version", "3"]),
    "spz v4": ("x.spz", ["--spz-version", "4"]),
    "sog": ("x.sog", []),
    "glb": ("x.glb", []),
}
SIZE = 400


def cameras(cloud: GaussianCloud, count: int = 8) -> list[Camera]:
    """Views from a sphere around the middle of the cloud, far enough to see 90 % of it."""
    means = cloud.means.double()
    center = means.median(0).values
    radius = 2.2 * float((means - center).norm(dim=1).quantile(0.9))
    views = []
    for i in range(count):
        height = 1 - 2 * (i + 0.5) / count
        angle, across = 2.399963 * i, math.sqrt(1 - height * height)  # golden angle: spread evenly
        back = torch.tensor([across * math.cos(angle), -height, across * math.sin(angle)], dtype=torch.float64)
        right = torch.linalg.cross(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64), -back)
        right = right / right.norm()
        rotation = torch.stack([right, torch.linalg.cross(-back, right), -back])
        pose = torch.eye(4, dtype=torch.float64)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ (center + radius * back)
        views.append(Camera(SIZE, SIZE, SIZE / 2, SIZE / 2, SIZE, SIZE, pose))
    return views


def pictures(cloud: GaussianCloud, views: list[Camera]) -> list[torch.Tensor]:
    with torch.no_grad():
        return [render(cloud, view).rgb.clamp(0, 1) for view in views]


def psnr(truth: list[torch.Tensor], found: list[torch.Tensor]) -> float:
    error = torch.stack([(a - b).square().mean() for a, b in zip(truth, found, strict=True)]).mean()
    return float(-10 * torch.log10(error.clamp_min(1e-12)))


def timed(command: list[object], limit: float) -> float:
    """Seconds of ``command``; infinite when it was still running at ``limit`` or failed."""
    start = time.perf_counter()
    try:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=limit)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return math.inf
    return time.perf_counter() - start


def compare(source: Path, file: str, flags: list[str], client: Path, options: argparse.Namespace, folder: Path):
    """Median seconds and file of ours and of theirs."""
    programs = {"ours": [sys.executable, "-m", "splat", "convert"], "theirs": ["node", client, "-q", "-w", "-g", "cpu"]}
    seconds: dict[str, list[float]] = {name: [] for name in programs}
    paths = {name: folder / name / file for name in programs}
    for _ in range(options.repeats):
        for name, command in programs.items():
            paths[name].parent.mkdir(exist_ok=True)
            if math.inf not in seconds[name]:
                inputs = [*flags, source, paths[name]] if name == "theirs" else [source, paths[name], *flags]
                seconds[name].append(timed([*command, *inputs], options.limit))
    return {name: (statistics.median(seconds[name]), paths[name]) for name in programs}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--node", type=Path, required=True, help="folder with node_modules/@playcanvas/splat-transform")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a conversion is given up")
    parser.add_argument("--no-psnr", action="store_true")
    options = parser.parse_args()
    client = options.node.resolve() / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
    print(f"{'':42} {'seconds':^23} {'bytes':^30} {'PSNR, dB':^13}")
    heads = f"{'ours':>7} {'theirs':>8} {'ratio':>6} {'ours':>11} {'theirs':>11} {'ratio':>6} {'ours':>6} {'theirs':>6}"
    print(f"{'file':26} {'target':15} {heads}")
    slower = 0
    for source in options.clouds:
        truth = []
        if not options.no_psnr:
            cloud = formats.read(source)
            views = cameras(cloud)
            truth = pictures(cloud, views)
        for name in options.targets:
            with tempfile.TemporaryDirectory() as scratch:
                found = compare(source, *TARGETS[name], client, options, Path(scratch))
                sizes = [path.stat().st_size if path.exists() else 0 for _, path in found.values()]
                quality = [
                    psnr(truth, pictures(formats.read(path), views)) if truth and size else math.nan
                    for size, (_, path) in zip(sizes, found.values(), strict=True)
                ]
            (ours, _), (theirs, _) = found.values()
            slower += ours > theirs
            print(
                f"{source.name[:26]:26} {name:15} {ours:7.2f} {theirs:8.2f} {ours / theirs:6.2f} {sizes[0]:11,} "
                f"{sizes[1]:11,} {sizes[0] / max(sizes[1], 1):6.3f} {quality[0]:6.2f} {quality[1]:6.2f}",
                flush=True,
            )
    print(f"{slower} conversions were slower than theirs")
    return 1 if slower else 0


if __name__ == "__main__":
    sys.exit(main())
