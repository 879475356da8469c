"""Kernels as NVRTC compiles them: the compiler's report, and the machine code as NVIDIA's nvdisasm writes it out."""

import functools
import importlib.metadata
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from splat.files import write_bytes, write_text
from splat.native import nvrtc
from support.emulator import BUILT

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


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has room for (CUDA C++ Programming Guide, "Compute Capabilities").

    Attributes:
        warps, blocks: at most at a time.
        shared: KiB for all blocks; reserved: KiB of them per block for the system.
    """

    warps: int
    blocks: int
    shared: int
    reserved: int = 1

    def resident_warps(self, threads: int, registers: int, shared: int) -> int:
        """Warps at a time of a kernel with ``threads`` and ``shared`` bytes per block, ``registers`` per thread."""
        of_block = -(-threads // 32)
        of_warp = -(-registers * 32 // 256) * 256  # registers are given out by 256, of 65,536
        by_registers = 65536 // of_warp // of_block
        by_shared = (self.shared << 10) // (-(-shared // 256) * 256 + (self.reserved << 10) or 1)
        return of_block * min(self.warps // of_block, self.blocks, by_registers, by_shared)


MULTIPROCESSORS = {
    75: Multiprocessor(32, 16, 64, 0),
    80: Multiprocessor(64, 32, 164),
    86: Multiprocessor(48, 16, 100),
    89: Multiprocessor(48, 24, 100),
    90: Multiprocessor(64, 32, 228),
    100: Multiprocessor(64, 32, 228),
    120: Multiprocessor(48, 24, 100),
}
