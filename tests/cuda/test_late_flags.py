"""Flags of what is not finite, a step late, with two trainings in one process."""

import gc
from types import SimpleNamespace

import pytest
import torch
from support.emulator import Emulator

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.native import cuda_launcher
from splat.ops.adam import AdamHyper, AdamState
from splat.rendering import RenderOptions, cuda, late_flags
from splat.rendering.types import ImageGradients


class OnGpu(torch.Tensor):
    """A tensor in main memory that says it lies on a GPU."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda", 0)


class Event:
    """Reached only when somebody waits for it, as late as a GPU may be."""

    def record(self, stream) -> None:
        self.waited = False

    def synchronize(self) -> None:
        self.waited = True


class Training:
    """Steps on one Gaussian; a step with ``bad`` has a gradient that is not a number."""

    def __init__(self) -> None:
        pose = torch.eye(4, dtype=torch.float64)
        self.camera = Camera(20.0, 20.0, 8.5, 8.5, 17, 17, pose)
        self.cloud = GaussianCloud(
            means=torch.tensor([[0.0, 0.0, 2.0]]),
            log_scales=torch.full((1, 3), -1.0),
            quats=torch.tensor([[1.0, 0.0, 0.0, 0.0]]),
            logit_opacities=torch.zeros(1),
            sh=torch.ones(1, 1, 3),
        )
        self.moments, self.step = AdamState.zeros(self.cloud), 0

    def go(self, bad: bool = False) -> tuple[str, ...]:
        self.step += 1
        _, context = cuda.forward(self.cloud, self.camera, RenderOptions())
        gradient = torch.full((17, 17, 3), float("nan") if bad else 1e-3)
        hyper = AdamHyper(self.step, *[1e-4] * 6)
        return cuda.backward_adam(context, ImageGradients(rgb=gradient), self.moments, hyper).nonfinite


@pytest.fixture
def late(monkeypatch):
    """The CUDA backend, emulated, but its flags seem to lie on a GPU."""
    zeros, empty = torch.zeros, torch.empty

    def on_gpu(*shape, **how):
        made = zeros(*shape, **how)
        return made.as_subclass(OnGpu) if shape == (1,) and how.get("dtype") is torch.int32 else made

    monkeypatch.setattr(cuda.torch, "zeros", on_gpu)
    monkeypatch.setattr(torch, "empty", lambda *shape, pin_memory=False, **how: empty(*shape, **how))
    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: SimpleNamespace(cuda_stream=0))
    with cuda_launcher.use(Emulator()):
        yield


def test_flags_come_a_step_late_and_stay_with_their_training(late):
    one, other = Training(), Training()
    assert one.go(bad=True) == () and other.go() == ()
    found = one.go()
    assert "sh" in found and "means" in found
    assert other.go(bad=True) == () and one.go() == ()
    assert "sh" in other.go() and one.go() == () and other.go() == ()


def test_flags_go_with_their_training(late):
    before = len(late_flags._trainings)
    training = Training()
    training.go()
    assert len(late_flags._trainings) == before + 1
    del training
    gc.collect()
    assert len(late_flags._trainings) == before
