"""Finding the NVRTC that fits the driver and the GPU.

NVRTC comes with CUDA builds of PyTorch, or alone as the package ``nvidia-cuda-nvrtc``; several may be installed. A
driver reads machine code made by any NVRTC of its own CUDA major version or an earlier one, but PTX only of its own
version or an earlier one (CUDA Compatibility guide, "minor version compatibility").
"""

import ctypes
import functools
import re
import sys
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from splat.errors import BackendError
from splat.native import cuda_driver

Version = tuple[int, int]
OF_NO_NAME = (0, 0)  # known once it is loaded
_NUMBERS = re.compile(r"\.so\.(\d+)(?:\.(\d+))?|64_(\d+)(\d)(?:_\d+)?\.dll$")


@dataclass(frozen=True)
class Compiler:
    """An NVRTC that is loaded.

    Attributes:
        architectures: compute capabilities it makes machine code for, as 10·major + minor, ascending.
    """

    library: ctypes.CDLL
    version: Version
    architectures: tuple[int, ...]

    def __str__(self) -> str:
        return text(self.version)

    def call(self, function: str, *arguments) -> None:
        """Call a function of the library. Raises BackendError where it fails."""
        _call(self.library, function, *arguments)

    def targets(self, capability: int, limit: Version | None) -> list[str]:
        """Targets for a GPU, best first, with a driver that supports CUDA ``limit``. Raises BackendError if none."""
        if capability in self.architectures:
            return [f"sm_{capability}"]
        older = [known for known in self.architectures if known < capability]
        if not older:
            raise BackendError(
                f"this GPU has compute capability {_dotted(capability)}, but NVRTC {self} begins with "
                f"{_dotted(self.architectures[0])}; use --backend cpu"
            )
        # Machine code also runs on later GPUs of the same major version.
        found = [f"sm_{older[-1]}"] if older[-1] // 10 == capability // 10 else []
        if limit is None or self.version <= limit:
            found.append(f"compute_{older[-1]}")
        if not found:
            raise BackendError(
                f"this GPU has compute capability {_dotted(capability)}, which NVRTC {self} does not know, and the "
                f"NVIDIA driver supports CUDA {text(limit)} only; update the driver, or use --backend cpu"
            )
        return found


def text(version: Version) -> str:
    """A version as people write it."""
    return f"{version[0]}.{version[1]}"


def install() -> str:
    """What installs an NVRTC that the driver understands, as part of a sentence."""
    limit = cuda_driver.version()
    suffix = f"-cu{limit[0]}" if limit is not None and limit[0] < 13 else ""  # from 13 on, the name has no suffix
    return f"pip install nvidia-cuda-nvrtc{suffix}"


def compiler(capability: int | None) -> Compiler:
    """The newest NVRTC that the driver takes machine code from, preferring one that knows the GPU.

    Args:
        capability: of the GPU; None for any.

    Raises BackendError when there is none, with the line that installs one.
    """
    return _chosen(capability, cuda_driver.version())


@functools.cache
def _chosen(capability: int | None, limit: Version | None) -> Compiler:
    too_new: list[Version] = []
    refusals: list[BackendError] = []
    ranked: list[tuple[int, Compiler]] = []
    for version, name in installed():
        found = None if limit is not None and version[0] > limit[0] else _load(name)
        if found is not None:
            version = found.version
        if limit is not None and version[0] > limit[0]:
            too_new.append(version)
        elif found is not None:
            try:
                ranked.append((_rank(found, capability, limit), found))
            except BackendError as error:
                refusals.append(error)
            if ranked and ranked[-1][0] == 0:
                break
    if ranked:
        return min(ranked, key=lambda pair: pair[0])[1]  # the first of the best, that is the newest
    if refusals:
        raise refusals[0]
    if too_new:
        raise BackendError(
            f"NVRTC {text(too_new[0])} is too new for the NVIDIA driver, which supports CUDA {text(limit)}; install an "
            f"older one beside it: {install()} (or update the driver, or go on with --backend cpu)"
        )
    raise BackendError(
        f"NVRTC, the compiler of CUDA kernels, is missing; install it with: {install()} (or go on with --backend cpu)"
    )


def _rank(found: Compiler, capability: int | None, limit: Version | None) -> int:
    """0 for an NVRTC that knows the GPU, 1 for one with machine code for an earlier one like it, 2 for PTX."""
    if capability is None or capability in found.architectures:
        return 0
    return 1 if found.targets(capability, limit)[0].startswith("sm_") else 2


# ---- where it lies ----


def folders() -> list[Path]:
    """Where NVRTC may lie: pip's ``nvidia/*/lib`` (Linux) or ``bin`` (Windows), PyTorch, conda, a CUDA toolkit."""
    found = []
    for entry in dict.fromkeys(sys.path):
        root = Path(entry or ".") / "nvidia"
        if root.is_dir():
            found += sorted(path for pattern in ("*/lib", "*/bin", "*/bin/x86_64") for path in root.glob(pattern))
    pytorch = util.find_spec("torch")
    if pytorch is not None and pytorch.origin is not None:
        found.append(Path(pytorch.origin).parent / "lib")
    return [*found, Path(sys.prefix) / "lib", Path("/usr/local/cuda/lib64")]


def installed() -> list[tuple[Version, str]]:
    """Every NVRTC found, newest first, with the version its file names tell; last what only the system's loader finds.

    The library's name has the major version; the minor is in the name of the builtins beside it.
    """
    found = []
    for folder in folders():
        for path in [*folder.glob("libnvrtc*.so.*"), *folder.glob("nvrtc64_*.dll")]:
            version = _named(path.name)
            if version is None or ".alt." in path.name or "builtins" in path.name:
                continue
            others = [_named(other.name) for other in _builtins(path)]
            same = [other for other in others if other is not None and other[0] == version[0]]
            found.append((max(same, default=version), str(path)))
    found.sort(key=lambda pair: pair[0], reverse=True)  # stable: of equal ones the folder's order decides
    return [*found, *((OF_NO_NAME, name) for name in ("libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"))]


def _named(name: str) -> Version | None:
    numbers = _NUMBERS.search(name)
    return None if numbers is None else (int(numbers[1] or numbers[3]), int(numbers[2] or numbers[4] or 0))


def _builtins(path: Path) -> list[Path]:
    return [*path.parent.glob("libnvrtc-builtins*.so.*"), *path.parent.glob("nvrtc-builtins64_*.dll")]


@functools.cache
def _load(name: str) -> Compiler | None:
    """The NVRTC at a path, or of a name the system's loader knows; None where it does not load."""
    path = Path(name)
    for helper in _builtins(path) if path.is_absolute() else []:
        _try_open(str(helper))  # NVRTC looks for this one by name; once loaded it is found wherever it lies
    library = _try_open(name)
    if library is None:
        return None
    major, minor, count = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    _call(library, "nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
    _call(library, "nvrtcGetNumSupportedArchs", ctypes.byref(count))
    values = (ctypes.c_int * count.value)()
    _call(library, "nvrtcGetSupportedArchs", values)
    return Compiler(library, (major.value, minor.value), tuple(sorted(values)))


def _try_open(name: str) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def _call(library: ctypes.CDLL, function: str, *arguments) -> None:
    status = library[function](*arguments)
    if status != 0:
        raise BackendError(f"NVRTC: {function} fails with status {status}; reinstall it: {install()} -U")


def _dotted(capability: int) -> str:
    return f"{capability // 10}.{capability % 10}"
