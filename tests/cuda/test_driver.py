"""The calls into NVIDIA's driver, against a stand-in that checks what it is given and runs the emulated kernel."""

import contextlib
import ctypes
import subprocess
import sys
import threading
import warnings
from types import SimpleNamespace

import pytest
import torch
from support.emulator import CUDA, build
from support.patience import bound

from splat.errors import BackendError, OutOfMemory
from splat.native import cuda_driver as splat_driver
from splat.native import cuda_launcher, kernel_cache, nvrtc
from splat.native.cuda_structs import Splats, adam, fill
from splat.ops import adam as adam_kernels

DRIVER = r"""
#include <cstring>
typedef const char* (*Kernel)(unsigned, unsigned, void**);
static Kernel kernel;
static int context, module, function, failure, only_ptx, loads;
static void* current;
extern "C" {
void prepare(Kernel k, int fail) { kernel = k; failure = fail; current = nullptr; only_ptx = loads = 0; }
void take_ptx_only() { only_ptx = 1; }
int count_loads() { return loads; }
int cuDriverGetVersion(int* version) { *version = 13000; return 0; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal + 40; return 0; }
int cuDevicePrimaryCtxRetain(void** c, int device) { *c = &context; return device == 40 ? 0 : 101; }
int cuCtxSetCurrent(void* c) { current = c; return 0; }
int cuModuleLoadData(void** m, const void* image) {
    *m = &module;
    ++loads;
    if (!std::memcmp(image, "\177ELF", 4)) return only_ptx ? 209 : 0;
    return std::strstr((const char*)image, ".version") ? 0 : 200;
}
int cuModuleGetFunction(void** f, void* m, const char* name) {
    *f = &function;
    return m == &module && !std::strcmp(name, "adam_rows") ? 0 : 500;
}
int cuLaunchKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void** extra) {
    if (failure) return failure;
    if (current != &context) return 201;
    if (f != &function || gy != 1 || gz != 1 || by != 1 || bz != 1) return 1;
    if (shared != 0 || stream != (void*)0xabc || extra) return 1;
    return *kernel(gx, bx, arguments) ? 719 : 0;
}
int cuGetErrorString(int status, const char** text) {
    *text = status == 500 ? "named symbol not found" : "error";
    return 0;
}
}
"""

NAMES = ("cuDriverGetVersion", "cuDeviceGet", "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuGetErrorString")


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cpp").write_text(DRIVER)
    command = ["g++", "-shared", "-fPIC", str(folder / "driver.cpp"), "-o", str(folder / "driver.so")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "driver.so"))


@pytest.fixture
def launcher(driver, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel_cache._say_once.cache_clear()
    try:
        nvrtc.compiler(None)
    except BackendError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(splat_driver, "library", lambda: driver)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda index: None)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (9, 0))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda index: SimpleNamespace(cuda_stream=0xABC))
    monkeypatch.setattr(torch.cuda, "device", lambda index: contextlib.nullcontext())
    driver.prepare(build(CUDA / "adam.cu").launch_adam_rows, 0)
    return cuda_launcher.Gpu(0)


def adam_step() -> torch.Tensor:
    tensor, gradient = torch.zeros(10, 3), torch.ones(10, 3)
    moments = (torch.zeros(10, 3), torch.zeros(10, 3))
    adam_kernels.adam_rows(tensor, moments, gradient, adam_kernels.RowRates(3, 0.5, 0.0), adam(1, 0.9, 0.999, 0.0))
    return tensor


def test_a_kernel_is_compiled_loaded_and_launched(launcher):
    with cuda_launcher.use(launcher):
        assert torch.allclose(adam_step(), torch.tensor(-0.5)) and torch.allclose(adam_step(), torch.tensor(-0.5))


@pytest.mark.parametrize(("status", "kind", "words"), [(2, OutOfMemory, "memory is full"), (700, BackendError, "700")])
def test_failures_of_the_driver_are_one_sentence(launcher, driver, status: int, kind: type, words: str):
    driver.prepare(build(CUDA / "adam.cu").launch_adam_rows, status)
    with cuda_launcher.use(launcher), pytest.raises(kind, match=words) as caught:
        adam_step()
    assert "--backend cpu" in str(caught.value)


def test_an_unknown_kernel_is_named(launcher):
    with pytest.raises(BackendError, match="'nothing': named symbol not found"):
        launcher.launch("adam", "nothing", 1, 1)


# ---- images that do not load ----


