"""The `cuda` backend: kernels of ``cuda/`` compiled at run time, for clouds in float32 on an NVIDIA GPU.

Forward: project → order by depth → list per tile → blend. Backward: blend backwards per Gaussian → project backwards.
The host waits for the GPU once, to learn how many (Gaussian, tile) pairs there are. All memory comes from PyTorch's
caching allocator, in sizes rounded up so that a warmed-up training step asks the driver for none.
"""

import ctypes
from dataclasses import dataclass

import torch
from torch import Tensor

from splat import gpu
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.gpu import blocks_for, pointer
from splat.rendering.types import TILE, CloudGradients, ImageGradients, Rendering, RenderOptions

CHUNK = 256  # list entries, as in cuda/chunks.h
SUMS = 16  # as in cuda/frame.h
THREADS = 128  # of the kernels that are not per tile

_float, _int, _pointer = ctypes.c_float, ctypes.c_int, ctypes.c_void_p


def _structure(name: str, **fields) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def _pointers(*names: str) -> dict[str, type]:
    return dict.fromkeys(names, _pointer)


# The structures that kernels take by value, field for field as in the CUDA sources.
_Frame = _structure(
    "Frame",
    pose=_float * 12,
    **dict.fromkeys(("fx", "fy", "cx", "cy", "width", "height", "near"), _float),
    antialiased=_int,
    device_pose=_pointer,
)
_Cloud = _structure("Cloud", **_pointers("means", "log_scales", "quats", "logits", "sh"), n=_int, bands=_int)
_Projected = _structure(
    "Projected", **_pointers("splats", "features", "normals", "depths", "means2d", "radii", "tiles")
)
_CloudGradient = _structure(
    "CloudGradient",
    **_pointers("means", "log_scales", "quats", "logits", "sh", "means2d", "means2d_abs", "pose"),
)
_Lists = _structure("Lists", **_pointers("ids", "ranges", "chunk_ends"))
_Splats = _structure("Splats", **_pointers("splats", "features", "normals"))
_Screen = _structure("Screen", width=_int, height=_int, columns=_int, background=_float * 3)
_Pictures = _structure("Pictures", **_pointers("rgb", "alpha", "depth", "median", "normal", "weights"))
_Kept = _structure("Kept", **_pointers("chunk_tiles", "states", "finals", "last"))
_Upstream = _structure("Upstream", **_pointers("rgb", "alpha", "depth", "normal"))


@dataclass(frozen=True)
class Context:
    """What `backward` needs of a `forward` call; all tensors stay on the GPU.

    Attributes:
        device_pose: the pose where it lies on the GPU.
        radii, splats, features, normals: per Gaussian, as in cuda/projection.cu.
        ids, ranges, chunk_ends: lists per tile, as in cuda/chunks.h.
        chunk_tiles, states, finals, last: kept by the forward blending.
        chunks: upper bound on the number of chunks.
    """

    cloud: GaussianCloud
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


def check() -> str | None:
    """None when a GPU, its driver and NVRTC are there and draw a test Gaussian right; else what is missing."""
    from splat.errors import BackendError
    from splat.rendering import cuda
    from splat.rendering.backends import probe

    reason = gpu.missing()
    if reason is not None:
        return reason
    try:
        wrong = probe(cuda, "cuda")
    except BackendError as error:
        return str(error)
    return None if wrong is None else f"the CUDA backend does not work on this GPU: {wrong}; use --backend cpu"


def forward(
    cloud: GaussianCloud, camera: Camera, options: RenderOptions, pose: Tensor | None = None
) -> tuple[Rendering, Context]:
    """Render ``cloud``; ``pose`` (4, 4) world-to-camera replaces the camera's own.

    Raises ValueError for a cloud that is not float32, BackendError where there is no GPU, OutOfMemory.
    """
    with gpu.memory_errors():
        return _forward(_prepared(cloud), camera, options, camera.world_to_camera if pose is None else pose)


def backward(context: Context, grads: ImageGradients) -> CloudGradients:
    """Gradients of Σ (picture · its gradient) for every cloud tensor and the pose."""
    with gpu.memory_errors():
        return _backward(context, grads)


# ---- forward ----


