"""What the command line says when the GPU cannot be used, or its memory runs out: one sentence, exit code 2."""

import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.emulator import Emulator
from support.tiny import write_scene

from splat.cli import main
from splat.errors import BackendError, OutOfMemory
from splat.native import cuda_driver, cuda_launcher, nvrtc
from splat.native.nvrtc_library import install
from splat.rendering import backends, cuda
from splat.runs import train as training_run
from splat.training import checkpoint, trainer


class OldDriver:
    """A driver that knows its version and shows no GPU."""

    def cuDriverGetVersion(self, pointer) -> int:
        pointer._obj.value = 11040
        return 0


def no_nvrtc(capability: int | None) -> None:
    raise BackendError(f"NVRTC, the compiler of CUDA kernels, is missing; {install()} (or --backend cpu)")


# For each failure: driver, whether PyTorch sees a GPU, NVRTC, and words of the sentence.
FAILURES = {
    "no_driver": (None, False, None, ("no NVIDIA driver", "https://www.nvidia.com/drivers")),
    "old_driver": (OldDriver(), False, None, ("CUDA 11.4", "13.0", "update the driver")),
    "no_nvrtc": (OldDriver(), True, no_nvrtc, ("NVRTC", "pip install nvidia-cuda-nvrtc")),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("failures") / "scene"
    write_scene(folder)
    return folder


@pytest.fixture
def failing(request, monkeypatch):
    installed, available, compiler, words = FAILURES[request.param]
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_driver, "library", lambda: installed)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card")
    if compiler is not None:
        monkeypatch.setattr(nvrtc, "compiler", compiler)
    backends.check_backend.cache_clear()
    yield words
    backends.check_backend.cache_clear()


def refusal(capsys) -> str:
    """What went to stderr, which must be one sentence of one line."""
    text = capsys.readouterr().err.strip()
    assert text.startswith("splat: ") and "\n" not in text and ". " not in text and "Traceback" not in text, text
    assert "--backend cpu" in text
    return text


@pytest.mark.parametrize("failing", FAILURES, indirect=True)
def test_train_says_what_is_missing(failing, scene: Path, tmp_path: Path, capsys):
    assert main(["train", str(scene), "--out", str(tmp_path / "run"), "--backend", "cuda"]) == 2
    text = refusal(capsys)
    assert all(word in text for word in failing)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("failing", ["old_driver", "no_nvrtc"], indirect=True)
def test_auto_trains_on_the_processor_and_says_why(failing, scene: Path, tmp_path: Path, capsys):
    size = ["--steps", "3", "--gaussians", "50"]
    assert main(["train", str(scene), "--out", str(tmp_path / "run"), *size]) == 0
    notes = [line for line in capsys.readouterr().err.splitlines() if "training on the processor" in line]
    assert len(notes) == 1 and all(word in notes[0] for word in failing)


# ---- memory ----

ON_CPU = replace(cuda.BACKEND, device=torch.device("cpu"))


@pytest.fixture
def emulated(monkeypatch):
    """The CUDA backend, with its clouds in main memory and its kernels emulated."""
    monkeypatch.setattr(trainer, "get_backend", lambda name: ON_CPU)
    monkeypatch.setattr(backends, "check_backend", lambda name: None)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 8 << 30))
    with cuda_launcher.use(Emulator()):
        yield


def full(call: int, honest):
    """``honest``, but the ``call``-th time the memory is full."""
    calls = []

    def hungry(*arguments, **named):
        calls.append(None)
        if len(calls) == call:
            raise torch.cuda.OutOfMemoryError
        return honest(*arguments, **named)

    return hungry


def train(scene: Path, out: Path, *more: str) -> int:
    size = ["--steps", "8", "--gaussians", "50", "--sh-degree", "0"]
    return main(["train", str(scene), "--out", str(out), "--backend", "cuda", *size, *more])


@pytest.mark.parametrize("place", ["_forward", "_backward_adam"])
def test_full_memory_in_a_step_saves_a_checkpoint_and_says_where(
    emulated, scene: Path, tmp_path: Path, capsys, monkeypatch, place: str
):
    out = tmp_path / "run"
    monkeypatch.setattr(cuda, place, full(4, getattr(cuda, place)))
    assert train(scene, out) == 2
    text = refusal(capsys)
    assert "7.0 of 8.0 GB" in text and "--gaussians" in text
    step = checkpoint.load(out / "checkpoints")["step"]
    assert step >= 2 and f"step_{step:08d}.safetensors" in text
    # The run goes on from there, as told: on the processor.
    monkeypatch.undo()
    settings = ["--steps", "8", "--gaussians", "50", "--sh-degree", "0", "--backend", "cpu", "--resume"]
    assert main(["train", str(scene), "--out", str(out), *settings]) == 0
    assert (out / "metrics.json").exists()


def test_full_memory_while_looking_at_held_out_photos_saves_a_checkpoint(
    emulated, scene: Path, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr(training_run, "_look", full(1, training_run._look))
    assert train(scene, tmp_path / "run", "--eval-every", "0.5") == 2
    assert "step_00000004.safetensors" in refusal(capsys)


def test_full_memory_at_the_start_is_one_sentence(emulated, scene: Path, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(trainer, "populate", full(1, trainer.populate))
    assert train(scene, tmp_path / "run") == 2
    refusal(capsys)
    assert not (tmp_path / "run").exists()


def test_what_the_failed_step_held_is_freed_before_the_checkpoint(emulated, scene: Path, tmp_path: Path, monkeypatch):
    held, honest = [], training_run._save

    class Big:
        pass

    def hungry(*arguments):
        big = Big()
        held.append(weakref.ref(big))
        raise torch.cuda.OutOfMemoryError

    def save(*arguments):
        assert held[0]() is None
        return honest(*arguments)

    monkeypatch.setattr(cuda, "_backward_adam", hungry)
    monkeypatch.setattr(training_run, "_save", save)
    assert train(scene, tmp_path / "run") == 2


def test_the_drivers_own_full_memory_is_the_same_error():
    class Driver:
        def cuGetErrorString(self, status, text) -> int:
            return 0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cuda_driver, "library", Driver)
        with pytest.raises(OutOfMemory, match="--backend cpu"):
            cuda_driver.check(2, "blend_rgb")
