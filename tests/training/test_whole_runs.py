"""Whole runs with each method go on bit for bit, and learn as well with all of them."""

import dataclasses

import pytest
import torch
from support.scenes import ring_scene, train_in_pieces

from splat.cloud import FIELDS, GaussianCloud
from splat.runs.train import train
from splat.training.config.config import TrainConfig
from splat.training.config.densify import DensifyConfig
from splat.training.config.methods import (
    BatchConfig,
    CoarseConfig,
    DilateConfig,
    GesConfig,
    PruneConfig,
    SmoothConfig,
)
from splat.training.hooks import mip_filter

BASE = TrainConfig(
    steps=40,
    gaussians=120,
    sh_degree=1,
    background=(0.1, 0.1, 0.1),
    checkpoint_seconds=0,
    densify=DensifyConfig(every=10),
)
OFTEN = DensifyConfig(every=5)
METHODS = {
    "taming": {"strategy": "taming", "densify": OFTEN},
    "turbo": {"strategy": "turbo", "densify": OFTEN},
    "coarse": {"coarse": CoarseConfig(start=3.0)},
    "dilate": {"dilate": DilateConfig(stride=2, until=0.8)},
    "ges": {"ges": GesConfig(shape=True, shape_rate=0.1, frequency=0.5)},
    "smooth": {"smooth": SmoothConfig(filter=0.2)},
    "prune": {"prune": PruneConfig(fraction=0.3, times=2, start=0.4)},
    "batch": {"batch": BatchConfig(size=2, start=0.5)},
}
METHODS["all"] = {name: value for changes in METHODS.values() for name, value in changes.items()}


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


def config_with(name: str) -> TrainConfig:
    return dataclasses.replace(BASE, **METHODS[name])


def same(a: GaussianCloud, b: GaussianCloud) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


@pytest.mark.parametrize("name", METHODS)
def test_a_stopped_run_goes_on_bit_for_bit(scene, name, tmp_path, monkeypatch):
    monkeypatch.setattr(mip_filter, "EVERY", 7)
    config = config_with(name)
    whole = train(scene, config)
    result = train_in_pieces(scene, config, tmp_path / "run", (10, 23, None))
    assert same(whole.cloud, result.cloud)
    assert not result.cloud.extras
    assert len(result.cloud) <= config.gaussians
    assert whole.metrics["psnr"] > 15


def test_a_run_learns_as_well_with_everything_on(scene):
    plain = train(scene, dataclasses.replace(BASE, steps=80)).metrics["psnr"]
    full = train(scene, dataclasses.replace(config_with("all"), steps=80)).metrics["psnr"]
    assert full > plain - 2
