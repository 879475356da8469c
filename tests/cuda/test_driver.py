"""The calls into NVIDIA's driver, against a stand-in that checks what it is given and runs the emulated kernel."""

import contextlib
import ctypes
import subprocess
from types import SimpleNamespace

import pytest
import torch
from support.emulator import CUDA, build

from splat.errors import BackendError, OutOfMemory
from splat.native import cuda_launcher, nvrtc
from splat.native.cuda_structs import adam
from splat.ops import adam as adam_kernels

DRIVER = r"""
#include <cstring>
typedef const char* (*Kernel)(unsigned, unsigned, void**);
static Kernel kernel;
static int context, module, function, failure;
static void* current;
extern "C" {
void prepare(Kernel k, int fail) { kernel = k; failure = fail; current = nullptr; }
int cuDeviceGet(int* device, int ordinal) { *device = ordinal + 40; return 0; }
int cuDevicePrimaryCtxRetain(void** c, int device) { *c = &context; return device == 40 ? 0 : 101; }
int cuCtxSetCurrent(void* c) { current = c; return 0; }
int cuModuleLoadData(void** m, const void* image) { *m = &module; return std::memcmp(image, "\177ELF", 4) ? 200 : 0; }
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


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    folder = tmp_path_factory.mktemp("driver")
    (folder / "driver.cpp").write_text(DRIVER)
    command = ["g++", "-shared", "-fPIC", str(folder / "driver.cpp"), "-o", str(folder / "driver.so")]
    subprocess.run(command, check=True)
    return ctypes.CDLL(str(folder / "driver.so"))


@pytest.fixture
def launcher(driver, monkeypatch):
    try:
        nvrtc.library()
    except BackendError as error:
        pytest.skip(str(error))
    monkeypatch.setattr(cuda_launcher, "_driver", lambda: driver)
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
