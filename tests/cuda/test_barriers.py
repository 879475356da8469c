"""Every barrier of the blending kernels is needed, and the emulation notices when one is missing."""

import ctypes
import re
import shutil
from pathlib import Path

import pytest
import torch
from support.cases import case
from support.emulator import CUDA, EmulationError, Emulator, build

from splat.native import cuda_launcher
from splat.rendering import cuda
from splat.rendering.types import ImageGradients

BARRIER = re.compile(r"__sync(threads|warp)\(\);")
FILES = ("blending", "blending_backward")
BARRIERS = [
    (file, number) for file in FILES for number, _ in enumerate(BARRIER.finditer((CUDA / f"{file}.cu").read_text()))
]


@pytest.fixture(scope="module")
def switchable(tmp_path_factory) -> Path:
    """The kernels, with a variable that names the barrier to leave out: compiled once for all of them."""
    folder = tmp_path_factory.mktemp("barriers") / "cuda"
    shutil.copytree(CUDA, folder)
    for file in FILES:
        numbers = iter(range(100))
        path = folder / f"{file}.cu"
        text = BARRIER.sub(lambda found, n=numbers: f"if (skipped != {next(n)}) {found[0]}", path.read_text())
        path.write_text(f'extern "C" int skipped;\nint skipped = -1;\n{text}')
    return folder


@pytest.mark.parametrize(("file", "number"), [("blending", -1), *BARRIERS])
def test_a_missing_barrier_is_noticed(file: str, number: int, switchable: Path):
    skipped = ctypes.c_int.in_dll(build(switchable / f"{file}.cu"), "skipped")
    this = case("opaque")

    def draw() -> None:
        rendering, context = cuda.forward(this.cloud.to(dtype=torch.float32), this.camera, this.options)
        cuda.backward(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)))

    skipped.value = number
    try:
        with cuda_launcher.use(Emulator(switchable)):
            if number < 0:
                draw()  # with all of them, nothing is wrong
            else:
                with pytest.raises(EmulationError, match="shared"):
                    draw()
    finally:
        skipped.value = -1
