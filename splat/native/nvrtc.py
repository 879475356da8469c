"""NVRTC, NVIDIA's run-time compiler: compiles the kernels of ``cuda/``, with a cache.

It needs no GPU, no host compiler and no CUDA toolkit; `splat.native.nvrtc_library` finds it. Compiled kernels are kept
under the user's cache folder, by source, target and NVRTC version.
"""

import ctypes
import hashlib
from dataclasses import dataclass
from pathlib import Path

from splat.errors import BackendError
from splat.files import packaged_folder
from splat.native import cuda_driver, kernel_cache
from splat.native.nvrtc_library import Compiler, compiler

OPTIONS = ("-std=c++17", "--extra-device-vectorization")


@dataclass(frozen=True)
class Compiled:
    """Attributes:
    image: a cubin for the target asked for, or PTX.
    log: what the compiler said; registers and spills if ``report`` was asked for.
    """

    image: bytes
    log: str


@dataclass(frozen=True)
class Built:
    """Attributes:
    image: what the driver loads.
    kept: the file it was read from; None if it was compiled just now.
    """

    image: bytes
    kept: Path | None


def version() -> str:
    """Version of NVRTC, ``13.0`` for example."""
    return str(compiler(None))


def architectures() -> list[int]:
    """Compute capabilities that NVRTC makes machine code for, as 10·major + minor, ascending."""
    return list(compiler(None).architectures)


def targets(capability: int) -> list[str]:
    """Compiler targets that can run on a GPU, best first: its own machine code; or, for a GPU that NVRTC does not know,
    machine code of the newest earlier GPU of its major version, then PTX that the driver finishes.

    PTX is left out where it is of a later version than the driver reads. Raises BackendError if nothing is left.
    """
    made = compiler(capability)
    return made.targets(capability, cuda_driver.version())


def target(capability: int) -> str:
    """The best of `targets`."""
    return targets(capability)[0]


def unit(name: str, kernel: str | None) -> str | None:
    """``kernel`` where ``cuda/<name>.cu`` lets it be compiled alone, else None: the whole file."""
    alone = kernel is not None and f"WANTED({kernel})" in (packaged_folder("cuda") / f"{name}.cu").read_text()
    return kernel if alone else None


def compile_file(
    name: str, capability: int, report: bool = False, kernel: str | None = None, aim: str | None = None
) -> Compiled:
    """Compile ``cuda/<name>.cu``, without looking into the cache.

    Args:
        capability: of the GPU, 10·major + minor.
        report: have registers, spills and shared memory of each kernel in the log.
        kernel: a `unit`: compile this one alone.
        aim: one of `targets`; None takes the best.

    Raises BackendError with the compiler's first error line.
    """
    made, folder, aim = compiler(capability), packaged_folder("cuda"), aim or target(capability)
    path = folder / f"{name}.cu"
    options = [*_options(kernel), f"--gpu-architecture={aim}", f"--include-path={folder}"]
    if report:
        options.append("--ptxas-options=-v")
    program = ctypes.c_void_p()
    made.call("nvrtcCreateProgram", ctypes.byref(program), path.read_bytes(), path.name.encode(), 0, None, None)
    try:
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = made.library.nvrtcCompileProgram(program, len(options), encoded)
        log = _fetch(made, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if status != 0:
            errors = [line for line in log.splitlines() if "error" in line]
            raise BackendError(f"NVRTC {made} cannot compile {path.name} for {aim}: {(errors or [log.strip()])[0]}")
        return Compiled(_fetch(made, program, "CUBIN" if aim.startswith("sm_") else "PTX"), log)
    finally:
        made.library.nvrtcDestroyProgram(ctypes.byref(program))


def compiled(name: str, capability: int, kernel: str | None = None, aim: str | None = None) -> Built:
    """The kernels of ``cuda/<name>.cu``, or one `unit` of it: from the cache, or compiled and put there.

    Args: as of `compile_file`.
    """
    aim = aim or target(capability)
    path = kernel_cache.folder() / f"{kernel or name}-{_key(name, capability, kernel, aim)}.bin"
    versions = f"NVRTC {compiler(capability)} {aim}"
    image = kernel_cache.read(path, versions)
    if image is not None:
        return Built(image, path)
    image = compile_file(name, capability, kernel=kernel, aim=aim).image
    kernel_cache.write(path, versions, image)
    return Built(image, None)


def _options(kernel: str | None) -> list[str]:
    only = [] if kernel is None else ["--define-macro=SPLAT_ONLY=1", f"--define-macro=SPLAT_ONLY_{kernel}=1"]
    return [*OPTIONS, *only]


def _key(name: str, capability: int, kernel: str | None = None, aim: str | None = None) -> str:
    """Changes whenever anything that shapes the compiled code does: source, headers, options, target, compiler."""
    folder = packaged_folder("cuda")
    text = f"{compiler(capability)} {aim or target(capability)} {_options(kernel)}"
    digest = hashlib.sha256(text.encode())
    for path in [folder / f"{name}.cu", *sorted(folder.glob("*.h")), *sorted(folder.glob("math/*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def _fetch(made: Compiler, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    made.call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    made.call(f"nvrtcGet{what}", program, buffer)
    return buffer.raw
