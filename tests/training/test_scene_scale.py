"""A scene in millimetres and one in kilometres train alike, and their clouds are drawn alike."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.cases import random_cloud

from splat import formats
from splat.rendering.types import NEAR, near_plane, near_plane_of
from splat.runs.train import train
from splat.scene import Scene, load_scene
from splat.scene.demo import make
from splat.training.config.config import TrainConfig


def scaled(scene: Scene, factor: float) -> Scene:
    """``scene`` in units of which ``factor`` make one of before."""
    views = []
    for view in scene.views:
        matrix = view.camera.world_to_camera.clone()
        matrix[:3, 3] *= factor
        views.append(replace(view, camera=view.camera.replace(world_to_camera=matrix)))
    return replace(scene, views=tuple(views), points=replace(scene.points, xyz=scene.points.xyz * factor))


def test_training_does_not_depend_on_the_unit(tmp_path) -> None:
    scene = load_scene(make(tmp_path / "demo", views=12, width=96))
    psnr = {}
    for factor in (1.0, 1e-3, 1e3):
        run = train(scaled(scene, factor), TrainConfig(steps=300, gaussians=1500), tmp_path / f"{factor}")
        psnr[factor] = run.metrics["psnr"]
    assert psnr[1e-3] == pytest.approx(psnr[1.0], abs=0.5)
    assert psnr[1e3] == pytest.approx(psnr[1.0], abs=0.5)


def test_near_plane_of_small_scenes_and_clouds() -> None:
    assert near_plane(3.0) == near_plane(1.0) == NEAR and near_plane(1e-3) == pytest.approx(1e-3 * NEAR)
    means = torch.nn.functional.normalize(
        torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)), dim=1
    )
    cloud = random_cloud(100, 0, 0).replace(means=means)
    far = near_plane_of(cloud.replace(means=5 * means))
    assert far == NEAR and near_plane_of(cloud.replace(means=1e-3 * means)) == pytest.approx(1e-3 * NEAR, rel=0.3)
    assert near_plane_of(cloud.select(torch.zeros(100, dtype=torch.bool))) == NEAR
    assert near_plane_of(cloud.replace(means=0 * means)) == NEAR


def test_small_clouds_are_drawn(tmp_path) -> None:
    """By the command, a cloud and the same one in another unit."""
    from PIL import Image

    from splat.cli import main

    cloud = random_cloud(100, 1, 1)
    pictures = {}
    for factor in (1.0, 1e-4):
        path = tmp_path / f"{factor}.ply"
        formats.write(cloud.transform(torch.eye(3), torch.zeros(3), factor), path)
        out = tmp_path / ("out" if factor == 1 else "small")
        assert main(["render", str(path), str(out), "--along", "orbit", "--frames", "1", "--width", "64"]) == 0
        with Image.open(next(out.rglob("*.png"))) as image:
            pictures[factor] = np.asarray(image).astype(int)
    assert pictures[1.0].max() > 20
    assert np.abs(pictures[1.0] - pictures[1e-4]).mean() < 1
