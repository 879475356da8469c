"""The C side of the `cpu` backend as Python sees it: structures, functions, and the pool of workspaces.

A workspace holds what one frame needs between its forward and its backward pass (projected Gaussians, tile lists, final
transmittances, sums per Gaussian–tile pair). Workspaces are pooled, so that a training loop uses the same memory at
every step and several threads may render at once.
"""

import ctypes
import threading
import weakref
from ctypes import c_double, c_float, c_int32, c_int64, c_void_p
from typing import Any

from splat.native import cpu_library

STAGES = ("projection", "sort", "binning", "blend", "blend_backward", "gaussian_backward")


def _structure(name: str, *fields: tuple[str, Any]) -> type[ctypes.Structure]:
    return type(name, (ctypes.Structure,), {"_fields_": list(fields)})


def _group(kind: Any, names: str) -> list[tuple[str, Any]]:
    return [(name, kind) for name in names.split()]


# Mirrors `struct Frame` of cpu/rasterizer.h, field by field.
Frame = _structure(
    "Frame",
    ("count", c_int64),
    *_group(c_void_p, "means log_scales quats logits sh"),
    *_group(c_int32, "sh_bands sh_degree"),
    ("rotation", c_float * 9),
    ("translation", c_float * 3),
    *_group(c_float, "fx fy cx cy near_plane blur"),
    *_group(c_int32, "width height"),
    ("background", c_float * 3),
    *_group(c_int32, "antialiased with_depth with_normal with_weights with_square"),
    *_group(c_void_p, "rgb alpha depth median_depth normal square_depth radii means2d weights"),
)

# Mirrors `struct PictureGradients` of cpu/rasterizer.h.
PictureGradients = _structure(
    "PictureGradients", *_group(c_void_p, "rgb alpha depth normal square_depth"), *_group(c_int32, "width height")
)

# Mirrors `struct Step` of cpu/gaussian_backward.h.
Step = _structure(
    "Step",
    *_group(c_void_p, "means log_scales quats logits sh means2d means2d_abs"),
    *_group(c_int32, "fused visible_only"),
    ("rows", c_int64),
    ("bands", c_int32),
    *[(name, c_void_p * 5) for name in ("p", "m", "v")],
    ("rates", c_float * 6),
    *_group(c_double, "beta1 beta2 eps"),
    ("step", c_int64),
    *_group(c_float, "opacity_weight scale_weight"),
    *_group(c_void_p, "grad2d grad2d_abs count"),
    ("pose", c_float * 12),
    ("nonfinite", c_int32),
)


class Workspace:
    """Memory of one frame in the C++ core, of the build variant that was in use when it was made."""

    def __init__(self) -> None:
        self.variant = cpu_library.variant()
        self.handle = cpu_library.function("splat_workspace_new", [], c_void_p)()
        if not self.handle:
            raise MemoryError("the CPU rasterizer got no memory for a workspace")
        free = cpu_library.function("splat_workspace_free", [c_void_p])
        self._forward = cpu_library.function("splat_forward", [c_void_p, c_void_p], c_int32)
        self._backward = cpu_library.function("splat_backward", [c_void_p, c_void_p, c_void_p], c_int32)
        self._seconds = cpu_library.function("splat_workspace_seconds", [c_void_p, c_void_p, c_int32])
        self._counts = cpu_library.function("splat_workspace_counts", [c_void_p, c_void_p])
        self._bytes = cpu_library.function("splat_workspace_bytes", [c_void_p], c_int64)
        weakref.finalize(self, free, self.handle)

    def forward(self, frame: Any) -> None:
        """Render; raises MemoryError, or ValueError for a frame that is wrong or beyond the index ranges."""
        cpu_library.raise_for(self._forward(self.handle, ctypes.byref(frame)), "rendering")

    def backward(self, gradients: Any, step: Any) -> None:
        """Gradients of the frame rendered last; raises like `forward`."""
        status = self._backward(self.handle, ctypes.byref(gradients), ctypes.byref(step))
        cpu_library.raise_for(status, "differentiating a rendering")

    def seconds(self, reset: bool = True) -> dict[str, float]:
        """Seconds per stage since the last reset."""
        out = (c_double * len(STAGES))()
        self._seconds(self.handle, out, int(reset))
        return dict(zip(STAGES, out, strict=True))

    def counts(self) -> tuple[int, int]:
        """Visible Gaussians and (Gaussian, tile) pairs of the frame rendered last."""
        out = (c_int64 * 2)()
        self._counts(self.handle, out)
        return int(out[0]), int(out[1])

    def nbytes(self) -> int:
        """Bytes its buffers hold."""
        return int(self._bytes(self.handle))


_lock = threading.RLock()
_idle: list[Workspace] = []
_seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)


def take() -> Workspace:
    """A workspace nobody else uses, preferably one with memory already."""
    with _lock:
        for i in range(len(_idle) - 1, -1, -1):
            if _idle[i].variant == cpu_library.variant():
                return _idle.pop(i)
    return Workspace()


def give_back(workspace: Workspace) -> None:
    """Return a workspace to the pool; its frame is forgotten."""
    with _lock:
        for name, seconds in workspace.seconds().items():
            _seconds[name] += seconds
        _idle.append(workspace)


def release() -> None:
    """Free the memory of all idle workspaces."""
    with _lock:
        _idle.clear()


def timings(reset: bool) -> dict[str, float]:
    """Seconds per stage of all frames finished since the last reset."""
    with _lock:
        seconds = dict(_seconds)
        if reset:
            _seconds.update(dict.fromkeys(STAGES, 0.0))
    return seconds
