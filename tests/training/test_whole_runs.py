"""Whole runs with each method go on bit for bit, and learn as well with all of them."""

import dataclasses

import pytest
import torch
from support.method_runs import METHODS, SHORT, config_with
from support.scenes import ring_scene, train_in_pieces

from splat.cloud import FIELDS, GaussianCloud
from splat.runs.train import train
from splat.training.hooks import mip_filter


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


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
    plain = train(scene, dataclasses.replace(SHORT, steps=80)).metrics["psnr"]
    full = train(scene, dataclasses.replace(config_with("all"), steps=80)).metrics["psnr"]
    assert full > plain - 2
