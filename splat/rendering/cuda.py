"""The `cuda` backend: kernels of ``cuda/`` compiled at run time, for clouds in float32 on an NVIDIA GPU.

Forward: project → order by depth → list per tile → blend. Backward: blend backwards per Gaussian → project backwards.
The host waits for the GPU once, to learn how many (Gaussian, tile) pairs there are. All memory comes from PyTorch's
caching allocator, in sizes rounded up so that a warmed-up training step asks the driver for none.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.errors import BackendError, OutOfMemory
from splat.native import cuda_launcher
from splat.native import cuda_structs as arguments
from splat.native.cuda_launcher import blocks_for, pointer, rounded
from splat.native.cuda_sort import sort_pairs
from splat.native.cuda_structs import FLOAT, fill
from splat.ops.adam import AdamHyper
from splat.rendering.fused_step import Moments, Statistics, StepResult
from splat.rendering.types import TILE, CloudGradients, ImageGradients, Rendering, RenderOptions

CHUNK = 256  # list entries, as in cuda/chunks.h
SUMS = 16  # as in cuda/frame.h
POSE_ROWS = 32  # as in cuda/gaussian_backward.cu
THREADS = 128  # of the kernels that are not per tile
_KERNELS = {3: "rgb", 7: "all", 8: "square"}  # of blending, by the numbers blended
PAIRS_MAX = 2**31 - 2**10  # a kernel with one thread per pair numbers its threads with 32 bits


@dataclass(frozen=True)
class Context:
    """What `backward` needs of a `forward` call; all tensors stay on the GPU.

    Attributes:
        cloud: as the kernels read it; source: as it was given.
        radii, splats, features, normals: per Gaussian, as in cuda/projection.cu.
        ids, ranges, chunk_ends: lists per tile, as in cuda/chunks.h.
        chunk_tiles, states, finals, last: kept by the forward blending.
        chunks: upper bound on the number of chunks.
    """

    cloud: GaussianCloud
    source: GaussianCloud
    camera: Camera
    options: RenderOptions
    pose: Tensor
    radii: Tensor
    splats: Tensor
    features: Tensor
    normals: Tensor | None
    ids: Tensor
    ranges: Tensor
    chunk_ends: Tensor
    chunk_tiles: Tensor
    states: Tensor
    finals: Tensor
    last: Tensor
    chunks: int

    @property
    def everything(self) -> bool:
        """Whether depth and normals are blended along with the colours."""
        return _features(self.options) > 3


def _features(options: RenderOptions) -> int:
    """How many numbers per Gaussian are blended: RGB; or also depth and normal; or also the square of the depth."""
    return 8 if options.square_depth else 7 if options.depth or options.normal else 3


def check() -> str | None:
    """None when a GPU, its driver and NVRTC are there and draw a test Gaussian right; else what is missing."""
    from splat.rendering import cuda
    from splat.rendering.backends import probe

    reason = cuda_launcher.missing()
    if reason is not None:
        return reason
    try:
        wrong = probe(cuda, "cuda")
    except BackendError as error:
        return str(error)
    return None if wrong is None else f"the CUDA backend does not work on this GPU: {wrong}; use --backend cpu"


def forward(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, pose: Tensor | None = None, weights: bool = True
) -> tuple[Rendering, Context]:
    """Render ``cloud``; ``pose`` (4, 4) world-to-camera replaces the camera's own.

    Args:
        weights: also sum each Gaussian's blending weights; else `Rendering.weights` is None and the pass a bit faster.

    Raises ValueError for a cloud that is not float32, BackendError where there is no GPU, OutOfMemory.
    """
    with cuda_launcher.memory_errors():
        return _forward(cloud, camera, options, camera.world_to_camera if pose is None else pose, weights)


def backward(context: Context, grads: ImageGradients) -> CloudGradients:
    """Gradients of Σ (picture · its gradient) for every cloud tensor and the pose."""
    with cuda_launcher.memory_errors():
        return _backward(context, grads)


def backward_adam(
    context: Context,
    grads: ImageGradients,
    moments: Moments,
    hyper: AdamHyper,
    statistics: Statistics | None = None,
) -> StepResult:
    """Backward pass and Adam step in one, in place on the cloud that was rendered, its moments and the statistics.

    No gradient tensors exist. Once per context: afterwards the cloud is no longer the one that was rendered. Rows whose
    gradient is not finite are left alone; on a GPU `StepResult.nonfinite` names those of the step before, so that the
    host need not wait for this one.

    Raises ValueError if the cloud, a moment or a statistic is not float32, contiguous and of the right shape.
    """
    cloud = context.cloud
    if any(getattr(context.source, name).data_ptr() != getattr(cloud, name).data_ptr() for name in FIELDS):
        raise ValueError("backward_adam updates in place: the cloud's tensors must be float32 and contiguous")
    for kind, tensors in (("m", moments.m), ("v", moments.v)):
        for name in FIELDS:
            expected = getattr(cloud, name)
            if tensors[name].shape != expected.shape or tensors[name].device != expected.device:
                raise ValueError(f"moment {kind}['{name}'] has another shape or device than its tensor")
    statistics = statistics or Statistics()
    for name, tensor in vars(statistics).items():
        if tensor is not None and (tensor.shape != (len(cloud),) or tensor.device != cloud.device):
            raise ValueError(f"statistics.{name} has shape {tuple(tensor.shape)} on {tensor.device}")
    with cuda_launcher.memory_errors():
        return _backward_adam(context, grads, moments, hyper, statistics)


# ---- forward ----


@dataclass(frozen=True)
class _Projected:
    """What cuda/projection.cu leaves per Gaussian. Depths of Gaussians that reach no tile are huge."""

    splats: Tensor
    features: Tensor
    normals: Tensor | None
    depths: Tensor
    means2d: Tensor
    radii: Tensor
    tiles: Tensor


def _forward(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, pose: Tensor, weights: bool
) -> tuple[Rendering, Context]:
    source, cloud = cloud, _prepared(cloud)
    pose = pose.detach().to(torch.float32).contiguous()
    seen = _project(cloud, camera, options, pose)
    ids, ranges, chunk_ends, pairs = _list_tiles(camera, seen)

    height, width, device = camera.height, camera.width, cloud.device
    tiles = len(ranges)
    channels, chunks = _features(options) + 1, tiles + pairs // CHUNK
    context = Context(
        cloud, source, camera, options, pose, seen.radii, seen.splats, seen.features, seen.normals,
        ids, ranges, chunk_ends,
        chunk_tiles=torch.full((chunks,), -1, dtype=torch.int32, device=device),
        states=_floats(rounded(pairs // CHUNK), channels, TILE * TILE, device=device),
        finals=_floats(height, width, channels, device=device),
        last=_ints(height, width, device=device),
        chunks=chunks,
    )  # fmt: skip
    rgb, alpha = _floats(height, width, 3, device=device), _floats(height, width, device=device)
    depth = _floats(height, width, device=device) if options.depth else None
    median = _floats(height, width, device=device) if options.depth else None
    normal = _floats(height, width, 3, device=device) if options.normal else None
    square = _floats(height, width, device=device) if options.square_depth else None
    sums = torch.zeros(len(cloud), device=device) if weights else None
    pictures = fill(
        arguments.Pictures, rgb=rgb, alpha=alpha, depth=depth, median=median, normal=normal, weights=sums, square=square
    )
    kernel = f"blend_{_KERNELS[_features(options)]}"
    cuda_launcher.launcher(device).launch(
        "blending", kernel, tiles, TILE * TILE, *_lists_splats_screen(context), pictures, _kept(context)
    )
    # The context keeps radii of its own, as the caller may change what he gets.
    return Rendering(rgb, alpha, depth, median, normal, seen.radii.clone(), sums, seen.means2d, square), context


def _project(cloud: GaussianCloud, camera: Camera, options: RenderOptions, pose: Tensor) -> _Projected:
    n, device = len(cloud), cloud.device
    seen = _Projected(
        splats=_floats(n, 8, device=device),
        features=_floats(n, 4, device=device),
        normals=_floats(n, 4, device=device) if _features(options) > 3 else None,
        depths=_floats(n, device=device),
        means2d=_floats(n, 2, device=device),
        radii=_ints(n, device=device),
        tiles=_ints(n, device=device),
    )
    integers = {name: (getattr(seen, name), torch.int32) for name in ("radii", "tiles")}
    target = fill(arguments.Projected, **(vars(seen) | integers))
    kernel = f"project_sh{_degree(cloud, options)}"
    _launch_each("projection", kernel, n, device, _cloud(cloud), _frame(camera, options, pose), target)
    return seen


def _list_tiles(camera: Camera, seen: _Projected) -> tuple[Tensor, Tensor, Tensor, int]:
    """Ids of Gaussians per tile nearest first, range (tiles, 2) of each tile's, end of its chunks, number of pairs."""
    device, n = seen.depths.device, len(seen.depths)
    columns, rows = blocks_for(camera.width, TILE), blocks_for(camera.height, TILE)
    tiles = columns * rows
    order = sort_pairs(seen.depths, None, n, 32)[1] if n else seen.radii
    ends = torch.index_select(seen.tiles, 0, order).cumsum(0)
    pairs = int(ends[-1]) if n else 0  # the one place where the host waits for the GPU
    if pairs > PAIRS_MAX:
        raise OutOfMemory(
            f"{pairs:.1e} pairs of a Gaussian and a tile are too many for one picture; some Gaussians are huge: "
            "lower --gaussians, raise --downscale, or use --backend cpu"
        )
    ids, counts = _ints(rounded(pairs), device=device), _ints(tiles, device=device)
    ranges = torch.zeros(tiles, 2, dtype=torch.int32, device=device)
    if pairs:
        # 16-bit keys halve the passes of the sort and suffice up to 4K.
        kind, key_type = ("short", torch.int16) if tiles < 2**15 else ("int", torch.int32)
        keys = torch.empty(rounded(pairs), dtype=key_type, device=device)
        grid = (n, columns, rows)
        _launch_each("binning", f"emit_{kind}", n, device, seen.splats, seen.tiles, order, ends, *grid, keys, ids)
        keys, ids = sort_pairs(keys, ids, pairs, tiles.bit_length())
        _launch_each("binning", f"find_ranges_{kind}", pairs, device, keys, pairs, ranges)
    _launch_each("binning", "count_chunks", tiles, device, ranges, tiles, counts)
    return ids, ranges, counts.cumsum(0, dtype=torch.int32), pairs


