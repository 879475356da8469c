"""A machine with a GPU and gsplat where there is neither: emulated kernels, stand-ins for PyTorch's CUDA calls.

For tests, and for the rehearsal of ``tools/gpu_check.sh``. Clouds stay in main memory.
"""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from unittest import mock

import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.native import cuda_launcher, cuda_sort
from splat.rendering import RenderOptions, backends, render
from splat.sh import C0
from support.emulator import Emulator


class Event:
    """A CUDA event with the processor's clock."""

    def __init__(self, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: "Event") -> float:
        return 1e3 * (end.at - self.at)


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane=0.01, eps2d=0.3, packed=True,
    rasterize_mode="classic", sh_degree=None, backgrounds=None, render_mode="RGB", absgrad=False,
):  # fmt: skip
    """gsplat 1.5.3's signature and shapes, as far as they are used; draws with the reference renderer."""
    assert packed is False and viewmats.shape == (1, 4, 4) and Ks.shape == (1, 3, 3)
    (fx, _, cx), (_, fy, cy), _ = Ks[0].tolist()
    if sh_degree is None:  # plain colours: as SH of degree 0, whose clamp at 0 must not cut
        sh, sh_degree, shift = ((colors - 0.5 + 10) / C0)[:, None], 0, 10.0
    else:
        sh, shift = colors, 0.0
    background = (0.0, 0.0, 0.0) if backgrounds is None else tuple(backgrounds[0].tolist())
    depth = render_mode == "RGB+ED"
    antialiased = rasterize_mode == "antialiased"
    options = RenderOptions(background, sh_degree, antialiased, depth=depth, near=near_plane, blur=eps2d)
    cloud = GaussianCloud(means, scales.log(), quats, torch.logit(opacities), sh)
    camera = Camera(fx, fy, cx, cy, width, height, viewmats[0].detach())
    drawn = render(cloud, camera, "reference", options, world_to_camera=viewmats[0])
    picture = drawn.rgb - shift * drawn.alpha[..., None]
    if depth:
        picture = torch.cat([picture, drawn.depth[..., None]], -1)
    radii = drawn.radii[None, :, None].expand(1, -1, 2)
    return (
        picture[None],
        drawn.alpha[None, ..., None],
        {"means2d": drawn.means2d[None].requires_grad_(), "radii": radii},
    )


GSPLAT = SimpleNamespace(rasterization=rasterization, __version__="1.5.3")
CARD = SimpleNamespace(name="Some GPU/X", major=9, minor=0, multi_processor_count=132, total_memory=8 << 30)
CUDA = {
    "Event": Event,
    "current_device": lambda: 0,
    "device": lambda index: contextlib.nullcontext(),
    "empty_cache": lambda: None,
    "get_device_capability": lambda index=0: (CARD.major, CARD.minor),
    "get_device_properties": lambda index: CARD,
    "max_memory_allocated": lambda: 3 << 20,
    "memory_allocated": lambda: 1 << 20,
    "mem_get_info": lambda device=None: (6 << 30, 8 << 30),
    "reset_peak_memory_stats": lambda: None,
    "synchronize": lambda device=None: None,
}


def _restore(real: ModuleType | None) -> None:
    """Only this entry: `mock.patch.dict` would also drop what was imported meanwhile."""
    if real is None:
        del sys.modules["gsplat"]
    else:
        sys.modules["gsplat"] = real


@contextlib.contextmanager
def machine() -> Iterator[Emulator]:
    """Within the block this machine has a GPU, as far as the backends `cuda` and `gsplat` can tell."""
    emulator = Emulator()
    with contextlib.ExitStack() as stack:
        for name, value in CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, value))
        stack.enter_context(mock.patch.object(backends, "check_backend", lambda name: None))
        for name in ("cuda", "gsplat"):
            here = replace(backends.REGISTRY[name], device=torch.device("cpu"))
            stack.enter_context(mock.patch.dict(backends.REGISTRY, {name: here}))
        stack.enter_context(mock.patch.object(cuda_sort, "choice", lambda index: "torch.sort"))
        stack.callback(_restore, sys.modules.get("gsplat"))
        sys.modules["gsplat"] = GSPLAT
        stack.enter_context(cuda_launcher.use(emulator))
        yield emulator
