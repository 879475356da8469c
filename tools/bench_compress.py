"""The table that `splat compress` must hold: each method's figure from its paper beside ours.

    python tools/bench_compress.py sog cloud.ply made-by-splat-transform.sog   size at the fidelity of that file
    python tools/bench_compress.py drop RUN [--drop 0.1]                       with photos and fine-tuning
    python tools/bench_compress.py lightgaussian RUN                           prune, recover, distil, VecTree
    python tools/bench_compress.py grid cloud.ply                              sort, then the pictures of a SOG
    python tools/bench_compress.py vectors RUN                                 codebooks and sub-vectors, trained on
    python tools/bench_compress.py neural RUN                                  NeuralGS
    python tools/bench_compress.py speed [--count 1000000]                     encode, decode and sort

RUN is a folder that `splat train` wrote. Sizes are bytes of files that are read back before they are judged; ratios are
to the float32 .ply.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from splat import compression, formats
from splat.cli.inputs import open_cloud, open_scene
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.finetuning.fine_tuner import FineTuner, photo_targets, usual_rates
from splat.compression.methods import neuralgs as networks_method
from splat.compression.methods import self_organizing_grid
from splat.compression.methods.vector_quantization import CodebookRounding, compact3d, fit_codebooks, sub_vectors
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.formats import codebooks as codebook_files
from splat.formats import neuralgs, vectree
from splat.formats.ply.ply import ply_bytes
from splat.formats.splatz import container
from splat.rendering import RenderOptions, render
from splat.viewpoints.around_cloud import scene_views


def plain(cloud: GaussianCloud) -> int:
    """Bytes of the float32 .ply."""
    return ply_bytes(len(cloud), cloud.sh_degree)


def row(what: str, asked: str, paper: str, ours: str) -> None:
    print(f"| {what} | {asked} | {paper} | {ours} |", flush=True)


def written(cloud: GaussianCloud, name: str, **options) -> tuple[int, GaussianCloud]:
    """Size of the file ``name``, and what a reader gets from it."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / name
        formats.write(cloud, file, **options)
        return file.stat().st_size, formats.read(file)


def run_of(path: Path):
    """Cloud, scene, options and metric of a run, and its PSNR on held-out photos."""
    subject = open_cloud(path)
    scene = open_scene(subject, None, None, None)
    options = RenderOptions(background=subject.background, antialiased=subject.antialiased)
    metric = FidelityMetric.to_photos(scene, options)
    return subject.cloud, scene, options, metric, metric.psnr(subject.cloud)


def sog(paths: list[Path], _) -> None:
    cloud, theirs = formats.read(paths[0]), formats.read(paths[1])
    size, metric = paths[1].stat().st_size, FidelityMetric.to_renders(cloud, RenderOptions())
    mark = metric.psnr(theirs)
    whole = compression.compress(cloud, "a.splatz", fidelity=mark)
    asked = f"as their SOG: {mark:.2f} dB in {size:,} bytes"
    ours = f"{whole.size / size:.3f}× ({whole.psnr:.2f} dB, {whole.gaussians:,} of {len(cloud):,} Gaussians)"
    row(f"post-hoc, {paths[0].name}, .splatz", f"≤ 0.6× {asked}", "–", ours)
    bytes_, found = written(cloud, "a.sog")
    ours = f"{bytes_ / size:.3f}× ({metric.psnr(found):.2f} dB)"
    row(f"post-hoc, {paths[0].name}, SOG as fine as it gets", "", "–", ours)
    whole = compression.compress(cloud, "a.sog", fidelity=mark)
    ours = f"{whole.size / size:.3f}× ({whole.psnr:.2f} dB, {whole.gaussians:,} of {len(cloud):,} Gaussians)"
    row(f"post-hoc, {paths[0].name}, SOG", "≤ 0.95×", "–", ours)


def drop(paths: list[Path], options) -> None:
    cloud, scene, drawing, _, before = run_of(paths[0])
    how = {"steps": options.train, "options": drawing, "callbacks": compression.Callbacks(say=note)}
    found = compression.compress(cloud, max_drop=options.drop, scene=scene, **how)
    ratio = found.source_size / found.size
    ours = f"{ratio:.1f}× at {before - found.psnr:.3f} dB ({found.size:,} bytes, {found.gaussians:,} Gaussians)"
    row(f"fine-tuned, {paths[0].name}, {len(cloud):,}", "≥ 30× MCMC, ≥ 60× ADC", "OMG about 150×", ours)


