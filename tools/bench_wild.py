"""Photos in the wild: appearance of each photo and occluder masks against neither; for docs/measurements/sparse.md.

    python tools/bench_wild.py SCENE [--folds 5] [--steps 1500] [--rows off on …] [--results bench_wild.json]

SCENE is a folder of photos, or one with poses. Of its photos, fold k trains on all but every `folds`-th from k on, and
knows only the sparse points that two of its photos see. Each held-out photo is scored on its right half, after its look
was fitted to its left half (Martin-Brualla et al., "NeRF in the Wild"), in the same ways for all rows: not at all, by
an exposure, by an exposure and a bilateral grid. The scores are means over all held-out photos of all folds.
"""

import argparse
import dataclasses
import json
import math
import os
import time
from pathlib import Path

import torch
from bench_sparse import changed

GAUSSIANS = 30_000
FITS = ("not fitted", "exposure fitted", "exposure and grid fitted")


def plain(steps, **changes):
    from splat.training.config.config import TrainConfig

    return changed(TrainConfig(steps=steps, strategy="adc", sh_degree=1), gaussians=GAUSSIANS, **changes)


EXPOSURES = {"appearance__exposure": True, "appearance__exposure_rate": 5e-3}
MASKS = {"wild__occluders": True}
ROWS = {
    "off": {},
    "exposures": EXPOSURES,
    "masks": MASKS,
    "exposures and masks": EXPOSURES | MASKS,
    "features": {"appearance__features": 4},
    "features and masks": {"appearance__features": 4} | MASKS,
}


def fold(scene, number: int, folds: int):
    """``scene`` with the photos ``number``, ``number`` + ``folds``, … held out."""
    from splat.scene.subset import keep_views

    views = [
        dataclasses.replace(view, held_out=place % folds == number)
        for place, view in enumerate(sorted(scene.views, key=lambda view: view.name))
    ]
    return keep_views(dataclasses.replace(scene, views=tuple(views)), sum(not view.held_out for view in views))


def right_psnr(picture, photo, left) -> float:
    return -10 * math.log10(float((picture.clamp(0, 1) - photo)[~left].square().mean()))


def scores(cloud, view, options) -> list[float]:
    """PSNR of the right half of ``view``'s photo, dB, for each of `FITS`."""
    from splat.priors.wild.appearance_fitting import fit_exposure, fit_grid, left_half
    from splat.rendering import render
    from splat.training.per_photo import bilateral_grid
    from splat.training.per_photo import exposure as exposures

    photo = view.load().rgb.float() / 255
    left = left_half(*photo.shape[:2])
    raw = render(cloud, view.camera, options=options).rgb.clamp(0, 1)
    fitted = exposures.expose(raw, fit_exposure(raw, photo, left)).clamp(0, 1)
    with_grid = bilateral_grid.apply_grid(fitted, fit_grid(fitted, photo, left))
    return [right_psnr(picture, photo, left) for picture in (raw, fitted, with_grid)]


def measure(scene, config) -> dict:
    """Train on one fold; scores of its held-out photos by name."""
    from splat.runs.evaluation import options_of
    from splat.runs.train import train

    start = time.process_time()
    cloud = train(scene, config).cloud
    seconds = round(time.process_time() - start, 1)
    return {"cpu_seconds": seconds} | {view.name: scores(cloud, view, options_of(config)) for view in scene.test_views}


def table(results: dict, rows: list[str], folds: int) -> str:
    lines = ["| | " + " | ".join(FITS) + " |", "|---|" + "---|" * len(FITS)]
    for row in rows:
        found = [results.get(f"{number}/{row}") for number in range(folds)]
        if all(each is not None for each in found):
            photos = [values for each in found for name, values in each.items() if name != "cpu_seconds"]
            means = torch.tensor(photos).mean(0).tolist()
            lines.append(f"| {row} | " + " | ".join(f"{mean:.2f} dB" for mean in means) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scene", type=Path)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--max-side", type=int, default=300)
    parser.add_argument("--rows", nargs="*", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--results", type=Path, default=Path("bench_wild.json"))
    options = parser.parse_args()

    from splat.scene import load_scene

    scene = load_scene(options.scene, max_side=options.max_side, progress=False)
    results = json.loads(options.results.read_text()) if options.results.exists() else {}
    for row in options.rows:
        for number in range(options.folds):
            key = f"{number}/{row}"
            if key in results:
                continue
            results[key] = measure(fold(scene, number, options.folds), plain(options.steps, **ROWS[row]))
            print(key, results[key], flush=True)
            temporary = options.results.with_suffix(".part")
            temporary.write_text(json.dumps(results, indent=1))
            os.replace(temporary, options.results)
    print(table(results, options.rows, options.folds))


if __name__ == "__main__":
    main()
