"""Builds the kernels of ``cuda/`` with g++ for the emulation in ``cuda/emulation`` and launches them on CPU tensors."""

import ctypes
import functools
import hashlib
import os
import re
import subprocess
import tempfile
from pathlib import Path

import torch

from splat.files import packaged_folder
from splat.native import cuda_launcher

CUDA = packaged_folder("cuda")
BUILT = Path(__file__).parents[2] / ".pytest_cache" / "emulation"
FLAGS = ["-std=c++20", "-O2", "-fPIC", "-shared", "-ffp-contract=off", "-w"]
# The kernels' launchers, each with the values' addresses as cuLaunchKernel takes them.
GLUE = 'extern "C" const char* launch_{name}(unsigned blocks, unsigned threads, void** arguments) {{\n'
GLUE += "    return emulation::launch({name}, {{blocks, 1, 1}}, {{threads, 1, 1}}, arguments);\n}}\n"


def kernels(source: str) -> list[str]:
    """Names of the kernels in CUDA source text, those behind macros (``PROJECTION(3)``) included."""
    names = re.findall(r"^KERNEL\([\w:]+\) (\w+)\(", source, re.MULTILINE)
    for macro, parameter, body in re.findall(r"#define (\w+)\((\w+)[^)]*\)((?:[^\n]*\\\n)+)", source):
        patterns = re.findall(r"KERNEL\([\w:]+\) ([\w#]+)\(", body)
        for value in re.findall(rf"^{macro}\((\w+)", source, re.MULTILINE):
            names += [re.sub(rf"(##)?\b{parameter}\b", value, pattern) for pattern in patterns]
    return names


@functools.cache
def build(path: Path) -> ctypes.CDLL:
    """The file's kernels as a shared library; built once per content of the sources."""
    text = path.read_text()
    glue = "".join(GLUE.format(name=name) for name in kernels(text))
    source = f'#include "device.h"\n#line 1 "{path.name}"\n{text}\nusing namespace splat;\n{glue}'
    headers = [p for pattern in ("*.h", "*/*.h") for p in sorted(CUDA.glob(pattern))]
    digest = hashlib.sha256("".join([source, *FLAGS, *(p.read_text() for p in headers)]).encode()).hexdigest()
    library = BUILT / f"{path.stem}-{digest[:24]}.so"
    if not library.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=BUILT) as folder:
            glued, built = Path(folder) / f"{path.stem}.cpp", Path(folder) / "built.so"
            glued.write_text(source)
            subprocess.run(["g++", *FLAGS, f"-I{CUDA}", str(glued), "-o", str(built)], check=True)
            os.replace(built, library)  # at once, as several test processes may build it
    return ctypes.CDLL(str(library))


class EmulationError(AssertionError):
    """A kernel did something that would go wrong on a GPU; the message says what and where."""


class Emulator:
    """A `splat.native.cuda_launcher.Launcher`. Remembers which kernels ran."""

    def __init__(self, folder: Path = CUDA) -> None:
        self.folder = folder
        self.ran: set[str] = set()

    def launch(self, file: str, kernel: str, blocks: int, threads: int, *arguments: cuda_launcher.Argument) -> None:
        if blocks == 0:
            return
        for argument in arguments:
            if isinstance(argument, torch.Tensor):
                assert argument.is_contiguous() and argument.device.type == "cpu"
        function = build(self.folder / f"{file}.cu")[f"launch_{kernel}"]
        function.restype = ctypes.c_char_p
        addresses, _alive = cuda_launcher.pack(arguments)
        problem = function(blocks, threads, addresses)
        if problem:
            raise EmulationError(f"{kernel}: {problem.decode()}")
        self.ran.add(kernel)
