"""No kernel's result depends on the order in which its blocks, warps and lanes happen to run.

Every kernel runs under random schedules of the emulation. Results must be equal bit for bit, but for sums that
atomics on floating-point numbers form across blocks: those may differ by rounding.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.cases import camera, random_cloud
from support.emulator import CUDA, Emulator, kernels
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS
from splat.native import cuda_launcher
from splat.native.cuda_structs import adam
from splat.ops import adam as adam_kernels
from splat.ops import photometric_loss
from splat.ops.adam import AdamHyper, AdamState
from splat.ops.mcmc_noise import mcmc_noise
from splat.ops.mcmc_relocation import mcmc_relocate
from splat.rendering import cuda
from splat.rendering.cpu import Statistics
from splat.rendering.types import CloudGradients, ImageGradients, RenderOptions

SCHEDULES = 200
VIEW = camera(20, 16, fov=40)  # two tiles
FEW = camera(8, 8, fov=12)  # sees a dozen Gaussians: for what does not depend on the variant of blending
OPTIONS = {  # by SH degree, so that every variant of blending runs
    0: RenderOptions(),
    1: RenderOptions(depth=True, normal=True),
    2: RenderOptions(square_depth=True, depth=True),
    3: RenderOptions(background=(0.1, 0.2, 0.3)),
    4: RenderOptions(antialiased=True),
}
Results = dict[str, Tensor]


def random(*shape: int, seed: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def cloud(degree: int):
    return random_cloud(140, degree, degree, scale=0.1).to(dtype=torch.float32)  # two blocks of 128


def upstream(view: Camera) -> ImageGradients:
    return ImageGradients(rgb=random(view.height, view.width, 3, seed=1) - 0.5)


def render(degree: int) -> tuple[Results, Results]:
    view = VIEW if degree < 3 else FEW
    rendering, context = cuda.forward(cloud(degree), view, replace(OPTIONS[degree], weights=True))
    pictures = {name: getattr(rendering, name) for name in ("rgb", "alpha", "depth", "normal", "square_depth", "radii")}
    pictures |= {name: getattr(context, name) for name in ("ranges", "last", "finals", "chunk_ends")}
    gradients = cuda.backward(context, upstream(view))
    sums = {name: getattr(gradients, name) for name in CloudGradients.__dataclass_fields__}
    return pictures, sums | {"weights": rendering.weights}


def fused_step(degree: int) -> tuple[Results, Results]:
    own = cloud(degree)
    moments, statistics = AdamState.zeros(own), Statistics(*(torch.zeros(len(own)) for _ in range(3)))
    _, context = cuda.forward(own, FEW, RenderOptions())
    # A large eps: otherwise the first step is the sign of the gradient, however small.
    result = cuda.backward_adam(context, upstream(FEW), moments, AdamHyper(1, *[1e-2] * 6, eps=1e-3), statistics)
    exact = {"count": statistics.count}
    return exact, {name: getattr(own, name) for name in FIELDS} | {
        "pose": result.world_to_camera,
        "grad2d": statistics.grad2d,
    }


def lists_with_wide_keys() -> tuple[Results, Results]:
    # What pictures of more than 2¹⁵ tiles use.
    own = cloud(0)
    seen = cuda._project(own, VIEW, RenderOptions(), VIEW.world_to_camera.float())
    order = seen.tiles.nonzero()[:, 0].to(torch.int32)  # in whatever order
    ends = seen.tiles[order.long()].cumsum(0)
    pairs = int(ends[-1])
    keys, ids = torch.full((2, pairs), -1, dtype=torch.int32)
    run = cuda_launcher.launcher(own.device).launch
    run("binning", "emit_int", 2, 128, seen.splats, seen.tiles, order, ends, len(order), 2, 1, keys, ids)
    ranges = torch.zeros(2, 2, dtype=torch.int32)
    run("binning", "find_ranges_int", -(-pairs // 128), 128, keys.sort()[0], pairs, 2, ranges)
    return {"keys": keys, "ids": ids, "ranges": ranges}, {}


def image_loss() -> tuple[Results, Results]:
    target = (255 * random(20, 24, 3, seed=3)).to(torch.uint8)
    sums, grad = photometric_loss.compare_images(
        random(20, 24, 3, seed=2), target, random(20, 24, seed=4) > 0.2, 0.2, True
    )
    return {"grad": grad}, {"sums": sums}


def other_steps() -> tuple[Results, Results]:
    tensor, gradient = random(150, 4, seed=5), random(150, 4, seed=6)
    gradient[100, 2] = gradient[40, 1] = float("nan")
    moments, rates = (torch.zeros(150, 4), torch.zeros(150, 4)), adam_kernels.RowRates(4, 0.1, 0.1)
    bad = adam_kernels.adam_rows(tensor, moments, gradient, rates, adam(1, 0.9, 0.999, 1e-15))
    own = cloud(0)
    mcmc_noise(own, 5.0, 1, 2, 0.5)
    ratios = torch.arange(140) % 5
    logits, scales = mcmc_relocate(own.logit_opacities, own.log_scales, ratios, 0.005)
    return {"adam": tensor, "bad": bad, "noise": own.means, "logits": logits, "scales": scales}, {}


SCENES: dict[str, Callable[[], tuple[Results, Results]]] = {
    **{f"render_sh{degree}": lambda degree=degree: render(degree) for degree in OPTIONS},
    **{f"fused_step_sh{degree}": lambda degree=degree: fused_step(degree) for degree in OPTIONS},
    "lists_with_wide_keys": lists_with_wide_keys,
    "image_loss": image_loss,
    "other_steps": other_steps,
}


@pytest.mark.parametrize("scene", SCENES)
def test_results_do_not_depend_on_the_schedule(scene: str):
    emulator = Emulator()
    with cuda_launcher.use(emulator):
        exact, rounded = SCENES[scene]()
        for seed in range(1, SCHEDULES + 1):
            emulator.seed = seed
            again, again_rounded = SCENES[scene]()
            for name, value in exact.items():
                assert value is None or torch.equal(again[name], value), f"{name} differs under schedule {seed}"
            for name, value in rounded.items():
                apart = float((again_rounded[name] - value).abs().max())
                assert apart <= 1e-5 * float(value.abs().max()), f"{name} differs by {apart} under schedule {seed}"


def test_every_kernel_is_among_them():
    emulator = Emulator()
    with cuda_launcher.use(emulator):
        for scene in SCENES.values():
            scene()
    assert emulator.ran == {name for path in CUDA.glob("*.cu") for name in kernels(path.read_text())}


# Each gives another result under some schedule than in order of number, and touches no shared memory.
FAULTY = {
    "last_warp_wins": "if (threadIdx.x % WARP == 0) out[0] = threadIdx.x;",
    "last_block_wins": "if (threadIdx.x == 0) out[0] = blockIdx.x;",
    "reads_another_warp": "out[t] = t + 1;\n    __syncwarp();\n    out[256 + t] = out[(t + WARP) % blockDim.x];",
    "first_come": "if (threadIdx.x % WARP == 0) out[atomicAdd(out + 511, 1)] = t + 1;",
    # Read, then added in two steps: lost where another warp comes between.
    "torn_update": "if (t % WARP == 0) { const int before = out[0]; atomicAdd(out + 1, 1); out[0] = before + 1; }",
}


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Emulator:
    folder = tmp_path_factory.mktemp("faulty")
    source = "".join(
        f"KERNEL(64) {name}(int* out) {{\n    const int t = thread_of_grid();\n    (void)t;\n    {body}\n}}\n"
        for name, body in FAULTY.items()
    )
    (folder / "test.cu").write_text(f'#include "device.h"\nusing namespace splat;\n{source}')
    return Emulator(folder)


@pytest.mark.parametrize("kernel", FAULTY)
def test_a_result_that_depends_on_the_order_is_noticed(kernel: str, faulty: Emulator):
    found = set()
    for seed in range(50):
        out = torch.zeros(512, dtype=torch.int32)
        faulty.seed = seed
        faulty.launch("test", kernel, 3, 64, out)
        found.add(tuple(out.tolist()))
    assert len(found) > 1


def test_a_schedule_is_repeated_by_its_seed(faulty: Emulator):
    faulty.seed = 7
    outs = [torch.zeros(512, dtype=torch.int32) for _ in range(2)]
    for out in outs:
        faulty.launch("test", "first_come", 3, 64, out)
    assert torch.equal(*outs)
