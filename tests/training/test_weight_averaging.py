"""The mean of the Gaussians over the end of a run, against means of what the run's callback saw."""

import dataclasses

import pytest
import torch
from support.scenes import ring_scene, train_in_pieces, truth

from splat.cloud import FIELDS
from splat.runs.train import train
from splat.training import population as edit
from splat.training import weight_averaging
from splat.training.config.config import AverageConfig, DensifyConfig, McmcConfig, TrainConfig
from splat.training.config.methods import GesConfig

STILL = DensifyConfig(every=10, stop=0.1)  # rows change at step 5 at most
BASE = TrainConfig(
    steps=60, gaussians=120, sh_degree=1, checkpoint_seconds=0, average=AverageConfig(start=0.4), densify=STILL
)


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


def seen(scene, config, steps):
    """The finished run, and its cloud as it was after each of ``steps``."""
    found = {}

    def look(now):
        if now.step in steps:
            found[now.step] = now.cloud.map(torch.Tensor.clone)

    return train(scene, config, progress=look), found


def test_what_is_written_is_the_mean_of_every_tenth_step_after_the_start(scene):
    result, found = seen(scene, BASE, (30, 40, 50, 60))  # 24 is the start
    for name in FIELDS:
        mean = torch.stack([getattr(cloud, name).double() for cloud in found.values()]).mean(0)
        assert torch.allclose(getattr(result.cloud, name).double(), mean, atol=1e-6)
        assert not torch.equal(getattr(result.cloud, name), getattr(found[60], name))


def test_without_a_say_in_the_training(scene):
    plain, found = seen(scene, dataclasses.replace(BASE, average=AverageConfig(start=1.0)), (60,))
    _, with_mean = seen(scene, BASE, (60,))
    for name in FIELDS:
        assert torch.equal(getattr(plain.cloud, name), getattr(found[60], name))
        assert torch.equal(getattr(with_mean[60], name), getattr(found[60], name))


def test_a_change_of_rows_begins_the_mean_anew(scene):
    """Growth at every tenth step up to 50: the mean knows steps 50 and 60 only."""
    config = dataclasses.replace(BASE, densify=DensifyConfig(every=10, stop=0.85), mcmc=McmcConfig(full=0.85))
    result, found = seen(scene, config, (50, 60))
    mean = (found[50].means.double() + found[60].means.double()) / 2
    assert torch.allclose(result.cloud.means.double(), mean, atol=1e-6)


@pytest.mark.parametrize("change", ["keep", "append", "replace", "permute"])
def test_every_edit_forgets_it(scene, change):
    cloud = train(scene, dataclasses.replace(BASE, steps=2)).cloud
    population = edit.populate(cloud)
    weight_averaging.update_running_mean(AverageConfig(start=0.0), population, weight_averaging.EVERY, 0.5)
    assert population.averaged == 1
    rows = torch.arange(len(cloud))
    {
        "keep": lambda: edit.keep(population, rows >= 0),
        "append": lambda: edit.append(population, cloud.select(rows[:1])),
        "replace": lambda: edit.replace(population, rows[:1], cloud.select(rows[:1])),
        "permute": lambda: edit.permute(population, rows),
    }[change]()
    assert population.averaged == 0 and weight_averaging.averaged(population) is population.cloud


@pytest.mark.parametrize("ges", [GesConfig(), GesConfig(shape=True)])
def test_a_stopped_run_goes_on_bit_for_bit(scene, ges, tmp_path):
    config = dataclasses.replace(BASE, ges=ges)
    whole = train(scene, config)
    result = train_in_pieces(scene, config, tmp_path / "run", (33, 45, None))
    assert all(torch.equal(getattr(whole.cloud, name), getattr(result.cloud, name)) for name in FIELDS)
    assert not result.cloud.extras


@pytest.mark.parametrize(("fraction", "counted"), [(0.39, 0), (0.4, 0), (0.41, 1)])
def test_the_start_itself_is_before_the_mean(fraction, counted):
    population = edit.populate(truth(3))
    weight_averaging.update_running_mean(AverageConfig(start=0.4), population, weight_averaging.EVERY, fraction)
    assert population.averaged == counted
