"""Run-time compilation: every kernel for every architecture, the cache, and what is said when something is missing."""

import os
import re
import shutil
import warnings

import pytest
import torch
from support.emulator import CUDA, kernels
from support.machine_code import ARCHITECTURES, MULTIPROCESSORS, compiled

from splat.errors import BackendError, OutOfMemory
from splat.native import cuda_driver, cuda_launcher, kernel_cache, nvrtc, nvrtc_library
from splat.rendering import cuda

FILES = sorted(path.stem for path in CUDA.glob("*.cu"))
REPORT = re.compile(
    r"Function properties for (\w+)\n[^\n]*?(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads"
    r"\n[^\n]*?Used (\d+) registers(?:[^\n]*?(\d+) bytes smem)?"
)
SPILL_LIMIT = 0  # bytes a thread
SHARED_LIMIT = 48 << 10  # bytes a block may have without asking for more
# Least warps at a time on a multiprocessor, which holds 32 on sm_75 and 48 to 64 on the others: on sm_75; on sm_80, 86,
# 89 and 90; on sm_100 and 120.
LEAST_WARPS = {
    r"project_sh\d": (28, 28, 28),
    r"gather_reaching|tiles_in_order|find_ranges_\w+|count_chunks": (32, 48, 48),
    r"emit_\w+": (32, 40, 40),
    r"blend_rgb": (32, 48, 40),
    r"blend_(all|square)": (24, 40, 32),
    r"blend_backward_rgb": (32, 48, 48),
    r"blend_backward_(all|square)": (32, 40, 40),
    r"gaussian_backward_(adam_)?sh[0-3]|gaussian_backward_sh4": (16, 16, 16),
    r"gaussian_backward_adam_sh4": (12, 12, 12),
    r"compare_images": (32, 48, 40),
    r"compare_images_backward|adam_rows|mcmc_noise": (32, 48, 48),
    r"mcmc_relocate": (32, 40, 40),
}


def least_warps(kernel: str, architecture: int) -> int:
    """The entry of `LEAST_WARPS` for a kernel."""
    (row,) = (warps for names, warps in LEAST_WARPS.items() if re.fullmatch(names, kernel))
    return row[0 if architecture < 80 else 1 if architecture < 100 else 2]


@pytest.fixture(scope="module")
def compiler():
    try:
        return nvrtc.compiler(None)
    except BackendError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_kernel_compiles(compiler, architecture: int, file: str, record_property):
    if architecture not in nvrtc.architectures():
        pytest.skip(f"NVRTC {nvrtc.version()} does not know sm_{architecture}")
    log = compiled(file, architecture)[0]
    assert "warning" not in log, log
    report = {name: tuple(int(n or 0) for n in numbers) for name, *numbers in REPORT.findall(log)}
    source = (CUDA / f"{file}.cu").read_text()
    assert sorted(report) == sorted(kernels(source))
    threads = re.findall(r"KERNEL\(([\w:]+)\)", source)
    assert len(set(threads)) == 1  # of all kernels in a file
    threads = {"splat::TILE_PIXELS": 256, "splat::THREADS": 128}.get(threads[0]) or int(threads[0])
    for name, (stack, stores, loads, registers, shared) in report.items():
        print(f"sm_{architecture} {name}: {registers} registers, {stores + loads} bytes spilled, {shared} bytes shared")
        record_property(name, registers)
        assert stores + loads <= SPILL_LIMIT and stack <= SPILL_LIMIT, name
        assert shared <= SHARED_LIMIT, name
        warps = MULTIPROCESSORS[architecture].resident_warps(threads, registers, shared)
        assert warps >= least_warps(name, architecture), f"{name}: {registers} registers, {shared} bytes shared"


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
    (kept,) = kernel_cache.folder().iterdir()
    assert first.kept is None and kept.read_bytes().endswith(b"\n" + first.image)
    monkeypatch.setattr(nvrtc, "compile_file", lambda *_, **__: pytest.fail("compiled although it was in the cache"))
    assert nvrtc.compiled("adam", 90) == nvrtc.Built(first.image, kept)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(nvrtc, "packaged_folder", lambda name: tmp_path / name)
    header = tmp_path / "cuda" / "adam.h"
    header.write_text(header.read_text() + "// changed\n")
    nvrtc.compiled("adam", 90)
    assert len(list(kernel_cache.folder().iterdir())) == 2