def _launch_each(file: str, kernel: str, count: int, device: torch.device, *arguments: cuda_launcher.Argument) -> None:
    """Launch ``kernel`` with one thread for each of ``count`` items."""
    cuda_launcher.launcher(device).launch(file, kernel, blocks_for(count, THREADS), THREADS, *arguments)


# ---- backward ----


def _sums(context: Context, grads: ImageGradients) -> Tensor:
    """(N, 16) sums over pixels per Gaussian, as named in cuda/frame.h."""
    device = context.cloud.device
    sums = torch.zeros(len(context.cloud), SUMS, device=device)
    given = {name: _like(getattr(grads, name), device) for name in ("rgb", "alpha", "depth", "normal")}
    given["square"] = _like(grads.square_depth, device)
    if any(tensor is not None for tensor in given.values()):
        kernel = f"blend_backward_{_KERNELS[_features(context.options)]}"
        pictures = (*_lists_splats_screen(context), fill(arguments.Upstream, **given), _kept(context))
        cuda_launcher.launcher(device).launch("blending_backward", kernel, context.chunks, TILE * TILE, *pictures, sums)
    return sums


def _gaussian_backward(context: Context, grads: ImageGradients, kernel: str, target: ctypes.Structure) -> Tensor:
    """Run ``kernel`` over all Gaussians; returns ∂L/∂pose (4, 4)."""
    cloud, options = context.cloud, context.options
    sums = _sums(context, grads)
    shares = torch.zeros(POSE_ROWS, 12, dtype=torch.float64, device=cloud.device)
    drawn = fill(arguments.Drawn, radii=(context.radii, torch.int32), features=context.features, sums=sums)
    drawn.with_normal = context.everything
    view = (_cloud(cloud), _frame(context.camera, options, context.pose), drawn)
    kernel = f"{kernel}_sh{_degree(cloud, options)}"
    _launch_each("gaussian_backward", kernel, len(cloud), cloud.device, *view, shares, target)
    shares = shares.sum(0)
    pose = torch.zeros(4, 4, device=cloud.device)
    pose[:3, :3], pose[:3, 3] = shares[:9].reshape(3, 3), shares[9:]
    return pose


