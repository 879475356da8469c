"""The gsplat backend against a stand-in with gsplat's calling convention that draws with the reference renderer."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from support.cases import GRADIENTS, case, expected
from support.pretend import GSPLAT, rasterization
from support.scenes import ring_scene

from splat.rendering import backends, gsplat, render
from splat.training import trainer
from splat.training.config.config import TrainConfig
from splat.training.schedules import Schedule


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", GSPLAT)


@pytest.mark.parametrize("name", ["plain", "rgb_only", "antialiased"])
def test_pictures_and_gradients_pass_through(stand_in, name: str):
    this, wanted = case(name), expected(name)
    rendering, context = gsplat.forward(this.cloud, this.camera, this.options)
    for picture in ("rgb", "alpha", "depth", "normal", "weights", "means2d"):
        value, truth = getattr(rendering, picture), getattr(wanted.rendering, picture)
        assert (value is None) == (truth is None)
        assert value is None or torch.allclose(value, truth, atol=1e-9), picture
    assert torch.equal(rendering.radii, wanted.rendering.radii)
    found = gsplat.backward(context, wanted.upstream)
    for field in GRADIENTS[:6]:
        assert torch.allclose(getattr(found, field), getattr(wanted.gradients, field), atol=1e-9), field


def test_a_training_step_draws_once(stand_in, monkeypatch):
    drawn = []
    counting = SimpleNamespace(rasterization=lambda *a, **k: drawn.append(1) or rasterization(*a, **k))
    monkeypatch.setitem(sys.modules, "gsplat", counting)
    here = replace(gsplat.BACKEND, device=torch.device("cpu"))
    monkeypatch.setattr(trainer, "get_backend", lambda name: here)
    setup = trainer.set_up(ring_scene(), TrainConfig(steps=10, gaussians=20, backend="gsplat"))
    state = trainer.begin(setup, Schedule(10, None))
    for _ in range(3):
        trainer.step(setup, state)
    assert len(drawn) == 3 and state.schedule.step == 3


def test_features_pass_through(stand_in, monkeypatch):
    monkeypatch.setitem(backends.REGISTRY, "gsplat", replace(gsplat.BACKEND, check=lambda: None))
    backends.check_backend.cache_clear()
    this = case("plain")
    values = torch.randn(len(this.cloud), 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 10
    pictures, gradients = {}, {}
    for name in ("gsplat", "reference"):
        features, means = values.clone().requires_grad_(), this.cloud.means.clone().requires_grad_()
        pictures[name] = render(this.cloud.replace(means=means), this.camera, name, features=features).features
        gradients[name] = torch.autograd.grad(pictures[name].square().sum(), [features, means])
    backends.check_backend.cache_clear()
    assert torch.allclose(pictures["gsplat"], pictures["reference"], atol=1e-9)
    for found, wanted in zip(gradients["gsplat"], gradients["reference"], strict=True):
        assert torch.allclose(found, wanted, rtol=1e-7, atol=1e-7)


def test_missing_gsplat_is_one_sentence(monkeypatch):
    monkeypatch.setattr(gsplat.util, "find_spec", lambda name: None)
    assert gsplat.check() == f"gsplat is not installed; {gsplat.INSTALL}"
    assert "--backend cpu" in gsplat.INSTALL
