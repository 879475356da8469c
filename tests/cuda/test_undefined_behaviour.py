"""g++'s sanitizer finds nothing undefined in the kernels: no shift, overflow, misaligned or null access.

Of offsets from null it reports those that wrap around; the kernels form no address before they have tested for null.
"""

import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from emulator import Emulator

from splat import gpu
from splat.rendering import cuda
from splat.rendering.cpu import AdamHyper
from splat.rendering.types import ImageGradients, RenderOptions

sys.path.insert(0, str(Path(__file__).parents[1] / "rendering"))

from cases import camera, random_cloud  # noqa: E402

SANITIZED = ("-O1", "-fsanitize=undefined")  # complaints go to stderr, the program goes on
HYPER = AdamHyper(step=1, means=1e-3, log_scales=1e-3, quats=1e-3, logit_opacities=1e-3, sh_dc=1e-3, sh_rest=1e-4)
FLAGS = dict.fromkeys(("binning", "blending", "blending_backward"), SANITIZED)  # those with optional tensors
NULL_OFFSET = (
    '#include "device.h"\nKERNEL(32) offset(float* p, int i, float** out) { if (threadIdx.x == 0) *out = p + i; }\n'
)


def test_the_sanitizer_sees_an_offset_from_null(tmp_path, capfd):
    (tmp_path / "test.cu").write_text(NULL_OFFSET)
    out = torch.zeros(1, dtype=torch.int64)
    Emulator(tmp_path, {"test": SANITIZED}).launch("test", "offset", 1, 32, torch.zeros(0), -7, out)
    assert "runtime error" in capfd.readouterr().err


@pytest.mark.parametrize("everything", [False, True])
@pytest.mark.parametrize("size", [(40, 30), (16, 16)])
def test_rendering_and_a_step(size: tuple[int, int], everything: bool, capfd):
    cloud, view = random_cloud(300, 0, 3).to(dtype=torch.float32), camera(*size)
    options = RenderOptions(depth=everything, normal=everything, square_depth=everything)
    with gpu.use(Emulator(flags=FLAGS)):
        for weights in (False, True):
            rendering, context = cuda.forward(cloud, view, options, weights=weights)
            cuda.backward(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)))
            cuda.backward(context, ImageGradients(alpha=torch.ones_like(rendering.alpha)))
        moments = SimpleNamespace(
            **{kind: {name: torch.zeros_like(getattr(cloud, name)) for name in cuda.FIELDS} for kind in "mv"}
        )
        cuda.backward_adam(context, ImageGradients(rgb=torch.ones_like(rendering.rgb)), moments, HYPER)
        nothing = replace(cloud, means=cloud.means * 0 - 1e3)
        _, empty = cuda.forward(nothing, view, options)
        cuda.backward(empty, ImageGradients(rgb=torch.ones_like(rendering.rgb)))
    assert capfd.readouterr().err == ""