def _backward(context: Context, grads: ImageGradients) -> CloudGradients:
    cloud = context.cloud
    found = {name: torch.empty_like(getattr(cloud, name)) for name in FIELDS}
    found |= {name: _floats(len(cloud), 2, device=cloud.device) for name in ("means2d", "means2d_abs")}
    target = fill(
        arguments.Gradients, **{"logits" if name == "logit_opacities" else name: found[name] for name in found}
    )
    pose = _gaussian_backward(context, grads, "gaussian_backward", target)
    return CloudGradients(**found, pose=pose)


def _backward_adam(
    context: Context, grads: ImageGradients, moments: Moments, hyper: AdamHyper, statistics: Statistics
) -> StepResult:
    cloud = context.cloud
    n = max(1, len(cloud))
    faults = torch.zeros(1, dtype=torch.int32, device=cloud.device)
    step = fill(arguments.FusedAdam, **vars(statistics), nonfinite=(faults, torch.int32))
    for name, tensors in (("p", vars(cloud)), ("m", moments.m), ("v", moments.v)):
        setattr(step, name, (ctypes.c_void_p * 5)(*(pointer(tensors[field]) for field in FIELDS)))
    step.rates = (FLOAT * 6)(
        hyper.means, hyper.log_scales, hyper.quats, hyper.logit_opacities, hyper.sh_dc, hyper.sh_rest
    )
    step.adam = arguments.adam(hyper.step, hyper.beta1, hyper.beta2, hyper.eps, not hyper.visible_only)
    step.visible_only = hyper.visible_only
    step.opacity_weight, step.scale_weight = hyper.opacity_reg / n, hyper.scale_reg / (3 * n)
    pose = _gaussian_backward(context, grads, "gaussian_backward_adam", step)
    bits = _faults.exchange(faults, hyper.step)
    return StepResult(pose, tuple(name for i, name in enumerate(FIELDS) if bits >> i & 1))


