"""Kernels as NVRTC compiles them: the compiler's report, and the machine code as NVIDIA's nvdisasm writes it out."""

import functools
import importlib.metadata
import shutil
import subprocess
from pathlib import Path

from emulator import BUILT

from splat import nvrtc
from splat.files import write_bytes, write_text

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)


def compiled(file: str, architecture: int) -> tuple[str, Path]:
    """What the compiler says of a file, and the machine code; compiled once per content of the sources."""
    log = BUILT / f"{file}-{architecture}-{nvrtc._key(file, architecture)}.txt"
    code = log.with_suffix(".cubin")
    if not (log.exists() and code.exists()):
        found = nvrtc.compile_file(file, architecture, report=True)
        assert found.image[:4] == b"\x7fELF"
        BUILT.mkdir(parents=True, exist_ok=True)
        write_bytes(code, found.image)
        write_text(log, found.log)
    return log.read_text(), code


@functools.cache
def disassembler() -> str | None:
    """Path of nvdisasm: of the package ``nvidia-cuda-nvdisasm``, or of a CUDA toolkit; None where there is none."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvdisasm") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    return next((str(file.locate()) for file in files if file.stem == "nvdisasm"), None) or shutil.which("nvdisasm")


@functools.cache
def instructions(file: str, architecture: int) -> dict[str, list[str]]:
    """The instructions of each kernel of a file, in order."""
    code = compiled(file, architecture)[1]
    text = subprocess.run([disassembler(), "-c", str(code)], capture_output=True, text=True, check=True).stdout
    found: dict[str, list[str]] = {}
    for section in text.split(".section\t.text.")[1:]:
        name = section.split(",")[0]
        lines = [line.split("*/", 1)[1].strip() for line in section.splitlines() if "/*" in line and ";" in line]
        found[name] = lines
    return found
