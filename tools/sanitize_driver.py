"""Run every kernel of the C++ core with sizes around the vector widths, for tools/sanitize.sh.

    python tools/sanitize_driver.py --library build/sanitize-address/out/splat --sizes 0,1,7,8,9,16,17,100000

Prints one line per build variant and size. What is wrong is found by the sanitizer that is preloaded.
"""

import argparse
import ctypes
import math
import threading
import time

import torch

import splat
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.compression.methods.self_organizing_grid import grid_order
from splat.native import cpu_library
from splat.ops.adam import AdamHyper, AdamState, adam_step, parameters
from splat.ops.mcmc_noise import add_noise
from splat.ops.mcmc_relocation import relocate
from splat.ops.nonfinite import first_nonfinite
from splat.ops.photometric_loss import image_loss
from splat.rendering import ImageGradients, RenderOptions, cpu
from splat.rendering.fused_step import Statistics

SIDES = ((1, 1), (7, 9), (16, 17), (33, 65))  # pixels: below, at and above the tiles
LARGE_SIDE = (300, 200)


def random_cloud(count: int, degree: int, source: torch.Generator) -> GaussianCloud:
    """Some in view, some behind, some huge, some not finite."""

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source)

    log_scales = normal(count, 3) - 3
    log_scales[::11] += 6
    means = 1.5 * normal(count, 3)
    means[5::97] = math.nan
    means[6::97] = math.inf
    log_scales[7::97] = math.inf
    return GaussianCloud(
        means, log_scales, normal(count, 4), 3 * normal(count), 0.3 * normal(count, (degree + 1) ** 2, 3)
    )


def camera(width: int, height: int) -> Camera:
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 2.0
    return Camera(0.8 * max(width, height), 0.9 * max(width, height), width / 2, height / 2, width, height, pose)


def rasterizer(count: int, width: int, height: int, degree: int, source: torch.Generator) -> None:
    """Forward and both backward passes, with every picture and with none."""
    everything = {"depth": True, "normal": True, "square_depth": True, "weights": True, "antialiased": True}
    for fields in ({}, {"depth": True}, {"sh_degree": 0, "normal": True}, everything):
        cloud = random_cloud(count, degree, source)
        drawn, context = cpu.forward(cloud, camera(width, height), RenderOptions(**fields))
        names = [
            name for name in ("rgb", "alpha", "depth", "normal", "square_depth") if getattr(drawn, name) is not None
        ]
        grads = ImageGradients(**{name: torch.randn(getattr(drawn, name).shape, generator=source) for name in names})
        cpu.backward(context, grads, absgrad=bool(fields))
        statistics = Statistics(*(torch.zeros(count) for _ in range(3))) if fields else None
        hyper = AdamHyper(
            3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-4, visible_only=not fields, opacity_reg=0.1, scale_reg=0.1
        )
        cpu.backward_adam(context, grads, AdamState.zeros(cloud), hyper, statistics)


def operations(count: int, degree: int, source: torch.Generator) -> None:
    """Adam, the search for NaN, noise, relocation and the grid."""
    cloud = random_cloud(count, degree, source).replace(extras={"score": torch.zeros(count, 5)})
    state, gradients = AdamState.zeros(cloud), {name: torch.randn_like(t) for name, t in parameters(cloud).items()}
    gradients["means"][3::7] = math.nan
    visible = torch.rand(count, generator=source) < 0.5
    for visible_only in (False, True):
        hyper = AdamHyper(
            2, 1e-3, 1e-3, 1e-3, 1e-3, 1e-3, 1e-4, visible_only=visible_only, opacity_reg=0.1, scale_reg=0.1
        )
        adam_step(cloud, gradients, state, hyper, visible, {"score": 1e-3})
    first_nonfinite(parameters(cloud))
    add_noise(cloud, 1e-3, 2**63 + 5, 7)
    relocate(cloud.logit_opacities, cloud.log_scales, torch.randint(-3, 90, (count,), generator=source))
    if count:
        grid_order(torch.randn(min(count, 3000), 1 + count % 16, generator=source), seed=count, patience=0.5)


def pictures(width: int, height: int, source: torch.Generator) -> None:
    """The photometric loss with and without mask and gradient."""
    rgb = torch.randn(height, width, 3, generator=source)
    target = torch.randint(0, 256, rgb.shape, generator=source, dtype=torch.uint8)
    for mask in (None, torch.rand(height, width, generator=source) < 0.5, torch.zeros(height, width, dtype=torch.bool)):
        for gradient in (False, True):
            image_loss(rgb, target, mask, 0.2, gradient)


def inside(count: int) -> None:
    """What the library exports for its own tests: the pool, the vector math, the counters."""
    total = ctypes.c_int64(0)
    pool = cpu_library.function("splat_test_pool", [ctypes.c_int64, ctypes.c_int64, ctypes.c_int, ctypes.c_void_p])
    for fixed in (0, 1):
        pool(min(count, 5000), 3, fixed, ctypes.addressof(total))
    cpu_library.function("splat_test_pool_failure", [ctypes.c_int64, ctypes.c_void_p], ctypes.c_int)(
        min(count, 100), ctypes.addressof(total)
    )
    numbers, out = torch.linspace(-9, 9, count), torch.empty(count)
    arguments = [ctypes.c_int, ctypes.c_int64, *[ctypes.c_void_p] * 3]
    for which in range(12):
        cpu_library.function("splat_test_math", arguments)(
            which, count, *(cpu_library.pointer(tensor) for tensor in (numbers, numbers, out))
        )


def several_at_once(source: torch.Generator) -> None:
    """Renderings from several threads, and another number of threads in between."""
    clouds = [random_cloud(500, 1, source) for _ in range(4)]

    def draw(cloud: GaussianCloud) -> None:
        for _ in range(3):
            cpu.forward(cloud, camera(64, 48), RenderOptions())

    workers = [threading.Thread(target=draw, args=(cloud,)) for cloud in clouds]
    for worker in workers:
        worker.start()
    cpu_library.set_threads(2)
    for worker in workers:
        worker.join()


def main() -> None:
    """Parse, then run all kernels of each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help="folder that holds _lib with the sanitized core")
    parser.add_argument("--sizes", default="0,1,7,8,9,16,17,100000", help="numbers of Gaussians")
    parser.add_argument("--threads", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    splat.__path__.insert(0, arguments.library)
    source = torch.Generator().manual_seed(arguments.seed)
    for variant in cpu_library.variants():
        with cpu_library.use_variant(variant):
            if arguments.library not in cpu_library.library()._name:
                continue  # this variant was built without the sanitizer
            cpu_library.set_threads(arguments.threads)
            for count in [int(size) for size in arguments.sizes.split(",")]:
                begin = time.monotonic()
                large = count > 1000
                for index, (width, height) in enumerate([LARGE_SIDE] if large else SIDES):
                    rasterizer(count, width, height, (count + index) % 5, source)
                    pictures(width, height, source)
                operations(count, count % 5, source)
                inside(count)
                print(f"{variant}: {count} Gaussians, {time.monotonic() - begin:.1f} s", flush=True)
            several_at_once(source)
            cpu.release()
    print("clean")


if __name__ == "__main__":
    main()
