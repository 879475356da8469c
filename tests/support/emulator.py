"""Builds the kernels of ``cuda/`` with g++ for the emulation in ``cuda/emulation`` and launches them on CPU tensors."""

import ctypes
import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch

from splat.files import packaged_folder
from splat.native import cuda_launcher

CUDA = packaged_folder("cuda")
BUILT = Path(__file__).parents[2] / ".pytest_cache" / "emulation"
FLAGS = ("-std=c++20", "-O2", "-fPIC", "-ffp-contract=off", "-w")
# The kernels' launchers, each with the values' addresses as cuLaunchKernel takes them.
GLUE = 'extern "C" const char* launch_{name}(unsigned blocks, unsigned threads, void** arguments) {{\n'
GLUE += "    return emulation::launch({name}, blocks, threads, arguments);\n}}\n"
PLAN = 'extern "C" void set_plan(unsigned long long seed, const unsigned* blocks, unsigned count) {\n'
PLAN += "    emulation::plan = {seed, blocks, count};\n}\n"


@dataclass(frozen=True)
class Compiler:
    """How the emulated kernels are built."""

    command: str
    flags: tuple[str, ...]


PLAIN = Compiler("g++", (*FLAGS, "-fno-gnu-unique"))  # else two libraries in a process would share their emulation
_UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")


def sanitizing() -> Compiler:
    """A compiler that checks for undefined behaviour: clang where there is one, as only it sees null + offset."""
    names = ("clang++", *(f"clang++-{n}" for n in range(30, 12, -1)))
    clang = next((name for name in names if shutil.which(name)), None)
    if clang is None:
        return Compiler("g++", (*PLAIN.flags, *_UNDEFINED))
    return Compiler(clang, (*FLAGS, *_UNDEFINED, "-fsanitize=float-cast-overflow", "-fno-sanitize=function,vptr"))


CHECKED = sanitizing()


def kernels(source: str) -> list[str]:
    """Names of the kernels in CUDA source text, those behind macros (``PROJECTION(3)``) included."""
    names = re.findall(r"^KERNEL\([\w:]+\) (\w+)\(", source, re.MULTILINE)
    for macro, parameter, body in re.findall(r"#define (\w+)\((\w+)[^)]*\)((?:[^\n]*\\\n)+)", source):
        patterns = re.findall(r"KERNEL\([\w:]+\) ([\w#]+)\(", body)
        for value in re.findall(rf"^{macro}\((\w+)", source, re.MULTILINE):
            names += [re.sub(rf"(##)?\b{parameter}\b", value, pattern) for pattern in patterns]
    return names


@functools.cache
def build(path: Path, compiler: Compiler = CHECKED) -> ctypes.CDLL:
    """The file's kernels as a shared library; built once per content of the sources."""
    text = path.read_text()
    folder = path.parent if (path.parent / "device.h").exists() else CUDA
    glue = "".join(GLUE.format(name=name) for name in kernels(text)) + PLAN
    source = f'#include "device.h"\n#line 1 "{path.name}"\n{text}\nusing namespace splat;\n{glue}'
    headers = [p for pattern in ("*.h", "*/*.h") for p in sorted(folder.glob(pattern))]
    parts = [source, compiler.command, *compiler.flags, *(p.read_text() for p in headers)]
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    library = BUILT / f"{path.stem}-{digest[:24]}.so"
    if not library.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as temporary:
            glued, compiled, built = (Path(temporary) / f"{path.stem}{end}" for end in (".cpp", ".o", ".so"))
            glued.write_text(source)
            command = [compiler.command, *compiler.flags, f"-I{folder}", "-c", str(glued), "-o", str(compiled)]
            subprocess.run(command, check=True)
            # Linked without a sanitizer's runtime: the handlers are in cuda/emulation/undefined.h.
            subprocess.run(["g++", "-shared", str(compiled), "-o", str(built)], check=True)
            os.replace(built, library)  # at once, as several test processes may build it
    return ctypes.CDLL(str(library))


class EmulationError(AssertionError):
    """A kernel did something that would go wrong on a GPU; the message says what and where."""


class Emulator:
    """A `splat.native.cuda_launcher.Launcher`. Remembers which kernels ran.

    Attributes:
        seed: of the order in which blocks, warps and lanes run; 0 runs them by number.
        compilers: by the name of a kernel file, for those that another one than ``compiler`` builds.
    """

    def __init__(
        self,
        folder: Path = CUDA,
        compiler: Compiler = CHECKED,
        seed: int = 0,
        compilers: dict[str, Compiler] | None = None,
    ) -> None:
        self.folder, self.compiler, self.seed, self.compilers = folder, compiler, seed, compilers or {}
        self.ran: set[str] = set()

    def blocks(self, kernel: str, count: int) -> list[int] | None:
        """Which of ``count`` blocks of a launch run; None for all."""
        return None

    def launch(self, file: str, kernel: str, blocks: int, threads: int, *arguments: cuda_launcher.Argument) -> None:
        if blocks == 0:
            return
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                assert argument.is_contiguous() and argument.device.type == "cpu"
        library = build(self.folder / f"{file}.cu", self.compilers.get(file, self.compiler))
        chosen = self.blocks(kernel, blocks)
        numbers = None if chosen is None else (ctypes.c_uint * len(chosen))(*chosen)
        library.set_plan(ctypes.c_uint64(self.seed), numbers, 0 if chosen is None else len(chosen))
        function = library[f"launch_{kernel}"]
        function.restype = ctypes.c_char_p
        addresses, _alive = cuda_launcher.pack(arguments)
        problem = function(blocks, threads, addresses)
        if problem:
            raise EmulationError(f"{kernel}: {problem.decode()}")
        self.ran.add(kernel)