def _forward(cloud: GaussianCloud, camera: Camera, options: RenderOptions, pose: Tensor) -> tuple[Rendering, Context]:
    run = gpu.launcher(cloud.device).launch
    n, device, everything = len(cloud), cloud.device, options.depth or options.normal
    pose = pose.detach().to(torch.float32).contiguous()
    splats, features = _floats(n, 8, device=device), _floats(n, 4, device=device)
    normals = _floats(n, 4, device=device) if everything else None
    depths, means2d = _floats(n, device=device), _floats(n, 2, device=device)
    radii, tiles = _ints(n, device=device), _ints(n, device=device)
    projected = _fill(
        _Projected, splats=splats, features=features, normals=normals, depths=depths, means2d=means2d,
        radii=(radii, torch.int32), tiles=(tiles, torch.int32),
    )  # fmt: skip
    degree = _degree(cloud, options)
    run(
        "projection",
        f"project_sh{degree}",
        blocks_for(n, THREADS),
        THREADS,
        _cloud(cloud),
        _frame(camera, options, pose),
        projected,
    )

    ids, ranges, chunk_ends, pairs = _list_tiles(run, camera, splats, tiles, depths)
    height, width = camera.height, camera.width
    columns, rows = blocks_for(width, TILE), blocks_for(height, TILE)
    channels = 8 if everything else 4
    chunks = columns * rows + pairs // CHUNK
    chunk_tiles = torch.full((chunks,), -1, dtype=torch.int32, device=device)
    states = _floats(_rounded(pairs // CHUNK), channels, TILE * TILE, device=device)
    finals, last = _floats(height, width, channels, device=device), _ints(height, width, device=device)
    rgb, alpha = _floats(height, width, 3, device=device), _floats(height, width, device=device)
    depth = _floats(height, width, device=device) if options.depth else None
    median = _floats(height, width, device=device) if options.depth else None
    normal = _floats(height, width, 3, device=device) if options.normal else None
    weights = torch.zeros(n, device=device)
    context = Context(
        cloud, camera, options, pose, radii, splats, features, normals, ids, ranges, chunk_ends,
        chunk_tiles, states, finals, last, chunks,
    )  # fmt: skip
    pictures = _fill(_Pictures, rgb=rgb, alpha=alpha, depth=depth, median=median, normal=normal, weights=weights)
    kernel = "blend_all" if everything else "blend_rgb"
    run("blending", kernel, columns * rows, TILE * TILE, *_lists_splats_screen(context), pictures, _kept(context))
    return Rendering(rgb, alpha, depth, median, normal, radii.clone(), weights, means2d), context


def _list_tiles(
    run, camera: Camera, splats: Tensor, tiles: Tensor, depths: Tensor
) -> tuple[Tensor, Tensor, Tensor, int]:
    """Ids of Gaussians per tile nearest first, range (tiles, 2) of each tile's, end of its chunks, number of pairs."""
    device, n = depths.device, len(depths)
    columns, rows = blocks_for(camera.width, TILE), blocks_for(camera.height, TILE)
    ranges = torch.zeros(columns * rows, 2, dtype=torch.int32, device=device)
    counts = _ints(columns * rows, device=device)
    order = torch.sort(depths, stable=True).indices
    ends = tiles[order].cumsum(0)
    pairs = int(ends[-1]) if n else 0  # the one place where the host waits for the GPU
    if pairs >= 2**31:
        raise gpu.OutOfMemory(
            f"{pairs:.1e} pairs of a Gaussian and a tile are too many for one picture; some Gaussians are huge: "
            "lower --gaussians, raise --downscale, or use --backend cpu"
        )
    ids = _ints(_rounded(pairs), device=device)
    if pairs:
        # 16-bit keys halve the passes of the sort and suffice up to 4K.
        kind, key_type = ("short", torch.int16) if columns * rows < 2**15 else ("int", torch.int32)
        keys, unsorted = (
            torch.empty(_rounded(pairs), dtype=key_type, device=device),
            _ints(_rounded(pairs), device=device),
        )
        run(
            "binning",
            f"emit_{kind}",
            blocks_for(n, THREADS),
            THREADS,
            splats,
            tiles,
            order,
            ends,
            n,
            columns,
            rows,
            keys,
            unsorted,
        )
        keys, permutation = torch.sort(keys[:pairs], stable=True)
        run(
            "binning",
            f"find_lists_{kind}",
            blocks_for(pairs, THREADS),
            THREADS,
            keys,
            permutation,
            unsorted,
            pairs,
            ids,
            ranges,
        )
    run("binning", "count_chunks", blocks_for(columns * rows, THREADS), THREADS, ranges, columns * rows, counts)
    return ids, ranges, counts.cumsum(0, dtype=torch.int32), pairs


# ---- backward ----


def _backward(context: Context, grads: ImageGradients) -> CloudGradients:
    cloud, options = context.cloud, context.options
    run = gpu.launcher(cloud.device).launch
    n, device, everything = len(cloud), cloud.device, options.depth or options.normal
    sums = torch.zeros(n, SUMS, device=device)
    given = {name: _like(getattr(grads, name), device) for name in ("rgb", "alpha", "depth", "normal")}
    if any(tensor is not None for tensor in given.values()):
        kernel = "blend_backward_all" if everything else "blend_backward_rgb"
        upstream = _fill(_Upstream, **given)
        run(
            "blending_backward", kernel, context.chunks, TILE * TILE,
            *_lists_splats_screen(context), upstream, _kept(context), sums,
        )  # fmt: skip
    found = {
        "means": torch.empty_like(cloud.means),
        "log_scales": torch.empty_like(cloud.log_scales),
        "quats": torch.empty_like(cloud.quats),
        "logits": torch.empty_like(cloud.logit_opacities),
        "sh": torch.empty_like(cloud.sh),
        "means2d": _floats(n, 2, device=device),
        "means2d_abs": _floats(n, 2, device=device),
    }
    shares = torch.zeros(12, dtype=torch.float64, device=device)
    run(
        "projection", f"project_backward_sh{_degree(cloud, options)}", blocks_for(n, THREADS), THREADS,
        _cloud(cloud), _frame(context.camera, options, context.pose), context.radii, sums, int(everything),
        _fill(_CloudGradient, **found, pose=(shares, torch.float64)),
    )  # fmt: skip
    pose = torch.zeros(4, 4, device=device)
    pose[:3, :3], pose[:3, 3] = shares[:9].reshape(3, 3), shares[9:]
    found["logit_opacities"] = found.pop("logits")
    return CloudGradients(**found, pose=pose)


# ---- arguments ----


def _prepared(cloud: GaussianCloud) -> GaussianCloud:
    if cloud.dtype != torch.float32:
        raise ValueError(f"the CUDA backend draws float32 clouds, this one is {cloud.dtype}; use backend='reference'")
    return cloud.detach().map(Tensor.contiguous)


def _degree(cloud: GaussianCloud, options: RenderOptions) -> int:
    return cloud.sh_degree if options.sh_degree is None else min(options.sh_degree, cloud.sh_degree)


def _cloud(cloud: GaussianCloud) -> ctypes.Structure:
    tensors = (cloud.means, cloud.log_scales, cloud.quats, cloud.logit_opacities, cloud.sh)
    return _Cloud(*(pointer(tensor) for tensor in tensors), len(cloud), cloud.sh.shape[1])


def _frame(camera: Camera, options: RenderOptions, pose: Tensor) -> ctypes.Structure:
    """``pose`` goes along by value when it is in main memory, by address when it is on the GPU."""
    frame = _Frame(
        fx=camera.fx, fy=camera.fy, cx=camera.cx, cy=camera.cy, width=camera.width, height=camera.height,
        near=options.near, antialiased=options.antialiased,
    )  # fmt: skip
    if pose.device.type == "cpu":
        frame.pose = (_float * 12)(*pose[:3, :3].flatten().tolist(), *pose[:3, 3].tolist())
    else:
        frame.device_pose = pointer(pose)
    return frame


def _lists_splats_screen(context: Context) -> tuple[ctypes.Structure, ...]:
    camera = context.camera
    lists = {name: (getattr(context, name), torch.int32) for name in ("ids", "ranges", "chunk_ends")}
    splats = {name: getattr(context, name) for name in ("splats", "features", "normals")}
    background = (_float * 3)(*context.options.background)
    screen = _Screen(camera.width, camera.height, blocks_for(camera.width, TILE), background)
    return _fill(_Lists, **lists), _fill(_Splats, **splats), screen


def _kept(context: Context) -> ctypes.Structure:
    return _fill(
        _Kept, chunk_tiles=(context.chunk_tiles, torch.int32), states=context.states, finals=context.finals,
        last=(context.last, torch.int32),
    )  # fmt: skip


def _fill(structure: type[ctypes.Structure], **fields: Tensor | tuple[Tensor, torch.dtype] | None) -> ctypes.Structure:
    """A structure of pointers; tensors are float32 unless given with their dtype."""
    return structure(**{k: pointer(*v) if isinstance(v, tuple) else pointer(v) for k, v in fields.items()})


def _like(gradient: Tensor | None, device: torch.device) -> Tensor | None:
    return None if gradient is None else gradient.detach().to(device, torch.float32).contiguous()


def _floats(*shape: int, device: torch.device) -> Tensor:
    return torch.empty(shape, device=device)


def _ints(*shape: int, device: torch.device) -> Tensor:
    return torch.empty(shape, dtype=torch.int32, device=device)


def _rounded(count: int) -> int:
    """``count`` rounded up by at most an eighth, so that the caching allocator meets the same sizes again."""
    step = max(1024, 1 << max(count.bit_length() - 4, 0))
    return -(-count // step) * step
