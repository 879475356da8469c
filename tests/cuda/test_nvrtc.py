"""Run-time compilation: every kernel for every architecture, the cache, and what is said when something is missing."""

import re
import shutil

import pytest
import torch
from support.emulator import BUILT, CUDA, kernels

from splat.errors import BackendError, OutOfMemory
from splat.files import write_text
from splat.native import cuda_launcher, nvrtc
from splat.rendering import cuda

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
FILES = sorted(path.stem for path in CUDA.glob("*.cu"))
REPORT = re.compile(
    r"Function properties for (\w+)\n[^\n]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r"\n[^\n]*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?"
)
SPILL_LIMIT = 16  # bytes a thread; a word or two to fit one more block is the compiler's own choice
SHARED_LIMIT = 48 << 10  # bytes a block may have without asking for more


@pytest.fixture(scope="module")
def compiler():
    try:
        return nvrtc.library()
    except BackendError as error:
        pytest.skip(str(error))


def compilers_report(file: str, architecture: int) -> str:
    """What the compiler says of a file; asked once per content of the sources."""
    kept = BUILT / f"{file}-{architecture}-{nvrtc._key(file, architecture)}.txt"
    if not kept.exists():
        found = nvrtc.compile_file(file, architecture, report=True)
        assert found.image[:4] == b"\x7fELF"
        BUILT.mkdir(parents=True, exist_ok=True)
        write_text(kept, found.log)
    return kept.read_text()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles(compiler, architecture: int, file: str, record_property):
    if architecture not in nvrtc.architectures():
        pytest.skip(f"NVRTC {nvrtc.version()} does not know sm_{architecture}")
    log = compilers_report(file, architecture)
    assert "warning" not in log, log
    report = {name: tuple(int(n or 0) for n in numbers) for name, *numbers in REPORT.findall(log)}
    assert sorted(report) == sorted(kernels((CUDA / f"{file}.cu").read_text()))
    for name, (stack, stores, loads, registers, shared) in report.items():
        print(f"sm_{architecture} {name}: {registers} registers, {stores + loads} bytes spilled, {shared} bytes shared")
        record_property(name, registers)
        assert stores + loads <= SPILL_LIMIT and stack <= SPILL_LIMIT, name
        assert shared <= SHARED_LIMIT, name


def test_a_gpu_newer_than_the_compiler_gets_ptx(compiler):
    assert nvrtc.target(90) == "sm_90" and nvrtc.target(990) == f"compute_{nvrtc.architectures()[-1]}"
    image = nvrtc.compile_file("adam", 990).image
    assert b".version" in image and b"adam_rows" in image
    with pytest.raises(BackendError, match="--backend cpu"):
        nvrtc.target(30)


def test_cache_is_used_and_follows_the_sources(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shutil.copytree(CUDA, tmp_path / "cuda")
    monkeypatch.setattr(nvrtc, "packaged_folder", lambda name: tmp_path / name)
    first = nvrtc.compiled("adam", 90)
    (kept,) = nvrtc.cache_folder().iterdir()
    assert kept.read_bytes() == first
    monkeypatch.setattr(nvrtc, "compile_file", lambda *_: pytest.fail("compiled although it was in the cache"))
    assert nvrtc.compiled("adam", 90) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nvrtc, "packaged_folder", lambda name: tmp_path / name)
    header = tmp_path / "cuda" / "adam.h"
    header.write_text(header.read_text() + "// changed\n")
    nvrtc.compiled("adam", 90)
    assert len(list(nvrtc.cache_folder().iterdir())) == 2


def test_unwritable_cache_costs_time_only(compiler, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="cannot be written"):
        assert nvrtc.compiled("adam", 90)[:4] == b"\x7fELF"


def test_a_broken_source_is_named(compiler, tmp_path, monkeypatch):
    (tmp_path / "broken.cu").write_text('extern "C" __global__ void k() { nonsense; }\n')
    monkeypatch.setattr(nvrtc, "packaged_folder", lambda _: tmp_path)
    with pytest.raises(BackendError, match=r"broken\.cu.*nonsense"):
        nvrtc.compile_file("broken", 90)


# ---- what is missing, in one sentence each ----


def sentence(text: str | None, *words: str) -> None:
    assert text and "\n" not in text and text.count(". ") == 0, text
    for word in (*words, "--backend cpu"):
        assert word in text, text


def test_pytorch_without_cuda(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", None)
    sentence(cuda.check(), "without CUDA", "pip install torch")


class FakeDriver:
    """A driver that knows its version and shows no GPU."""

    def __init__(self, version: int) -> None:
        self.version = version

    def cuDriverGetVersion(self, pointer) -> int:
        pointer._obj.value = self.version
        return 0


def test_no_driver(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_launcher, "_driver", lambda: None)
    sentence(cuda.check(), "no NVIDIA driver", "https://www.nvidia.com/drivers")


@pytest.mark.parametrize(("version", "words"), [(11040, ("CUDA 11.4", "update the driver")), (13000, ("no GPU",))])
def test_old_driver_and_no_gpu(monkeypatch, version: int, words):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_launcher, "_driver", lambda: FakeDriver(version))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sentence(cuda.check(), *words)


def test_no_nvrtc(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_launcher, "_driver", lambda: FakeDriver(13000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvrtc, "folders", lambda: [])
    monkeypatch.setattr(nvrtc, "_try_open", lambda name: None)
    nvrtc.library.cache_clear()
    try:
        sentence(cuda.check(), "NVRTC", "pip install nvidia-cuda-nvrtc")
    finally:
        nvrtc.library.cache_clear()


def test_full_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 8 << 30))
    with pytest.raises(OutOfMemory) as caught, cuda_launcher.memory_errors():
        raise torch.cuda.OutOfMemoryError
    sentence(str(caught.value), "7.0 of 8.0 GB", "--gaussians")


def test_cloud_beside_the_gpu():
    with pytest.raises(BackendError, match=r"cloud\.to\('cuda'\)"):
        cuda_launcher.launcher(torch.device("cpu"))