def test_two_that_compile_the_same_do_not_meet(compiler, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    honest = os.replace

    def replace(source, target) -> None:
        """The other one, with the same process id as in another container, comes between writing and renaming."""
        monkeypatch.setattr(os, "replace", honest)
        other.append(nvrtc.compiled("adam", 90))
        honest(source, target)

    other = []
    monkeypatch.setattr(os, "replace", replace)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        first = nvrtc.compiled("adam", 90)
    assert other == [first]
    (kept,) = kernel_cache.folder().iterdir()
    assert nvrtc.compiled("adam", 90) == nvrtc.Built(first.image, kept)


UNITS = [(file, name) for file in FILES for name in kernels((CUDA / f"{file}.cu").read_text())]
ALONE = ("project_sh", "gaussian_backward_", "blend_")


@pytest.mark.parametrize("file", FILES)
def test_kernels_that_can_be_compiled_alone_are(compiler, file: str):
    for name in [name for of, name in UNITS if of == file]:
        assert (nvrtc.unit(file, name) == name) == name.startswith(ALONE)
    alone = [name for of, name in UNITS if of == file and name.startswith(ALONE)][:2]
    for name in alone:
        log = nvrtc.compile_file(file, 90, report=True, kernel=name).log
        assert [found[0] for found in REPORT.findall(log)] == [name]
    assert len({nvrtc._key(file, 90, name) for name in [None, *alone]}) == 1 + len(alone)


@pytest.mark.parametrize("features", [3, 7, 8])
@pytest.mark.parametrize("training", [False, True])
def test_what_is_compiled_ahead_exists_and_covers_a_step(features: int, training: bool):
    soon = cuda._soon(1, 3, features, training)
    assert set(soon) <= set(UNITS) and len(set(soon)) == len(soon)
    kind = {3: "rgb", 7: "all", 8: "square"}[features]
    names = [name for _, name in soon]
    assert names[:3] == ["project_sh1", "count_chunks", f"blend_{kind}"]
    later = ["gaussian_backward_adam_sh1", f"blend_backward_{kind}", "compare_images", "gaussian_backward_adam_sh3"]
    assert [name in names for name in later] == [training] * 4


def test_unwritable_cache_costs_time_only(compiler, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    kernel_cache._say_once.cache_clear()
    with pytest.warns(UserWarning, match="cannot be written"):
        assert nvrtc.compiled("adam", 90).image[:4] == b"\x7fELF"


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
    monkeypatch.setattr(cuda_driver, "library", lambda: None)
    sentence(cuda.check(), "no NVIDIA driver", "https://www.nvidia.com/drivers")


@pytest.mark.parametrize(("version", "words"), [(11040, ("CUDA 11.4", "update the driver")), (13000, ("no GPU",))])
def test_old_driver_and_no_gpu(monkeypatch, version: int, words):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_driver, "library", lambda: FakeDriver(version))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    sentence(cuda.check(), *words)


def clear() -> None:
    nvrtc_library._chosen.cache_clear()
    nvrtc_library._load.cache_clear()


def test_no_nvrtc(monkeypatch):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda_driver, "library", lambda: FakeDriver(13000))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(nvrtc_library, "folders", lambda: [])
    monkeypatch.setattr(nvrtc_library, "_try_open", lambda name: None)
    clear()
    try:
        sentence(cuda.check(), "NVRTC", "pip install nvidia-cuda-nvrtc")
    finally:
        clear()


def test_full_memory(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (1 << 30, 8 << 30))
    with pytest.raises(OutOfMemory) as caught, cuda_launcher.memory_errors():
        raise torch.cuda.OutOfMemoryError
    sentence(str(caught.value), "7.0 of 8.0 GB", "--gaussians")


def test_cloud_beside_the_gpu():
    with pytest.raises(BackendError, match=r"cloud\.to\('cuda'\)"):
        cuda_launcher.launcher(torch.device("cpu"))
