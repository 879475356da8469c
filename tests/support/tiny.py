"""A scene of eight 48×48 photos in COLMAP's text layout, drawn from a cloud that is known."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from splat.camera import Camera
from splat.cloud import GaussianCloud, matrix_to_quaternion
from splat.rendering import render

SIDE = 48
VIEWS = 8


def tiny_cloud(count: int = 60, seed: int = 0) -> GaussianCloud:
    """``count`` round blobs in the unit ball."""
    random = torch.Generator().manual_seed(seed)
    return GaussianCloud(
        means=torch.rand(count, 3, generator=random) * 2 - 1,
        log_scales=torch.full((count, 3), math.log(0.15)),
        quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(count, 1),
        logit_opacities=torch.full((count,), 2.0),
        sh=torch.rand(count, 1, 3, generator=random) * 3 - 1.5,
    )


def tiny_cameras() -> list[Camera]:
    """Eight cameras on a circle, facing its middle."""
    cameras = []
    for index in range(VIEWS):
        angle = 2 * math.pi * index / VIEWS
        position = torch.tensor([4 * math.cos(angle), 4 * math.sin(angle), 1.0])
        cameras.append(Camera.look_at(position, torch.zeros(3), torch.tensor([0.0, 0.0, 1.0]), SIDE, SIDE))
    return cameras


def write_scene(folder: Path) -> Path:
    """Write the scene into ``folder`` and return it."""
    cloud, cameras = tiny_cloud(), tiny_cameras()
    (folder / "images").mkdir(parents=True)
    (folder / "sparse" / "0").mkdir(parents=True)
    images = []
    for index, camera in enumerate(cameras):
        picture = render(cloud, camera, backend="reference").rgb.clamp(0, 1)
        Image.fromarray((picture * 255 + 0.5).to(torch.uint8).numpy()).save(folder / "images" / f"{index:02}.png")
        pose = camera.world_to_camera.double()
        numbers = [*matrix_to_quaternion(pose[:3, :3]).tolist(), *pose[:3, 3].tolist()]
        pixels = camera.project(cloud.means.double())[0]
        marks = " ".join(f"{x:.3f} {y:.3f} {point + 1}" for point, (x, y) in enumerate(pixels.tolist()))
        images += [f"{index + 1} {' '.join(f'{number:.9f}' for number in numbers)} 1 {index:02}.png", marks]
    focal = cameras[0].fx
    tracks = {point: " ".join(f"{image + 1} {point}" for image in range(VIEWS)) for point in range(len(cloud))}
    colours = (255 * np.clip(0.5 + 0.28209479 * cloud.sh[:, 0].numpy(), 0, 1)).astype(int)
    points = [
        f"{point + 1} {x:.6f} {y:.6f} {z:.6f} {' '.join(map(str, colours[point]))} 0.5 {tracks[point]}"
        for point, (x, y, z) in enumerate(cloud.means.tolist())
    ]
    files = {
        "cameras": [f"1 PINHOLE {SIDE} {SIDE} {focal} {focal} {SIDE / 2} {SIDE / 2}"],
        "images": images,
        "points3D": points,
    }
    for name, lines in files.items():
        (folder / "sparse" / "0" / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return folder


def splat(*arguments: object, **options) -> subprocess.CompletedProcess:
    """Run ``splat`` in a process of its own."""
    command = [sys.executable, "-m", "splat", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "100"} | options.pop("env", {})
    return subprocess.run(command, capture_output=True, text=True, env=environment, **options)


def everything_in(folder: Path) -> set[str]:
    """Names of all files below ``folder``."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}
