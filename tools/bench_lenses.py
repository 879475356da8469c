"""Wide lenses against pinholes: the demo scene ray cast through an equirectangular and a 180° fisheye lens.

    python tools/bench_lenses.py FOLDER [--seeds 3] [--steps 2500]

From the same places around the table, FOLDER gets photos through each lens and, of the same directions, pinhole
pictures with as many pixels in all. Training on either is scored on pinhole pictures from other places. What FOLDER
already holds, and the runs in its results_STEPS.json, are not made again; the table goes to standard output.
"""

import argparse
import json
import math
import shutil
import statistics
from pathlib import Path

import numpy as np
from PIL import Image

PLACES = 20
WIDTH = 384  # of a panorama, pixels; half as much for a fisheye, so that both have as many pixels per degree
HELD_OUT, HELD_OUT_WIDTH = 24, 96
GAUSSIANS = 20_000
NEARER = 0.6  # distance from the middle of the table, of those of the held-out views
FINER = 2  # samples of the ray-cast light per pixel, along a side; each is the mean of 3 × 3 rays
LENSES = {"equirectangular": "EQUIRECTANGULAR", "fisheye": "OPENCV_FISHEYE"}
CUBE = {  # right, down, forward
    "front": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "right": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "back": ((-1, 0, 0), (0, 1, 0), (0, 0, -1)),
    "left": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
    "up": ((1, 0, 0), (0, 0, 1), (0, -1, 0)),
    "down": ((1, 0, 0), (0, 0, -1), (0, 1, 0)),
}


class World:
    """The demo scene's surfaces, baked once."""

    def __init__(self) -> None:
        from splat.scene.demo import still_life
        from splat.scene.demo.bake import assemble, bake

        self.patches = still_life.build(0)
        self.mesh = assemble(self.patches)
        self.texture = bake(self.patches, self.mesh, 2)

    def light(self, pose) -> np.ndarray:
        """Linear light (H, W, 3) of the rays through each pixel."""
        from splat.scene.demo.views import BAND, band_light, see

        seen, points = see(self.mesh, pose)
        bands = range(0, pose.height, BAND)
        return np.concatenate([
            band_light(self.patches, self.mesh, self.texture, pose, seen, points, y, min(y + BAND, pose.height))
            for y in bands
        ])  # fmt: skip


def square(rotation: np.ndarray, centre: np.ndarray, side: int):
    """A pinhole camera of 90°."""
    from splat.scene.demo.views import Pose

    return Pose(rotation, centre, side / 2, side, side)


def surroundings(world: World, rotation: np.ndarray, centre: np.ndarray, density: float) -> np.ndarray:
    """Light (6, s, s, 3) around ``centre``, on a cube with ``FINER`` × ``density`` pixels per radian in its faces."""
    side = 2 * math.ceil(FINER * density)
    return np.stack([world.light(square(np.array(axes) @ rotation, centre, side)) for axes in CUBE.values()])


def sampled(cube: np.ndarray, directions: np.ndarray) -> np.ndarray:
    """Light (M, 3) in ``directions`` (M, 3) of the cube's axes."""
    axes = np.array(list(CUBE.values()), float)
    face = (directions @ axes[:, 2].T).argmax(1)
    local = np.einsum("mij,mj->mi", axes[face], directions)
    side = cube.shape[1]
    x, y = (np.clip(((local[:, k] / local[:, 2] + 1) * side / 2).astype(int), 0, side - 1) for k in range(2))
    return cube[face, y, x]


def through(model: str, cube: np.ndarray) -> np.ndarray:
    """The photo (H, W, 3) uint8 through a lens: the mean over FINER² samples of each pixel; black beyond 90°."""
    from splat.scene.demo.views import to_srgb

    width, height = size(model)
    line = (np.arange(FINER) + 0.5) / FINER
    total = np.zeros((height * width, 3), np.float32)
    for dx in line:
        for dy in line:
            y, x = np.mgrid[:height, :width].astype(float)
            x, y = (x + dx).ravel(), (y + dy).ravel()
            if model == "EQUIRECTANGULAR":
                lon, lat = (x / width - 0.5) * 2 * np.pi, (y / height - 0.5) * np.pi
                directions = np.stack([np.cos(lat) * np.sin(lon), np.sin(lat), np.cos(lat) * np.cos(lon)], 1)
                total += sampled(cube, directions)
            else:
                u, v = (x - width / 2) / focal(model), (y - height / 2) / focal(model)
                angle = np.hypot(u, v)
                sine = np.sin(angle) / np.maximum(angle, 1e-9)
                light = sampled(cube, np.stack([u * sine, v * sine, np.cos(angle)], 1))
                total += np.where((angle < np.pi / 2)[:, None], light, 0)
    return to_srgb(total.reshape(height, width, 3) / FINER**2)