def lightgaussian(paths: list[Path], options) -> None:
    """Prune two thirds at once, recover, distil to degree 2, VecTree: the paper's settings but for the steps."""
    cloud, scene, drawing, metric, before = run_of(paths[0])
    cameras = scene_views(scene)
    scores = compression.significance(cloud, cameras, antialiased=drawing.antialiased)
    small = compression.finetune(compression.prune(cloud, scores, 0.66), scene, options.recovery, drawing)
    note(f"{len(small):,} Gaussians, recovered: {metric.psnr(small) - before:+.3f} dB")
    small = compression.distill(small, 2, cameras, options.recovery // 3, drawing)
    note(f"degree 2: {metric.psnr(small) - before:+.3f} dB")
    scores = compression.significance(small, cameras, antialiased=drawing.antialiased)
    data = vectree.pack(small, scores, codes=min(vectree.CODES, len(small) // 4))
    found = vectree.unpack(data)
    rate = seconds(found, cameras, drawing) / seconds(cloud, cameras, drawing)
    ours = f"{plain(cloud) / len(data):.1f}× at {before - metric.psnr(found):.3f} dB, {1 / rate:.2f}× the frame rate"
    row(
        f"LightGaussian, {paths[0].name}, {len(cloud):,}, {options.recovery} steps of recovery",
        *("≥ 15× at ≤ 0.2 dB, ≥ 1.5× frame rate", "15× at 0.2 dB, 139 → 215 FPS, 5,000 steps", ours),
    )


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def seconds(cloud: GaussianCloud, cameras, drawing) -> float:
    """For one picture of each camera, the best of three."""
    total = 0.0
    with torch.no_grad():
        for camera in cameras[:8]:
            times = []
            for _ in range(3):
                start = time.perf_counter()
                render(cloud, camera, options=drawing)
                times.append(time.perf_counter() - start)
            total += min(times)
    return total


def sorting(paths: list[Path], _) -> None:
    cloud = formats.read(paths[0])
    metric, start = FidelityMetric.to_renders(cloud, RenderOptions()), time.perf_counter()
    found = self_organizing_grid.sort_grid(cloud)
    seconds = time.perf_counter() - start
    smooth = [self_organizing_grid.roughness(self_organizing_grid.features(each)) for each in (cloud, found)]
    for quality in (None, 75.0, 60.0):
        size, read = written(found, "a.sog", reorder=False, quality=quality)
        other, _ = written(cloud, "a.sog", quality=quality)
        ours = f"{plain(cloud) / size:.1f}×, {metric.psnr(read):.2f} dB; Morton curve {plain(cloud) / other:.1f}×"
        row(f"self-organizing grid, {len(cloud):,}, quality {quality}", "8× to 26×", "8× to 26×", ours)
    row("its neighbours' distance", "", "", f"{smooth[0]:.3f} → {smooth[1]:.3f} in {seconds:.1f} s")


def codebooks(paths: list[Path], options) -> None:
    cloud, scene, drawing, metric, before = run_of(paths[0])
    scores = compression.significance(cloud, scene_views(scene), antialiased=drawing.antialiased)
    places = sum(
        container.sizes(container.encode(GaussianArrays.of(cloud), quality=60.0))[name]
        for name in ("position", "opacity")
    )
    for name, groups, paper in (
        ("k-means codebooks", compact3d(cloud), "Compact3D 40×"),
        ("sub-vectors", sub_vectors(cloud), "OMG about 150×"),
    ):
        books = fit_codebooks(cloud, groups, scores)
        after = before - metric.psnr(codebook_files.quantized(cloud, books))
        trained = compression.finetune(
            cloud, scene, options.recovery, drawing, pace=(0.3, 0.01), rounding=CodebookRounding(books)
        )
        healed = before - metric.psnr(codebook_files.quantized(trained, books))
        size = places + sum(map(len, codebook_files.pack_books(books)))
        ours = f"{plain(cloud) / size:.1f}× at {healed:.3f} dB ({after:.3f} dB before training)"
        row(name, "", paper, ours)


def networks(paths: list[Path], options) -> None:
    """Prune a fifth at a time with recovery, fit networks to the attributes, train them on the photos."""
    cloud, scene, drawing, metric, before = run_of(paths[0])
    cameras, targets = scene_views(scene), photo_targets(scene, drawing)
    tuner = FineTuner(cloud, targets, usual_rates(scene.extent), drawing)
    while len(tuner.cloud) > options.kept * len(cloud):
        scores = compression.significance(tuner.mean, cameras, antialiased=drawing.antialiased)
        tuner.prune(scores > scores.quantile(0.2))
        tuner.run(options.recovery // 2, (1.0, 1.0))
    tuner.run(options.recovery, (1.0, 0.05))
    small = tuner.mean
    note(f"{len(small):,} Gaussians, recovered: {metric.psnr(small) - before:+.3f} dB")
    scores = compression.significance(small, cameras, antialiased=drawing.antialiased)
    settings = neuralgs.NetworkSettings(clusters=options.clusters, hidden=options.hidden, steps=options.steps)
    found = networks_method.fit(small, scores, settings)
    fitted = metric.psnr(neuralgs.decode(found).detach()) - before
    note(f"networks fitted to the attributes: {fitted:+.2f} dB")
    found = networks_method.train(found, targets, options.trained, drawing, options.rate)
    data = neuralgs.pack(found)
    ours = f"{plain(cloud) / len(data):.1f}× at {before - metric.psnr(neuralgs.unpack(data)):.2f} dB"
    row(
        f"NeuralGS, {paths[0].name}, {len(cloud):,}, {options.steps} and {options.trained} steps",
        *("≥ 40× at the paper's drop", "39× at 0.27 dB (Mip-NeRF 360), 60,000 and 25,000 steps", ours),
    )


def speed(_, options) -> None:
    g, n = torch.Generator().manual_seed(0), options.count
    means = torch.nn.functional.normalize(torch.randn(n, 3, generator=g), dim=1)
    sh = torch.randn(n, 16, 3, generator=g) * torch.tensor([0.5] + [0.03] * 15)[:, None]
    cloud = GaussianCloud(
        means, torch.randn(n, 3, generator=g) * 0.5 - 6, torch.randn(n, 4, generator=g), torch.randn(n, generator=g), sh
    )

    def timed(work: Callable) -> tuple[float, object]:
        start = time.perf_counter()
        result = work()
        return time.perf_counter() - start, result

    wrote, data = timed(lambda: container.encode(GaussianArrays.of(cloud)))
    read, _ = timed(lambda: container.decode(data, Path("a.splatz")))
    row(f"{n:,} Gaussians, SH 3", "encode < 3 min, decode < 5 s", "–", f"{wrote:.1f} s, {read:.1f} s")
    if options.sort:
        seconds, _ = timed(lambda: self_organizing_grid.sort_grid(cloud))
        row(f"sorting {n:,} into a grid", "< 60 s", "–", f"{seconds:.1f} s")


ROWS = {
    "sog": sog, "drop": drop, "lightgaussian": lightgaussian, "grid": sorting, "vectors": codebooks,
    "neural": networks, "speed": speed,
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("row", choices=ROWS)
    parser.add_argument("paths", nargs="*", type=Path)
    parser.add_argument("--recovery", type=int, default=300, help="steps after pruning; of vectors, all")
    parser.add_argument("--train", type=int, default=4000, help="steps of drop")
    parser.add_argument("--drop", type=float, default=0.1, help="most dB lost")
    parser.add_argument("--count", type=int, default=1_000_000, help="Gaussians for speed")
    parser.add_argument("--sort", action="store_true", help="time the grid as well")
    parser.add_argument("--clusters", type=int, default=16, help="networks of NeuralGS")
    parser.add_argument("--hidden", type=int, default=64, help="their width")
    parser.add_argument("--kept", type=float, default=0.2, help="share of the Gaussians that NeuralGS keeps")
    parser.add_argument("--steps", type=int, default=2000, help="of fitting NeuralGS to attributes")
    parser.add_argument("--trained", type=int, default=2000, help="steps of NeuralGS on photos")
    parser.add_argument("--rate", type=float, default=3e-3, help="of learning NeuralGS on photos")
    options = parser.parse_args()
    print("| what | asked | paper | ours |\n|---|---|---|---|")
    ROWS[options.row](options.paths, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
