"""Times the CUDA rasterizer on this machine's GPU, beside gsplat where that is installed.

    python tools/bench_gpu.py [--gaussians 100000 1000000] [--sizes 1920x1080] [--out benchmarks/<gpu>.json]

Measures forward, backward and a whole training step (draw, L1 + SSIM, backward, Adam) in milliseconds, medians of
repeated steps by CUDA events, and the peak memory that the step adds to the cloud, camera and photo, which both
rasterizers get alike in the same run (their parameters, moments and gradients count). Without ``fused_ssim`` our kernel
computes the peer's loss, which is kinder to it than PyTorch. Both ways to sort are timed on the picture's pairs.
What does not fit into the GPU's memory is recorded as such; the file is written anew after every row.
"""

import argparse
import gc
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.errors import InputError, OutOfMemory
from splat.files import write_json
from splat.native import cuda_sort
from splat.ops.adam import AdamHyper, AdamState
from splat.ops.photometric_loss import compare_images
from splat.rendering import RenderOptions, check_backend, cuda, get_backend
from splat.rendering.types import ImageGradients

DEVICE = "cuda"
FULL = "does not fit into the GPU's memory"
RATES = {
    "means": 1.6e-4,
    "log_scales": 5e-3,
    "quats": 1e-3,
    "logit_opacities": 0.05,
    "sh_dc": 2.5e-3,
    "sh_rest": 1.25e-4,
}


def scene(count: int, width: int, height: int) -> tuple[GaussianCloud, Camera, torch.Tensor]:
    """A ball of ``count`` Gaussians filling the picture, sized to overlap as in a trained scene, and a random photo."""
    generator = torch.Generator(DEVICE).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, device=DEVICE)

    cloud = GaussianCloud(
        means=normal(count, 3) * torch.tensor([1.6, 0.9, 1.0], device=DEVICE),
        log_scales=0.5 * normal(count, 3) - torch.log(torch.tensor(1.2 * count ** (1 / 3))).item(),
        quats=normal(count, 4),
        logit_opacities=1.5 * normal(count) - 0.5,
        sh=torch.cat([0.5 * normal(count, 1, 3), 0.05 * normal(count, 15, 3)], 1),
    )
    pose = torch.eye(4, dtype=torch.float64)
    pose[2, 3] = 3.5
    camera = Camera(0.9 * width, 0.9 * width, width / 2, height / 2, width, height, pose)
    photo = torch.randint(0, 256, (height, width, 3), generator=generator, device=DEVICE, dtype=torch.uint8)
    return cloud, camera, photo


def milliseconds(work: Callable[[int], None], repeats: int) -> float:
    """Median time of ``work(number)`` after three warm-up calls."""
    for number in range(1, 4):
        work(number)
    times = []
    for number in range(4, 4 + repeats):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        work(number)
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return statistics.median(times)


def measured(work: dict[str, Callable[[int], None]], repeats: int, before: int) -> dict[str, float]:
    """Milliseconds of every piece of ``work``, and the peak memory of the last, the whole step, beyond ``before``."""
    found = {}
    for name, function in work.items():
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        found[f"{name}_ms"] = milliseconds(function, repeats)
    return found | {"peak_memory_mb": (torch.cuda.max_memory_allocated() - before) / 2**20}


def ours(cloud: GaussianCloud, camera: Camera, photo: torch.Tensor, repeats: int) -> dict[str, float]:
    """This project's kernels."""
    before = torch.cuda.memory_allocated()
    cloud, options = cloud.clone(), RenderOptions()
    state = AdamState.zeros(cloud)
    kept: dict[str, object] = {}

    def forward(_: int) -> None:
        kept["rendering"], kept["context"] = cuda.forward(cloud, camera, options, weights=False)

    def backward(_: int) -> None:
        cuda.backward(kept["context"], ImageGradients(rgb=kept["rendering"].rgb))

    def step(number: int) -> None:
        kept.clear()
        rendering, context = cuda.forward(cloud, camera, options, weights=False)
        _, gradient = compare_images(rendering.rgb, photo, None, 0.2, True)
        cuda.backward_adam(context, ImageGradients(rgb=gradient), state, AdamHyper(number, **RATES))

    found = measured({"forward": forward, "backward": backward, "step": step}, repeats, before)
    found["pairs"] = int(cuda.forward(cloud, camera, options, weights=False)[1].ranges.max())
    return found


