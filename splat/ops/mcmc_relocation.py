"""Relocation of 3D Gaussian splatting as Markov chain Monte Carlo (Kheradmand et al. 2024, equation 9)."""

import ctypes

import torch
from torch import Tensor

from splat.native import cpu_library, cuda_launcher
from splat.native.cuda_launcher import blocks_for
from splat.native.cuda_structs import DOUBLE, INT, fill, pointers, structure

_Relocation = structure(
    "Relocation", **pointers("logits", "log_scales", "ratios"), n=INT, min_opacity=DOUBLE,
    **pointers("new_logits", "new_log_scales"),
)  # fmt: skip

_ARGUMENTS = [ctypes.c_void_p] * 3 + [ctypes.c_int64, ctypes.c_double] + [ctypes.c_void_p] * 2


def relocate(
    logit_opacities: Tensor, log_scales: Tensor, ratios: Tensor, min_opacity: float = 0.005
) -> tuple[Tensor, Tensor]:
    """Opacities and scales with which ``ratios`` coincident copies render like the original Gaussian.

    o' = 1 − (1 − o)^(1/n), s' = s·o / Σⱼ₌₁ⁿ C(n, j) (−1)^(j+1) o'ʲ/√j. (The double sum of the paper's equation 9
    collapses to this by the hockey-stick identity.)

    Args:
        logit_opacities: (M,).
        log_scales: (M, 3).
        ratios: (M,) integer, how many Gaussians each becomes, itself included; clamped to [1, 51].
        min_opacity: smallest new opacity.

    Returns:
        New logit opacities (M,) and log scales (M, 3), same device and dtype.
    """
    m = logit_opacities.shape[:1]
    if logit_opacities.shape != m or log_scales.shape != (*m, 3) or ratios.shape != m:
        shapes = [tuple(tensor.shape) for tensor in (logit_opacities, log_scales, ratios)]
        raise ValueError(f"logit_opacities, log_scales and ratios have shapes {shapes}, expected (M,), (M, 3) and (M,)")
    if not 0 < min_opacity < 1:
        raise ValueError(f"min_opacity is {min_opacity}, expected a number between 0 and 1")
    if ratios.is_floating_point() or ratios.is_complex():
        raise ValueError(f"ratios are {ratios.dtype}, expected integers")
    for tensor in (logit_opacities, log_scales, ratios):
        if tensor.is_meta:
            raise ValueError("relocate got a tensor on the device meta, expected one with memory")
        if tensor.is_cpu:
            cpu_library.check_memory(tensor)
    if cuda_launcher.runs_on(logit_opacities):
        return mcmc_relocate(logit_opacities, log_scales, ratios, min_opacity)
    inputs = [tensor.detach().to("cpu", torch.float32).contiguous() for tensor in (logit_opacities, log_scales)]
    counts = ratios.to("cpu", torch.int64).contiguous()
    outputs = [torch.empty_like(tensor) for tensor in inputs]
    status = cpu_library.function("splat_mcmc_relocate", _ARGUMENTS, ctypes.c_int32)(
        cpu_library.pointer(inputs[0]),
        cpu_library.pointer(inputs[1]),
        cpu_library.pointer(counts),
        len(counts),
        min_opacity,
        cpu_library.pointer(outputs[0]),
        cpu_library.pointer(outputs[1]),
    )
    cpu_library.raise_for(status, "relocating Gaussians")
    return outputs[0].to(logit_opacities), outputs[1].to(log_scales)


def mcmc_relocate(
    logit_opacities: Tensor, log_scales: Tensor, ratios: Tensor, min_opacity: float
) -> tuple[Tensor, Tensor]:
    """`relocate` for float32 tensors on a GPU."""
    logits, scales = logit_opacities.detach().contiguous(), log_scales.detach().contiguous()
    counts = ratios.to(logits.device, torch.int64).contiguous()
    new_logits, new_scales = torch.empty_like(logits), torch.empty_like(scales)
    relocation = fill(
        _Relocation, logits=logits, log_scales=scales, ratios=(counts, torch.int64), new_logits=new_logits,
        new_log_scales=new_scales,
    )  # fmt: skip
    relocation.n, relocation.min_opacity = len(logits), min_opacity
    cuda_launcher.launcher(logits.device).launch("mcmc", "mcmc_relocate", blocks_for(len(logits), 128), 128, relocation)
    return new_logits, new_scales
