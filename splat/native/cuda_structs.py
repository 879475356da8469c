"""The structures that the kernels of ``cuda/`` take by value, field for field as in the CUDA sources."""

import ctypes

import torch
from torch import Tensor

from splat.native.cuda_launcher import pointer

FLOAT, DOUBLE, INT, U64, POINTER = ctypes.c_float, ctypes.c_double, ctypes.c_int, ctypes.c_uint64, ctypes.c_void_p


def structure(name: str, **fields: type) -> type[ctypes.Structure]:
    """A C structure with ``fields`` in order."""
    return type(name, (ctypes.Structure,), {"_fields_": list(fields.items())})


def pointers(*names: str) -> dict[str, type]:
    """Pointer fields ``names``."""
    return dict.fromkeys(names, POINTER)


def fill(kind: type[ctypes.Structure], **fields: Tensor | tuple[Tensor, torch.dtype] | None) -> ctypes.Structure:
    """A structure of pointers; tensors are float32 unless given with their dtype. Keep the tensors alive."""
    return kind(**{k: pointer(*v) if isinstance(v, tuple) else pointer(v) for k, v in fields.items()})


# cuda/frame.h
Frame = structure(
    "Frame",
    pose=FLOAT * 12,
    **dict.fromkeys(("fx", "fy", "cx", "cy", "width", "height", "near", "blur"), FLOAT),
    antialiased=INT,
    device_pose=POINTER,
)

# cuda/gaussians.h, cuda/projection.cu
Cloud = structure("Cloud", **pointers("means", "log_scales", "quats", "logits", "sh"), n=INT, bands=INT)
Projected = structure("Projected", **pointers("splats", "features", "normals", "depths", "means2d", "radii", "tiles"))

# cuda/chunks.h, cuda/blending.cu, cuda/blending_backward.cu
Lists = structure("Lists", **pointers("ids", "ranges", "chunk_ends"))
Splats = structure("Splats", **pointers("splats", "features", "normals"))
Screen = structure("Screen", width=INT, height=INT, columns=INT, background=FLOAT * 3)
Pictures = structure("Pictures", **pointers("rgb", "alpha", "depth", "median", "normal", "weights", "square"))
Kept = structure("Kept", **pointers("chunk_tiles", "states", "finals", "last"))
Upstream = structure("Upstream", **pointers("rgb", "alpha", "depth", "normal", "square"))

# cuda/adam.h, cuda/gaussian_backward.cu
Drawn = structure("Drawn", **pointers("radii", "features", "sums"), with_normal=INT)
Gradients = structure("Gradients", **pointers("means", "log_scales", "quats", "logits", "sh", "means2d", "means2d_abs"))
Adam = structure("Adam", **dict.fromkeys(("keep1", "add1", "keep2", "add2", "eps", "rate_scale", "root_scale"), FLOAT))
FusedAdam = structure(
    "FusedAdam",
    p=POINTER * 5,
    m=POINTER * 5,
    v=POINTER * 5,
    rates=FLOAT * 6,
    adam=Adam,
    visible_only=INT,
    opacity_weight=FLOAT,
    scale_weight=FLOAT,
    **pointers("grad2d", "grad2d_abs", "count", "nonfinite"),
)


def adam(step: int, beta1: float, beta2: float, eps: float, corrected: bool = True) -> ctypes.Structure:
    """Adam's constants at ``step``, counted from 1, with or without bias correction."""
    return Adam(
        keep1=beta1,
        add1=1 - beta1,
        keep2=beta2,
        add2=1 - beta2,
        eps=eps,
        rate_scale=1 / (1 - beta1**step) if corrected else 1.0,
        root_scale=(1 - beta2**step) ** -0.5 if corrected else 1.0,
    )