def size(model: str) -> tuple[int, int]:
    return (WIDTH, WIDTH // 2) if model == "EQUIRECTANGULAR" else (WIDTH // 2, WIDTH // 2)


def focal(model: str) -> float:
    """Pixels per radian; the circle of a fisheye's half turn fills its picture."""
    return WIDTH / (2 * np.pi) if model == "EQUIRECTANGULAR" else WIDTH // 2 / np.pi


def pinhole_pictures(world: World, model: str, rotation: np.ndarray, centre: np.ndarray) -> list:
    """(name, camera, rotation, picture) of pinhole pictures of what the lens sees, with as many pixels as it has."""
    from splat.scene.demo.views import to_srgb

    width, height = size(model)
    pixels = width * height if model == "EQUIRECTANGULAR" else np.pi / 4 * width * height
    squares = 6 if model == "EQUIRECTANGULAR" else 3  # one ahead, and four halves around it
    side = 2 * round(math.sqrt(pixels / squares) / 2)
    half = side // 2
    ahead = {"right": np.s_[:, :half], "left": np.s_[:, half:], "up": np.s_[half:], "down": np.s_[:half]}
    pictures = []
    for name, axes in CUBE.items():
        if model != "EQUIRECTANGULAR" and name == "back":
            continue
        pose = square(np.array(axes) @ rotation, centre, side)
        picture, cx, cy = to_srgb(world.light(pose)), half, half
        if model != "EQUIRECTANGULAR" and name in ahead:
            picture = picture[ahead[name]]
            cx, cy = cx - half * (name == "left"), cy - half * (name == "up")
        camera = f"PINHOLE {picture.shape[1]} {picture.shape[0]} {half} {half} {cx} {cy}"
        pictures.append((name, camera, pose.rotation, picture))
    return pictures


def write_scene(folder: Path, photos: list, points: Path) -> None:
    """Photos (name, camera, rotation, centre, picture) as a COLMAP text model, with the points of another."""
    from splat.scene.colmap_library import pycolmap

    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "images").mkdir(parents=True)
    (part / "sparse/0").mkdir(parents=True)
    cameras, images = [], []
    for number, (name, camera, rotation, centre, picture) in enumerate(photos, 1):
        Image.fromarray(picture).save(part / "images" / f"{name}.png")
        cameras.append(f"{number} {camera}\n")
        x, y, z, w = pycolmap.Rotation3d(rotation).quat
        pose = " ".join(map(repr, map(float, (w, x, y, z, *(-rotation @ centre)))))
        images.append(f"{number} {pose} {number} {name}.png\n\n")
    (part / "sparse/0/cameras.txt").write_text("".join(cameras))
    (part / "sparse/0/images.txt").write_text("".join(images))
    shutil.copy(points, part / "sparse/0/points3D.txt")
    part.rename(folder)


def make_scenes(folder: Path) -> None:
    """Whatever ``folder`` lacks of: held_out, and for each lens its photos and the pinhole pictures beside them."""
    from splat.scene import demo
    from splat.scene.colmap_library import pycolmap
    from splat.scene.demo.bake import frame
    from splat.scene.demo.views import TARGET, poses

    held_out = folder / "held_out"
    if not held_out.exists():
        demo.make(held_out, HELD_OUT, HELD_OUT_WIDTH, seed=0)
    points = folder / "points3D.txt"
    if not points.exists():
        model = pycolmap.Reconstruction(str(held_out / "sparse/0"))
        points.write_text("".join(
            f"{key} {' '.join(map(repr, map(float, point.xyz)))} {' '.join(map(str, point.color))} 1\n"
            for key, point in model.points3D.items()
        ))  # fmt: skip
    wanted = [name for lens in LENSES for name in (lens, f"{lens}_pinholes")]
    if all((folder / name).exists() for name in wanted):
        return
    world, photos = World(), {name: [] for name in wanted}
    for index, pose in enumerate(poses(PLACES, 64, seed=77)):
        centre = pose.centre * (NEARER, NEARER, 1)
        rotation = frame(TARGET - centre)
        cube = surroundings(world, rotation, centre, focal("EQUIRECTANGULAR"))
        for lens, model in LENSES.items():
            width, height = size(model)
            parameters = f"{width} {height}"
            if model != "EQUIRECTANGULAR":
                f = focal(model)
                parameters = f"{f} {f} {width / 2} {height / 2} 0 0 0 0"
            camera = f"{model} {width} {height} {parameters}"
            photos[lens].append((f"{index:02}", camera, rotation, centre, through(model, cube)))
            for name, camera, turned, picture in pinhole_pictures(world, model, rotation, centre):
                photos[f"{lens}_pinholes"].append((f"{index:02}_{name}", camera, turned, centre, picture))
        print(f"place {index + 1} of {PLACES}", flush=True)
    for name, each in photos.items():
        if not (folder / name).exists():
            write_scene(folder / name, each, points)


