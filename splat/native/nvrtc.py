"""NVRTC, NVIDIA's run-time compiler: finds the library and compiles the kernels of ``cuda/``, with a cache.

NVRTC comes with CUDA builds of PyTorch, or alone as the package ``nvidia-cuda-nvrtc``. It needs no GPU, no host
compiler and no CUDA toolkit. Compiled kernels are kept under the user's cache folder, by source, architecture and NVRTC
version.
"""

import ctypes
import functools
import hashlib
import os
import sys
import warnings
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from splat.errors import BackendError
from splat.files import packaged_folder

OPTIONS = ("-std=c++17", "--extra-device-vectorization")
INSTALL = "install it with: pip install nvidia-cuda-nvrtc (or go on with --backend cpu)"


@dataclass(frozen=True)
class Compiled:
    """Attributes:
    image: a cubin for the architecture asked for, or PTX where NVRTC does not know it yet.
    log: what the compiler said; registers and spills if ``report`` was asked for.
    """

    image: bytes
    log: str


def folders() -> list[Path]:
    """Where NVRTC may lie: pip's ``nvidia/*/lib`` (Linux) or ``bin`` (Windows), PyTorch, conda, a CUDA toolkit."""
    found = []
    for place in dict.fromkeys(sys.path):
        root = Path(place or ".") / "nvidia"
        if root.is_dir():
            found += sorted(path for pattern in ("*/lib", "*/bin", "*/bin/x86_64") for path in root.glob(pattern))
    pytorch = util.find_spec("torch")
    if pytorch is not None and pytorch.origin is not None:
        found.append(Path(pytorch.origin).parent / "lib")
    return [*found, Path(sys.prefix) / "lib", Path("/usr/local/cuda/lib64")]


@functools.cache
def library() -> ctypes.CDLL:
    """NVRTC, loaded. Raises BackendError when there is none."""
    windows = sys.platform == "win32"
    wanted = "nvrtc64_*.dll" if windows else "libnvrtc*.so.*"
    paths = [path for folder in folders() for path in folder.glob(wanted) if ".alt." not in path.name]
    paths = [path for path in paths if "builtins" not in path.name]
    for path in sorted(paths, key=_preference):
        builtins = path.parent.glob("nvrtc-builtins64_*.dll" if windows else "libnvrtc-builtins.so.*")
        for helper in builtins:  # NVRTC looks for this one by name; once loaded it is found wherever it lies
            _try_open(str(helper))
        opened = _try_open(str(path))
        if opened is not None:
            return opened
    for name in ("libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"):
        opened = _try_open(name)
        if opened is not None:
            return opened
    raise BackendError(f"NVRTC, the compiler of CUDA kernels, is missing; {INSTALL}")


def _preference(path: Path) -> tuple[int, str]:
    """The major version that PyTorch was built with goes first: the driver certainly supports it."""
    import torch

    major = (torch.version.cuda or "").split(".")[0]
    return (0 if major and major in path.name.split(".so.")[-1] else 1, path.name)


def _try_open(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def version() -> str:
    """Version of NVRTC, ``13.0`` for example."""
    major, minor = ctypes.c_int(), ctypes.c_int()
    _call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    return f"{major.value}.{minor.value}"


def architectures() -> list[int]:
    """Compute capabilities that NVRTC makes machine code for, as 10·major + minor, ascending."""
    count = ctypes.c_int()
    _call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
    values = (ctypes.c_int * count.value)()
    _call("nvrtcGetSupportedArchs", values)
    return sorted(values)


def target(capability: int) -> str:
    """Compiler target for a GPU: its machine code, or for a GPU newer than NVRTC, PTX that the driver finishes."""
    known = architectures()
    if capability in known:
        return f"sm_{capability}"
    older = [arch for arch in known if arch < capability]
    if not older:
        oldest = f"{known[0] // 10}.{known[0] % 10}"
        raise BackendError(
            f"this GPU has compute capability {capability // 10}.{capability % 10}, but NVRTC {version()} begins with "
            f"{oldest}; use --backend cpu"
        )
    return f"compute_{older[-1]}"


def compile_file(name: str, capability: int, report: bool = False) -> Compiled:
    """Compile ``cuda/<name>.cu``, without looking into the cache.

    Args:
        capability: of the GPU, 10·major + minor.
        report: have registers, spills and shared memory of each kernel in the log.

    Raises BackendError with the compiler's first error line.
    """
    folder = packaged_folder("cuda")
    path = folder / f"{name}.cu"
    aim = target(capability)
    options = [*OPTIONS, f"--gpu-architecture={aim}", f"--include-path={folder}"]
    if report:
        options.append("--ptxas-options=-v")
    program = ctypes.c_void_p()
    _call("nvrtcCreateProgram", ctypes.byref(program), path.read_bytes(), path.name.encode(), 0, None, None)
    try:
        encoded = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library().nvrtcCompileProgram(program, len(options), encoded)
        log = _fetch(program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
        if status != 0:
            errors = [line for line in log.splitlines() if "error" in line]
            raise BackendError(
                f"NVRTC {version()} cannot compile {path.name} for {aim}: {(errors or [log.strip()])[0]}"
            )
        return Compiled(_fetch(program, "CUBIN" if aim.startswith("sm_") else "PTX"), log)
    finally:
        library().nvrtcDestroyProgram(ctypes.byref(program))


def compiled(name: str, capability: int) -> bytes:
    """The kernels of ``cuda/<name>.cu`` for a GPU: from the cache, or compiled and put there."""
    path = cache_folder() / f"{name}-{_key(name, capability)}.bin"
    if path.is_file():
        return path.read_bytes()
    image = compile_file(name, capability).image
    temporary = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(image)
        os.replace(temporary, path)
    except OSError as error:
        warnings.warn(
            f"kernels are compiled anew in every run: {path.parent} cannot be written ({error})", stacklevel=2
        )
    return image


def cache_folder() -> Path:
    """``splat/kernels`` in the user's cache folder (``XDG_CACHE_HOME``, ``LOCALAPPDATA`` or ``~/.cache``)."""
    root = os.environ.get("XDG_CACHE_HOME") or os.environ.get("LOCALAPPDATA") or Path.home() / ".cache"
    return Path(root) / "splat" / "kernels"


def _key(name: str, capability: int) -> str:
    """Changes whenever anything that shapes the compiled code does: source, headers, options, target, compiler."""
    folder = packaged_folder("cuda")
    digest = hashlib.sha256(f"{version()} {target(capability)} {OPTIONS}".encode())
    for path in [folder / f"{name}.cu", *sorted(folder.glob("*.h")), *sorted(folder.glob("math/*.h"))]:
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:32]


def _call(function: str, *arguments) -> None:
    status = library()[function](*arguments)
    if status != 0:
        raise BackendError(
            f"NVRTC: {function} fails with status {status}; reinstall it: pip install -U nvidia-cuda-nvrtc"
        )


def _fetch(program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    _call(f"nvrtcGet{what}", program, buffer)
    return buffer.raw