class _Faults:
    """Brings small flags from the GPU without waiting for it: each step gets the flags of the step before."""

    def __init__(self) -> None:
        self._before: tuple[int, Tensor, torch.cuda.Event] | None = None

    def exchange(self, flags: Tensor, step: int) -> int:
        """Hand in the flags (1,) int32 of ``step``, get those of the one before; at once if they are in main memory."""
        if flags.device.type == "cpu":
            return int(flags)
        bits = 0
        if self._before is not None and self._before[0] == step - 1:
            _, copy, done = self._before
            done.synchronize()  # long since reached: a whole forward pass lies between
            bits = int(copy)
        copy = torch.empty(1, dtype=torch.int32, pin_memory=True)
        copy.copy_(flags, non_blocking=True)
        done = torch.cuda.Event()
        done.record(torch.cuda.current_stream(flags.device))
        self._before = (step, copy, done)
        return bits


_faults = _Faults()


# ---- arguments ----


def _prepared(cloud: GaussianCloud) -> GaussianCloud:
    if cloud.dtype != torch.float32:
        raise ValueError(f"the CUDA backend draws float32 clouds, this one is {cloud.dtype}; use backend='reference'")
    return cloud.detach().map(Tensor.contiguous)


def _degree(cloud: GaussianCloud, options: RenderOptions) -> int:
    return cloud.sh_degree if options.sh_degree is None else min(options.sh_degree, cloud.sh_degree)


def _cloud(cloud: GaussianCloud) -> ctypes.Structure:
    tensors = (cloud.means, cloud.log_scales, cloud.quats, cloud.logit_opacities, cloud.sh)
    return arguments.Cloud(*(pointer(tensor) for tensor in tensors), len(cloud), cloud.sh.shape[1])


def _frame(camera: Camera, options: RenderOptions, pose: Tensor) -> ctypes.Structure:
    """``pose`` goes along by value when it is in main memory, by address when it is on the GPU."""
    frame = arguments.Frame(
        fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy, width=camera.width, height=camera.height,
        near=options.near, blur=options.blur, antialiased=options.antialiased,
    )  # fmt: skip
    if pose.device.type == "cpu":
        frame.pose = (FLOAT * 12)(*pose[:3, :3].flatten().tolist(), *pose[:3, 3].tolist())
    else:
        frame.device_pose = pointer(pose)
    return frame


def _lists_splats_screen(context: Context) -> tuple[ctypes.Structure, ...]:
    camera = context.camera
    lists = {name: (getattr(context, name), torch.int32) for name in ("ids", "ranges", "chunk_ends")}
    splats = {name: getattr(context, name) for name in ("splats", "features", "normals")}
    background = (FLOAT * 3)(*context.options.background)
    screen = arguments.Screen(camera.width, camera.height, blocks_for(camera.width, TILE), background)
    return fill(arguments.Lists, **lists), fill(arguments.Splats, **splats), screen


def _kept(context: Context) -> ctypes.Structure:
    return fill(
        arguments.Kept, chunk_tiles=(context.chunk_tiles, torch.int32), states=context.states, finals=context.finals,
        last=(context.last, torch.int32),
    )  # fmt: skip


def _like(gradient: Tensor | None, device: torch.device) -> Tensor | None:
    return None if gradient is None else gradient.detach().to(device, torch.float32).contiguous()


def _floats(*shape: int, device: torch.device) -> Tensor:
    return torch.empty(shape, device=device)


def _ints(*shape: int, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=torch.int32, device=device)