def measure(folder: Path, name: str, steps: int, seed: int) -> dict:
    """Train on all photos of one scene; scores on the held-out pinhole pictures."""
    from splat.runs.evaluation import evaluate, options_of
    from splat.runs.train import train
    from splat.scene import load_scene
    from splat.training.config.config import TrainConfig

    scene = load_scene(folder / name, hold_out=0, progress=False)
    config = TrainConfig(steps=steps, gaussians=GAUSSIANS, seed=seed, eval_every=0.0)
    result = train(scene, config)
    judge = load_scene(folder / "held_out", hold_out=0, progress=False)
    scores = evaluate(
        result.cloud, judge, "cpu", options_of(config), judge.views, folder / "renders" / f"{name}_{seed}"
    )
    pixels = sum(view.camera.width * view.camera.height for view in scene.views)
    return {"psnr": scores.psnr, "ssim": scores.ssim, "gaussians": len(result.cloud), "pixels": pixels}


def likeness(folder: Path, lens: str) -> str:
    """How like the ray-cast pinhole pictures are those that the faces' gathering makes of the lens's photos, for the
    same cameras: the PSNR over all pixels that the lens shows."""
    from splat.scene.faces import Face
    from splat.scene.readers.colmap_model import read_model
    from splat.scene.undistort import Pinhole

    wide, pinholes = (read_model(folder / name / "sparse/0") for name in (lens, f"{lens}_pinholes"))
    of_photo = {image.name.split(".")[0]: wide.cameras[image.camera] for image in wide.images}
    squared = count = 0
    for image in pinholes.images:
        place, name = image.name.removesuffix(".png").split("_")
        source, camera = of_photo[place], pinholes.cameras[image.camera]
        limit = math.pi if lens == "equirectangular" else math.pi / 2
        pinhole = Pinhole(*camera.params, camera.width, camera.height)
        face = Face(name, pinhole, source, limit, (source.width, source.height), False)
        photo = np.asarray(Image.open(folder / lens / "images" / f"{place}.png"))
        truth = np.asarray(Image.open(folder / f"{lens}_pinholes/images" / image.name)).astype(float)
        difference = (face.gather(photo) - truth)[face.seen()] / 255
        squared, count = squared + float((difference**2).sum()), count + difference.size
    return f"{lens}: pinhole pictures cut out of it against ray-cast ones: {-10 * math.log10(squared / count):.2f} dB"


def table(results: dict, seeds: int) -> str:
    """Markdown: PSNR and SSIM of each seed and their mean, and what the lens loses against pinholes."""
    lines = ["| trained on | " + " | ".join(f"seed {seed}" for seed in range(seeds)) + " | mean | SSIM | |"]
    lines.append("|---|" + "---|" * (seeds + 3))
    for lens in LENSES:
        means = {}
        for name in (f"{lens}_pinholes", lens):
            rows = [results[f"{name}/{seed}"] for seed in range(seeds)]
            means[name] = statistics.mean(row["psnr"] for row in rows)
            ssim = statistics.mean(row["ssim"] for row in rows)
            difference = f"{means[lens] - means[f'{lens}_pinholes']:+.2f} dB" if name == lens else ""
            cells = [f"{row['psnr']:.2f}" for row in rows] + [f"{means[name]:.2f} dB", f"{ssim:.4f}", difference]
            lines.append(f"| {name.replace('_', ', ')} | " + " | ".join(cells) + " |")
    return "\n".join(lines).replace("-", "−").replace("|−−−", "|---")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=2500)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    make_scenes(options.folder)
    for lens in LENSES:
        print(likeness(options.folder, lens), flush=True)
    kept = options.folder / f"results_{options.steps}.json"
    results = json.loads(kept.read_text()) if kept.exists() else {}
    for seed in range(options.seeds):
        for name in (each for lens in LENSES for each in (f"{lens}_pinholes", lens)):
            key = f"{name}/{seed}"
            if key not in results:
                results[key] = measure(options.folder, name, options.steps, seed)
                kept.write_text(json.dumps(results, indent=1))
                print(key, results[key], flush=True)
    print(table(results, options.seeds))


if __name__ == "__main__":
    main()
