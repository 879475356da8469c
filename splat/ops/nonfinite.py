"""Search for NaN and infinity in the parameters of a training run."""

import ctypes
from collections.abc import Mapping

import torch
from torch import Tensor

from splat.native import cpu_library


def first_nonfinite(tensors: Mapping[str, Tensor]) -> tuple[str, int] | None:
    """Name and row of the first NaN or infinity among tensors with a leading row dimension, or None.

    Contiguous float32 tensors on the CPU are searched by the C++ core on all cores.
    """
    for name, tensor in tensors.items():
        if tensor.numel() == 0 or not tensor.is_floating_point():
            continue
        rows = tensor.shape[0]
        if tensor.device.type == "cpu" and tensor.dtype == torch.float32 and tensor.is_contiguous():
            arguments = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64]
            find = cpu_library.function("splat_first_nonfinite", arguments, ctypes.c_int64)
            row = find(cpu_library.pointer(tensor, torch.float32), rows, tensor.numel() // rows)
        else:
            bad = (~tensor.reshape(rows, -1).isfinite()).any(1).nonzero()
            row = int(bad[0, 0]) if len(bad) else -1
        if row >= 0:
            return name, row
    return None
