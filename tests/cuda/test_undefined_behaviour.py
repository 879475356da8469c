"""What is undefined in C++ is an error in the emulation; pictures and steps without the optional tensors have none."""

from dataclasses import replace

import pytest
import torch
from support.cases import camera, random_cloud
from support.emulator import EmulationError, Emulator

from splat.native import cuda_launcher
from splat.ops.adam import AdamHyper, AdamState
from splat.rendering import cuda
from splat.rendering.types import ImageGradients, RenderOptions

HYPER = AdamHyper(step=1, means=1e-3, log_scales=1e-3, quats=1e-3, logit_opacities=1e-3, sh_dc=1e-3, sh_rest=1e-4)
UNDEFINED = {
    "offset": "KERNEL(32) offset(float* p, int i, float** out) { if (threadIdx.x == 0) *out = p + i; }",
    "shift": "KERNEL(32) shift(float*, int i, int* out) { if (threadIdx.x == 0) *out = 1 << (i * -5); }",
}


@pytest.mark.parametrize("kernel", UNDEFINED)
def test_what_is_undefined_is_an_error_that_names_the_place(kernel: str, tmp_path):
    (tmp_path / "test.cu").write_text(f'#include "device.h"\n{UNDEFINED[kernel]}\n')
    with pytest.raises(EmulationError, match=rf"{kernel}: .*test\.cu"):
        Emulator(tmp_path).launch("test", kernel, 1, 32, None, -7, torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("size", [(40, 30), (16, 16)])
def test_rendering_and_a_step(size: tuple[int, int], everything: bool):
    cloud, view = random_cloud(300, 0, 3).to(dtype=torch.float32), camera(*size)
    options = RenderOptions(depth=everything, normal=everything, square_depth=everything)
    with cuda_launcher.use(Emulator()):
        for weights in (False, True):
            rendering, context = cuda.forward(cloud, view, replace(options, weights=weights))
            cuda.backward(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)))
            cuda.backward(context, ImageGradients(alpha=torch.ones_like(rendering.alpha)))
        moments = AdamState.zeros(cloud)
        cuda.backward_adam(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)), moments, HYPER)
        nothing = replace(cloud, means=cloud.means * 0 - 1e3)
        _, empty = cuda.forward(nothing, view, options)
        cuda.backward(empty, ImageGradients(rgb=torch.ones_like(rendering.rgb)))
