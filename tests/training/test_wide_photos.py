"""What is learned of a wide photo is learned of the photo: its faces share one pose, one exposure and one grid."""

from dataclasses import replace

import pytest
import torch
from support.wide_scenes import PANORAMA, write_colmap

from splat.runs import fingerprints
from splat.runs.train import train
from splat.scene import load_scene
from splat.training import trainer
from splat.training.config.config import TrainConfig, resolved
from splat.training.config.photos import AppearanceConfig, PoseConfig
from splat.training.per_photo.bilateral_grid import GRID, apply_grid
from splat.training.per_photo.corrections import EXPOSURES, GRIDS, POSES
from splat.training.schedules import Schedule

ALL = TrainConfig(
    steps=12,
    gaussians=60,
    sh_degree=0,
    backend="cpu",
    pose=PoseConfig(refine=True),
    appearance=AppearanceConfig(exposure=True, bilateral_grid=True, features=1),
)


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    root = tmp_path_factory.mktemp("panoramas")
    write_colmap(root, PANORAMA, "EQUIRECTANGULAR", count=4)
    return load_scene(root, hold_out=4)


def test_faces_of_a_photo_share_what_is_learned_of_it(scene):
    setup = trainer.set_up(scene, resolved(ALL))
    state = trainer.begin(setup, Schedule(ALL.steps, None))
    assert setup.rows == [k // 6 for k in range(18)]
    assert {name: each.parameters.values.shape[0] for name, each in state.per_photo.items()} == {
        EXPOSURES: 3, GRIDS: 3, POSES: 3}  # fmt: skip
    seen = [0, 0, 0]
    for _ in range(ALL.steps):
        before = state.per_photo[POSES].parameters.steps.clone()
        trainer.step(setup, state)
        row = int((state.per_photo[POSES].parameters.steps - before).argmax())
        seen[row] += 1
    assert state.per_photo[POSES].parameters.steps.tolist() == seen == state.per_photo[GRIDS].parameters.steps.tolist()
    assert sum(seen) == ALL.steps and max(seen) < ALL.steps
    cameras = [trainer._camera(setup, state, index) for index in range(18)]
    for first in (0, 6, 12):  # refined, the faces still have one centre, and stand at right angles
        front = cameras[first]
        assert (front.position - setup.views[first].camera.position).norm() > 1e-6
        for camera in cameras[first + 1 : first + 6]:
            torch.testing.assert_close(camera.position, front.position, atol=1e-5, rtol=0)
            cosine = float(camera.forward @ front.forward)
            assert min(abs(cosine), abs(cosine + 1)) < 1e-5
    setup.photos.close()


def test_a_run_counts_photos(scene, tmp_path):
    metrics = train(scene, replace(ALL, steps=4), tmp_path / "run").metrics
    assert metrics["protocol"]["photos"] == {"training": 3, "held_out": 1}
    assert [view["name"] for view in metrics["views"]] == ["1.png"]
    prints = fingerprints.of_views(scene.views)
    assert len({each["sha256"] for each in prints}) == 4 and len({each["name"] for each in prints}) == 24


def test_a_grid_is_sliced_where_the_photo_has_the_pixels():
    rng = torch.Generator().manual_seed(0)
    rgb, grid = torch.rand(6, 8, 3, generator=rng), 0.1 * torch.randn(GRID, generator=rng)
    whole = apply_grid(rgb, grid)
    y, x = torch.meshgrid((torch.arange(6) + 0.5) / 6, (torch.arange(8) + 0.5) / 8, indexing="ij")
    places = torch.stack([x, y], -1)
    torch.testing.assert_close(apply_grid(rgb, grid, places), whole)
    part = apply_grid(rgb[2:5, 3:6], grid, places[2:5, 3:6])
    torch.testing.assert_close(part, whole[2:5, 3:6])
