"""NVIDIA's driver: its library, the CUDA version it supports, and its refusals in one sentence."""

import ctypes
import functools
import sys

from splat.errors import BackendError, OutOfMemory

OUT_OF_MEMORY = 2
# What loading a module answers where its image does not fit the GPU or the driver, or is damaged: invalid image, no
# binary for the GPU, invalid PTX, no PTX compiler, PTX of a later version, PTX compiler switched off, invalid source.
REFUSED_IMAGE = (200, 209, 218, 221, 222, 223, 300)


@functools.cache
def library() -> ctypes.CDLL | None:
    """``libcuda``, None where no driver is installed."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def version() -> tuple[int, int] | None:
    """The newest CUDA version that the driver supports, (12, 4) for example; None without a driver."""
    driver, number = library(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None
    return number.value // 1000, number.value % 1000 // 10


def check(status: int, what: str) -> None:
    """Raise BackendError with the driver's own words for an error code."""
    if status == 0:
        return
    text = ctypes.c_char_p()
    library().cuGetErrorString(status, ctypes.byref(text))
    words = (text.value or b"unknown error").decode()
    if status == OUT_OF_MEMORY:
        raise OutOfMemory(f"the GPU's memory is full ({what}); lower --gaussians or use --backend cpu")
    raise BackendError(
        f"the NVIDIA driver refuses '{what}': {words} (code {status}); update the driver or use --backend cpu"
    )
