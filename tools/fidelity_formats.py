"""Size and picture quality of our encoders against each format's reference encoder, from the same source.

    python tools/fidelity_formats.py scene.ply biker.spz --node ../format-clients

PSNR is of renders of the encoded cloud against renders of the source, all by our CPU renderer. The references are
splat-transform for every format that it writes, and for SPZ also @adobe/spz, Niantic's code compiled for JavaScript.
A row is bad when ours is larger, or worse by more than 0.02 dB, than a reference.
"""

import argparse
import math
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from bench_formats import cameras, pictures, psnr
from check_formats import Node

from splat import formats
from splat.cloud import GaussianCloud

# Name of the row, file, our options, splat-transform's flags, version for @adobe/spz.
ENCODERS = [
    ("compressed ply", "x.compressed.ply", {}, [], None),
    ("splat", "x.splat", {}, [], None),
    ("spz 2", "x.spz", {"version": 2}, None, 2),
    ("spz 3", "x.spz", {"version": 3}, ["--spz-version", "3"], 3),
    ("spz 4", "x.spz", {"version": 4}, ["--spz-version", "4"], 4),
    ("sog", "x.sog", {}, [], None),
    ("glb", "x.glb", {}, [], None),
]
WORSE = 0.02  # dB
Score = tuple[int, float]


def for_adobe(cloud: GaussianCloud, path: Path) -> None:
    """Write ``cloud`` as the numbers that format_clients/adobe.mjs takes."""
    quats = torch.nn.functional.normalize(cloud.quats, dim=1)[:, [1, 2, 3, 0]]
    parts = [cloud.means, cloud.log_scales, quats, cloud.logit_opacities, cloud.sh[:, 0], cloud.sh[:, 1:]]
    head = np.array([len(cloud), cloud.sh_degree], "<u4").tobytes()
    path.write_bytes(head + b"".join(part.contiguous().numpy().astype("<f4").tobytes() for part in parts))


def score(make: Callable[[Path], object], path: Path, truth: list[torch.Tensor], views: list) -> Score | None:
    """Bytes and PSNR of the file that ``make`` writes; None if it fails or takes too long."""
    path.parent.mkdir(exist_ok=True)
    try:
        make(path)
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError, RuntimeError):
        return None
    return path.stat().st_size, psnr(truth, drawn(formats.read(path), views))


def drawn(cloud: GaussianCloud, views: list) -> list[torch.Tensor]:
    """Pictures of ``cloud``, rows in an order of their values: it decides which of two at one depth is in front."""
    keys = np.concatenate([cloud.means, cloud.logit_opacities[:, None], cloud.log_scales, cloud.sh[:, 0]], 1)
    return pictures(cloud.select(torch.from_numpy(np.lexsort(keys.T[::-1]))), views)


def rows(source: Path, node: Node, options: argparse.Namespace, folder: Path):
    """(format, our score, splat-transform's, @adobe/spz's) for every encoder."""
    cloud = formats.read(source).replace(extras={})
    cloud = cloud.select(cloud.finite())
    views = cameras(cloud, options.views)
    truth = drawn(cloud, views)
    plain, numbers = folder / "source.ply", folder / "source.f32"
    formats.write(cloud, plain)
    for_adobe(cloud, numbers)
    client = [node.transform, "-q", "-w", "-g", "cpu"]

    def theirs(flags: list[str]) -> Callable[[Path], object]:
        return lambda path: subprocess.run(
            ["node", *map(str, [*client, *flags, plain, path])], check=True, capture_output=True, timeout=options.limit
        )

    for name, file, ours, flags, version in ENCODERS:
        if options.formats and name not in options.formats:
            continue
        scores = [
            score(lambda path, ours=ours: formats.write(cloud, path, **ours), folder / "ours" / file, truth, views)
        ]
        scores.append(None if flags is None else score(theirs(flags), folder / "theirs" / file, truth, views))
        adobe = lambda path, version=version: node.run("adobe.mjs", "write", numbers, path, version)  # noqa: E731
        scores.append(None if version is None else score(adobe, folder / "adobe" / file, truth, views))
        yield name, scores


def shown(result: Score | None) -> str:
    if result is None:
        return f"{'–':>11} {'':7}"
    size, quality = result
    return f"{size:11,} {'exact' if quality > 110 else f'{quality:.2f}':>7}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clouds", nargs="+", type=Path)
    parser.add_argument("--node", type=Path, required=True, help="folder with the npm clients of check_formats.py")
    parser.add_argument("--formats", nargs="*", choices=[encoder[0] for encoder in ENCODERS])
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--limit", type=float, default=30, help="seconds after which splat-transform is given up")
    options = parser.parse_args()
    node, bad = Node(options.node.resolve()), 0
    print(f"{'file':26} {'format':15} {'ours':>19} {'splat-transform':>19} {'@adobe/spz':>19}   bytes, dB")
    for source in options.clouds:
        with tempfile.TemporaryDirectory() as scratch:
            for name, scores in rows(source, node, options, Path(scratch)):
                size, quality = scores[0] or (math.inf, -math.inf)
                others = [other for other in scores[1:] if other]
                worse = any(size > other[0] or quality < min(other[1], 110) - WORSE for other in others)
                bad += worse
                print(
                    f"{source.name[:26]:26} {name:15} {' '.join(map(shown, scores))}{'  <' if worse else ''}",
                    flush=True,
                )
    print(f"{bad} rows where ours is larger or worse")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