def sorts(pairs: int, camera: Camera) -> dict[str, float | str]:
    """Milliseconds of either way to sort ``pairs`` tile numbers with their ids."""
    tiles = -(-camera.width // 16) * -(-camera.height // 16)
    kind = torch.int16 if tiles < 2**15 else torch.int32
    keys = torch.randint(0, tiles, (pairs,), device=DEVICE).to(kind)
    ids = torch.arange(pairs, dtype=torch.int32, device=DEVICE)
    device = keys.device
    found: dict[str, float | str] = {}
    found["torch_ms"] = cuda_sort.milliseconds(lambda: cuda_sort.by_torch(keys, ids, pairs), device)
    if isinstance(cuda_sort.library(), str):
        return found | {"cccl": cuda_sort.library()}
    bits = tiles.bit_length()
    return found | {"cccl_ms": cuda_sort.milliseconds(lambda: cuda_sort.by_cccl(keys, ids, pairs, bits), device)}


def peer(cloud: GaussianCloud, camera: Camera, photo: torch.Tensor, repeats: int) -> dict[str, float]:
    """gsplat with PyTorch's fused Adam."""
    import gsplat

    before = torch.cuda.memory_allocated()
    leaves = {name: getattr(cloud, name).clone().requires_grad_() for name in FIELDS if name != "sh"}
    leaves |= {"sh_dc": cloud.sh[:, :1].clone().requires_grad_(), "sh_rest": cloud.sh[:, 1:].clone().requires_grad_()}
    groups = [{"params": [leaf], "lr": RATES[name]} for name, leaf in leaves.items()]
    adam = torch.optim.Adam(groups, eps=1e-15, fused=True)
    pose = camera.world_to_camera.to(DEVICE, torch.float32)[None]
    intrinsics = torch.tensor([[[camera.fx, 0, camera.cx], [0, camera.fy, camera.cy], [0, 0, 1]]], device=DEVICE)
    kept: dict[str, torch.Tensor] = {}

    def draw() -> torch.Tensor:
        return gsplat.rasterization(
            leaves["means"], leaves["quats"], leaves["log_scales"].exp(), leaves["logit_opacities"].sigmoid(),
            torch.cat([leaves["sh_dc"], leaves["sh_rest"]], 1), pose, intrinsics, camera.width, camera.height,
            sh_degree=3, packed=False,
        )[0][0]  # fmt: skip

    def forward(_: int) -> None:
        kept["rgb"] = draw()

    def backward(_: int) -> None:
        kept["rgb"].backward(kept["rgb"].detach(), retain_graph=True)
        adam.zero_grad(set_to_none=True)

    def step(_: int) -> None:
        kept.clear()
        rgb = draw()
        _loss_gradient(rgb, photo)
        adam.step()
        adam.zero_grad(set_to_none=True)

    return measured({"forward": forward, "backward": backward, "step": step}, repeats, before)


def _loss_gradient(rgb: torch.Tensor, photo: torch.Tensor) -> None:
    """Backward pass of 0.8·L1 + 0.2·(1 − SSIM) into the graph of ``rgb``."""
    try:
        from fused_ssim import fused_ssim
    except ImportError:
        _, gradient = compare_images(rgb, photo, None, 0.2, True)
        rgb.backward(gradient)
        return
    goal = photo.to(torch.float32) / 255
    planes = (picture.permute(2, 0, 1)[None].contiguous() for picture in (rgb, goal))
    (0.8 * (rgb - goal).abs().mean() + 0.2 * (1 - fused_ssim(*planes))).backward()


def compare(count: int, size: tuple[int, int], repeats: int, with_peer: bool) -> dict[str, object]:
    """All measurements for one cloud and picture size."""
    row: dict[str, object] = {"gaussians": count, "width": size[0], "height": size[1]}
    try:
        work = scene(count, *size)
    except torch.cuda.OutOfMemoryError:
        return row | {"splat": FULL}
    row["splat"] = fitting(ours, *work, repeats)
    if row["splat"] != FULL:
        row["sorting"] = fitting(sorts, row["splat"]["pairs"], work[1])
    if with_peer:
        row["gsplat"] = fitting(peer, *work, repeats)
    if with_peer and FULL not in (row["splat"], row["gsplat"]):
        row["speedup"] = row["gsplat"]["step_ms"] / row["splat"]["step_ms"]
        row["memory_ratio"] = row["splat"]["peak_memory_mb"] / row["gsplat"]["peak_memory_mb"]
    return row


def fitting(function: Callable[..., dict], *arguments: object) -> dict | str:
    """What ``function`` finds, or `FULL` when memory runs out; gives back what PyTorch still holds."""
    gc.collect()
    torch.cuda.empty_cache()
    try:
        return function(*arguments)
    except (torch.cuda.OutOfMemoryError, OutOfMemory):
        return FULL


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--gaussians", type=int, nargs="+", default=[100_000, 1_000_000, 10_000_000])
    parser.add_argument("--sizes", nargs="+", default=["1920x1080", "3840x2160"])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    try:
        get_backend("cuda")
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    why_not = check_backend("gsplat")
    if why_not is None:
        import gsplat

        version = gsplat.__version__
    else:
        print(f"without the peer: {why_not}", file=sys.stderr)
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    facts = {
        "gpu": card.name,
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "memory_gb": round(card.total_memory / 2**30, 1),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "gsplat": version if why_not is None else why_not,
        "sorting": str(cuda_sort.choice(torch.cuda.current_device())),
        "date": time.strftime("%Y-%m-%d"),
        "rows": [],
    }
    out = arguments.out or Path("benchmarks") / f"{card.name.lower().replace(' ', '_').replace('/', '_')}.json"
    for size in arguments.sizes:
        width, height = map(int, size.split("x"))
        for count in arguments.gaussians:
            facts["rows"].append(compare(count, (width, height), arguments.repeats, why_not is None))
            print(facts["rows"][-1], flush=True)
            write_json(out, facts)
    print(f"written to {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
