"""Whole training runs with the CUDA backend: emulated kernels, and what happens when memory runs out."""

import dataclasses

import pytest
import torch
from support.emulator import Emulator
from support.scenes import ring_scene

from splat.errors import OutOfMemory
from splat.native import cuda_launcher
from splat.rendering import backends, cuda, reference
from splat.runs.train import train
from splat.training import checkpoint, trainer
from splat.training import population as edit
from splat.training.config.config import AdcConfig, DensifyConfig, TrainConfig
from splat.training.initialize import initialize

TINY = TrainConfig(
    steps=40, gaussians=100, sh_degree=1, densify=DensifyConfig(every=10), adc=AdcConfig(reset_every=0.25)
)
ON_CPU = dataclasses.replace(cuda.BACKEND, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def scene():
    return ring_scene()


@pytest.fixture
def emulated(monkeypatch):
    """The CUDA backend, with its clouds in main memory and its kernels emulated."""
    monkeypatch.setattr(trainer, "choose_backend", lambda cloud: ON_CPU)
    monkeypatch.setattr(backends, "check_backend", lambda name: None)
    emulator = Emulator()
    with cuda_launcher.use(emulator):
        yield emulator


@pytest.mark.parametrize("strategy", ["mcmc", "adc"])
def test_a_run_with_emulated_kernels_follows_one_with_the_reference(scene, emulated, monkeypatch, strategy: str):
    config = dataclasses.replace(TINY, strategy=strategy)
    losses: dict[str, list[float]] = {"cuda": [], "reference": []}
    for backend in (ON_CPU, reference.BACKEND):
        monkeypatch.setattr(trainer, "choose_backend", lambda cloud, backend=backend: backend)
        own = losses[backend.name]
        result = train(scene, config, progress=lambda progress, own=own: own.append(progress.loss))
        assert result.finished
    assert {"gaussian_backward_adam_sh0", "blend_rgb", "blend_backward_rgb"} <= emulated.ran
    # Rounding grows from step to step, as everywhere in training: the first steps agree to five digits.
    assert losses["cuda"][:20] == pytest.approx(losses["reference"][:20], rel=1e-4)
    assert losses["cuda"] == pytest.approx(losses["reference"], rel=0.02)


def test_full_memory_leaves_a_checkpoint(scene, emulated, tmp_path, monkeypatch):
    honest, calls = cuda._backward_adam, []

    def hungry(*arguments):
        calls.append(None)
        if len(calls) == 6:
            raise torch.cuda.OutOfMemoryError
        return honest(*arguments)

    monkeypatch.setattr(cuda, "_backward_adam", hungry)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (0, 8 << 30))
    with pytest.raises(OutOfMemory, match="--backend cpu"):
        train(scene, TINY, tmp_path / "run")
    assert checkpoint.load(tmp_path / "run" / "checkpoints")["step"] == 5


def test_an_edit_cut_short_is_noticed(scene):
    cloud = initialize(scene, 20, 0.5, 1.0, 0, 0)
    population = edit.populate(cloud, ("count",))
    assert edit.aligned(population)
    population.cloud = cloud.concat([cloud, cloud])
    assert not edit.aligned(population)