def run_anew(capability: tuple[int, int] = (9, 0)) -> None:
    """A step in what stands for a new process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "get_device_capability", lambda index: capability)
        with cuda_launcher.use(cuda_launcher.Gpu(0)):
            assert torch.allclose(adam_step(), torch.tensor(-0.5))


def test_a_damaged_file_is_said_once_and_made_anew(launcher):
    run_anew()
    (kept,) = kernel_cache.folder().iterdir()
    whole = kept.read_bytes()
    for damaged in (whole[:-100], whole[:20], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        kept.write_bytes(damaged)
        kernel_cache._say_once.cache_clear()
        with pytest.warns(UserWarning, match="is damaged; it is deleted and made anew") as said:
            run_anew()
        assert len(said) == 1 and kept.read_bytes() == whole


def test_a_file_that_the_driver_refuses_is_said_once_and_made_anew(launcher):
    run_anew()
    (kept,) = kernel_cache.folder().iterdir()
    whole = kept.read_bytes()
    versions = whole.split(b"\n")[0].decode().split(" ", 2)[2]
    kernel_cache.write(kept, versions, b"no kernels")
    with pytest.warns(UserWarning, match=r"does not load \(code 200\); it is deleted and made anew") as said:
        run_anew()
    assert len(said) == 1 and kept.read_bytes() == whole
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run_anew()


def test_full_memory_does_not_delete_what_is_kept(launcher, driver, monkeypatch):
    run_anew()
    stand_in = SimpleNamespace(**{name: getattr(driver, name) for name in NAMES}, cuModuleLoadData=lambda *_: 2)
    monkeypatch.setattr(splat_driver, "library", lambda: stand_in)
    with pytest.raises(OutOfMemory):
        run_anew()
    assert len(list(kernel_cache.folder().iterdir())) == 1


def test_a_gpu_unknown_to_nvrtc_gets_machine_code_of_its_major_version_first(launcher, driver, monkeypatch):
    assert 91 not in nvrtc.architectures()
    of = nvrtc.compiler(None).version[0]
    monkeypatch.setattr(splat_driver, "version", lambda: (of, -1))  # reads no PTX of ours
    run_anew((9, 1))
    assert driver.count_loads() == 1 and [path.name[:4] for path in kernel_cache.folder().iterdir()] == ["adam"]
    driver.take_ptx_only()  # as the GPU of a Jetson would
    with pytest.warns(UserWarning, match="code 209"), pytest.raises(BackendError, match="code 209"):
        run_anew((9, 1))


def test_then_it_gets_ptx(launcher, driver, monkeypatch):
    monkeypatch.setattr(splat_driver, "version", lambda: (99, 0))
    driver.take_ptx_only()
    run_anew((9, 1))
    assert driver.count_loads() == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is kept is fine, if not for this GPU
        run_anew((9, 1))


# ---- compiling ahead ----


def test_what_is_asked_for_in_time_is_compiled_elsewhere(launcher, monkeypatch):
    honest, where = nvrtc.compiled, {}

    def compiled(name, capability, kernel=None, aim=None):
        where[kernel or name] = threading.current_thread()
        return honest(name, capability, kernel, aim)

    monkeypatch.setattr(nvrtc, "compiled", compiled)
    launcher.prepare([("adam", "adam_rows")])
    for thread in threading.enumerate():
        if thread.name == "splat-nvrtc":
            thread.join()
    with cuda_launcher.use(launcher):
        cuda_launcher.prepare(torch.device("cuda"), [("adam", "adam_rows")])  # known already
        assert torch.allclose(adam_step(), torch.tensor(-0.5))
    assert list(where) == ["adam"] and where["adam"] is not threading.current_thread()


def test_an_error_in_the_background_comes_with_the_launch(launcher, monkeypatch):
    def fail(*_):
        raise BackendError("NVRTC cannot compile it")

    monkeypatch.setattr(nvrtc, "compiled", fail)
    launcher.prepare([("adam", "adam_rows")])
    with cuda_launcher.use(launcher), pytest.raises(BackendError, match="cannot compile it"):
        adam_step()


def test_compiling_ahead_does_not_keep_the_process(tmp_path):
    code = """
import time
from splat.native import compile_ahead, nvrtc
nvrtc.unit = lambda file, kernel: kernel
nvrtc.compiled = lambda *_: time.sleep(1)
compile_ahead.usable_cores = lambda: 2
compile_ahead.CompileAhead(90).add([("file", str(number)) for number in range(600)])
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=bound(60))  # the jobs: 600 seconds of one worker


# ---- arguments ----


def test_arguments_lie_where_the_launch_looks():
    tensor = torch.zeros(3, dtype=torch.int16)
    addresses, values = cuda_launcher.pack((None, tensor, -7, 2.5, True, torch.zeros(0), adam(1, 0.9, 0.999, 0.0)))

    def at(index: int, kind: type):
        return kind.from_address(addresses[index]).value

    assert len(addresses) == len(values) == 7 and all(addresses)  # a null pointer is a value with an address, too
    assert at(0, ctypes.c_void_p) is None and at(1, ctypes.c_void_p) == tensor.data_ptr()
    assert at(2, ctypes.c_int) == -7 and at(3, ctypes.c_float) == 2.5 and at(4, ctypes.c_int) == 1
    assert at(5, ctypes.c_void_p) is None and at(6, ctypes.c_float) == pytest.approx(0.9)
    assert list(cuda_launcher.pack(())[0]) == []


@pytest.mark.parametrize("argument", [torch.zeros(4, 4).T, torch.zeros(8)[::2], 2**31, -(2**31) - 1])
def test_arguments_that_a_kernel_would_misread_are_refused(argument):
    with pytest.raises(ValueError, match="a kernel got"):
        cuda_launcher.pack((argument,))


def test_optional_tensors_are_null_in_structures():
    filled = fill(Splats, splats=torch.zeros(1), features=None, normals=None)
    assert filled.splats and filled.features is None and filled.normals is None
