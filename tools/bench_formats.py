"""Time, size and picture quality of conversions against PlayCanvas splat-transform, same file and machine.

    python tools/bench_formats.py cloud.ply --node ../format-clients

Seconds are of the whole command, start of the interpreter and imports included; "inside" is ours without those.
PSNR is of renders of the converted cloud against renders of the source, both by our CPU renderer.
"""

import argparse
import math
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

TARGETS = {
    "ply": ("x.ply", [], {}),
    "compressed.ply": ("x.compressed.ply", [], {}),
    "splat": ("x.splat", [], {}),
    "spz v3": ("x3.spz", ["--spz-version", "3"], {"version": 3}),
    "spz v4": ("x4.spz", ["--spz-version", "4"], {"version": 4}),
    "sog": ("x.sog", [], {}),
    "glb": ("x.glb", [], {}),
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


def timed(command: list[object], limit: float) -> float | None:
    """Seconds of ``command``; None when it was still running at ``limit`` or failed."""
    start = time.perf_counter()
    try:
        subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=limit)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError):
        return None
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--node", type=Path, required=True, help="folder with node_modules/@playcanvas/splat-transform")
    parser.add_argument("--targets", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    parser.add_argument("--limit", type=float, default=120, help="seconds after which a conversion is given up")
    parser.add_argument("--no-psnr", action="store_true")
    options = parser.parse_args()
    client = options.node.resolve() / "node_modules/@playcanvas/splat-transform/bin/cli.mjs"
    print(f"{'':42} {'seconds':^24} {'bytes':^23} {'PSNR, dB':^13}")
    heads = f"{'ours':>7} {'inside':>7} {'theirs':>8} {'ours':>11} {'theirs':>11} {'ours':>6} {'theirs':>6}"
    print(f"{'file':26} {'target':15} {heads}")
    for source in options.clouds:
        cloud = formats.read(source)
        views = cameras(cloud)
        truth = [] if options.no_psnr else pictures(cloud, views)
        for name in options.targets:
            file, flags, values = TARGETS[name]
            with tempfile.TemporaryDirectory() as scratch:
                ours, theirs, inside = (Path(scratch) / part / file for part in ("ours", "theirs", "inside"))
                for path in (ours, theirs, inside):
                    path.parent.mkdir()
                start = time.perf_counter()
                formats.write(formats.read(source), inside, **values)
                within = time.perf_counter() - start
                seconds = timed([sys.executable, "-m", "splat", "convert", source, ours, *flags], options.limit)
                other = timed(["node", client, "-q", "-w", "-g", "cpu", *flags, source, theirs], options.limit)
                columns = []
                for path in (ours, theirs):
                    there = path.exists() and path.stat().st_size > 0
                    quality = psnr(truth, pictures(formats.read(path), views)) if truth and there else float("nan")
                    columns.append((path.stat().st_size if there else 0, quality))
            text = [
                f"{value:.2f}" if value is not None else f">{options.limit:.0f}" for value in (seconds, within, other)
            ]
            sizes, quality = [f"{c[0]:,}" for c in columns], [f"{c[1]:.2f}" for c in columns]
            print(
                f"{source.name[:26]:26} {name:15} {text[0]:>7} {text[1]:>7} {text[2]:>8} {sizes[0]:>11} {sizes[1]:>11} "
                f"{quality[0]:>6} {quality[1]:>6}",
                flush=True,
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
