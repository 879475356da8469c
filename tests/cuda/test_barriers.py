"""Every barrier of the blending kernels is needed, and the emulation notices when one is missing."""

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from emulator import CUDA, EmulationError, Emulator

from splat import gpu
from splat.rendering import cuda
from splat.rendering.types import ImageGradients

sys.path.insert(0, str(Path(__file__).parents[1] / "rendering"))

from cases import case  # noqa: E402

BARRIER = re.compile(r"__sync(threads|warp)\(\);")
BARRIERS = [
    (file, number)
    for file in ("blending", "blending_backward")
    for number, _ in enumerate(BARRIER.finditer((CUDA / f"{file}.cu").read_text()))
]


@pytest.mark.parametrize(("file", "number"), BARRIERS)
def test_a_missing_barrier_is_noticed(file: str, number: int, tmp_path):
    folder = tmp_path / "cuda"
    shutil.copytree(CUDA, folder)
    path = folder / f"{file}.cu"
    text = path.read_text()
    barrier = list(BARRIER.finditer(text))[number]
    path.write_text(text[: barrier.start()] + text[barrier.end() :])
    this = case("opaque")
    with gpu.use(Emulator(folder)), pytest.raises(EmulationError, match="shared"):
        rendering, context = cuda.forward(this.cloud.to(dtype=torch.float32), this.camera, this.options)
        cuda.backward(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)))
