"""The gsplat backend against a stand-in with gsplat's calling convention that draws with the reference renderer."""

import sys
from types import SimpleNamespace

import pytest
import torch
from support.cases import GRADIENTS, case, expected
from support.mini_scene import mini_scene
from support.pretend import GSPLAT, rasterization

from splat.rendering import gsplat
from splat.training import trainer
from splat.training.config.config import TrainConfig
from splat.training.schedules import Plan


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
    monkeypatch.setattr(trainer, "get_backend", lambda name: gsplat)
    monkeypatch.setattr(trainer, "device_of", lambda backend: torch.device("cpu"))
    setup = trainer.set_up(mini_scene(), TrainConfig(steps=10, gaussians=20, backend="gsplat"))
    state = trainer.begin(setup, Plan(10, None))
    for _ in range(3):
        trainer.step(setup, state)
    assert len(drawn) == 3 and state.plan.step == 3


def test_missing_gsplat_is_one_sentence(monkeypatch):
    monkeypatch.setattr(gsplat.util, "find_spec", lambda name: None)
    assert gsplat.check() == f"gsplat is not installed; {gsplat.INSTALL}"
    assert "--backend cpu" in gsplat.INSTALL
