"""Measured depth against none on the demo scene: depth error and PSNR of held-out photos.

    python tools/bench_depth.py WORK [--steps 1500] [--seeds 3] [--weights 0.03 0.1 0.3]

Depth maps hold a tenth of the pixels with 1 % noise, drawn from the scene's exact mesh; they are given to the training
photos only. Error is the median over pixels of |d − z| / z of rendered expected depth in held-out photos. Results are
kept in WORK/depth.jsonl; what is in it is not run again.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

KNOWN, NOISE = 0.1, 0.01
WIDTH, PHOTOS = 320, 40
GAUSSIANS = 20_000


def make(work: Path, seed: int) -> tuple[Path, Path]:
    """The demo scene without and with depth."""
    from splat.scene import load_scene
    from splat.scene.demo import make as make_demo
    from splat.surface.mesh import mesh_io
    from splat.surface.mesh.draw import draw

    plain, measured = work / f"plain_{seed}", work / f"measured_{seed}"
    if measured.exists():
        return plain, measured
    make_demo(plain, views=PHOTOS, width=WIDTH, seed=seed)
    mesh, random = mesh_io.read(plain / "mesh_gt.ply"), np.random.default_rng(seed)
    maps = measured / "depths"
    maps.mkdir(parents=True)
    for name in ("images", "sparse"):
        (measured / name).symlink_to((plain / name).resolve())
    for view in load_scene(plain).train_views:
        depth = draw(mesh, view.camera).depth
        depth = depth * (1 + NOISE * random.standard_normal(depth.shape)) * (random.random(depth.shape) < KNOWN)
        Image.fromarray((depth * 1000 + 0.5).astype(np.uint16)).save(maps / view.name)
    return plain, measured


def errors(cloud, scene, truth) -> float:
    """Median relative error of rendered depth over the pixels of the held-out photos."""
    from splat.rendering import render

    found = []
    for view, exact in zip(scene.test_views, truth, strict=True):
        depth = render(cloud, view.camera, depth=True).depth.numpy()
        known = exact > 0
        found.append(np.abs(depth[known] - exact[known]) / exact[known])
    return float(np.median(np.concatenate(found)))


def run(folder: Path, mesh, seed: int, steps: int, weight: float | None) -> dict:
    """Train on ``folder`` and judge."""
    from splat.runs.train import train
    from splat.scene import load_scene
    from splat.surface.mesh.draw import draw
    from splat.training.config.config import TrainConfig

    scene = load_scene(folder)
    config = TrainConfig(steps=steps, gaussians=GAUSSIANS, seed=seed, eval_every=0.0)
    config = replace(config, loss=replace(config.loss, depth=weight))
    with torch.random.fork_rng():
        result = train(scene, config)
    truth = [draw(mesh, view.camera).depth for view in scene.test_views]
    return {"psnr": result.metrics["psnr"], "error": errors(result.cloud, scene, truth)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weights", type=float, nargs="*", default=[], help="beside the default weight")
    options = parser.parse_args()
    from splat.surface.mesh import mesh_io

    options.work.mkdir(parents=True, exist_ok=True)
    log = options.work / "depth.jsonl"
    done = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
    for seed in range(options.seeds):
        plain, measured = make(options.work, seed)
        mesh = mesh_io.read(plain / "mesh_gt.ply")
        for name, folder, weight in [
            ("none", plain, 0.0),
            ("default", measured, None),
            *((f"{weight:g}", measured, weight) for weight in options.weights),
        ]:
            key = {"seed": seed, "depth": name, "steps": options.steps}
            if any(key.items() <= row.items() for row in done):
                continue
            row = key | run(folder, mesh, seed, options.steps, weight)
            print(row, flush=True)
            done.append(row)
            with open(log, "a") as file:
                file.write(json.dumps(row) + "\n")
    for name in dict.fromkeys(row["depth"] for row in done):
        rows = [row for row in done if row["depth"] == name and row["steps"] == options.steps]
        psnr, error = (np.array([row[key] for row in rows]) for key in ("psnr", "error"))
        print(f"{name:>8}  PSNR {psnr.mean():.2f} dB  depth error {100 * error.mean():.3f} %  ({len(rows)} seeds)")


if __name__ == "__main__":
    main()
