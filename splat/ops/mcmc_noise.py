"""Exploration noise of 3D Gaussian splatting as Markov chain Monte Carlo (Kheradmand et al. 2024, equation 8)."""

import ctypes

import torch
from torch import Tensor

from splat.cloud import GaussianCloud
from splat.native import cpu_library, cuda_launcher
from splat.native.cuda_launcher import blocks_for
from splat.native.cuda_structs import FLOAT, INT, U64, fill, pointers, structure

_Noise = structure(
    "Noise", **pointers("means", "log_scales", "quats", "logits"), n=INT, min_opacity=FLOAT, strength=FLOAT,
    seed=U64, step=U64,
)  # fmt: skip

_ARGUMENTS = [ctypes.c_void_p] * 4 + [ctypes.c_int64, ctypes.c_float, ctypes.c_float, ctypes.c_uint64, ctypes.c_uint64]
_GATE_MIN = 1e-12  # below this the noise is lost in the rounding of the position


def add_noise(cloud: GaussianCloud, strength: float, seed: int, step: int, min_opacity: float = 0.005) -> None:
    """Move every centre by Σ·η·sigmoid(−100 (o − min_opacity))·strength, η ~ N(0, I), in place on ``cloud.means``.

    The random numbers depend on (seed, step, row) alone: neither threads nor an interruption change them.

    Args:
        cloud: its ``means`` are changed.
        strength: noise rate times the positions' learning rate in world units (5e5 · lr in the paper).
        seed: 64-bit key of the random numbers.
        step: number of the training step.
        min_opacity: opacity at which the gate is one half.
    """
    if cuda_launcher.runs_on(cloud.means):
        mcmc_noise(cloud, strength, seed, step, min_opacity)
        return
    if cloud.device.type != "cpu" or cloud.dtype != torch.float32:
        cloud.means.add_(_noise_torch(cloud, strength, seed, step, min_opacity))
        return
    n = len(cloud)
    status = cpu_library.function("splat_mcmc_noise", _ARGUMENTS, ctypes.c_int32)(
        cpu_library.pointer(cloud.means, torch.float32, (n, 3)),
        cpu_library.pointer(cloud.log_scales, torch.float32, (n, 3)),
        cpu_library.pointer(cloud.quats, torch.float32, (n, 4)),
        cpu_library.pointer(cloud.logit_opacities, torch.float32, (n,)),
        n,
        min_opacity,
        strength,
        seed % 2**64,
        step % 2**64,
    )
    cpu_library.raise_for(status, "moving Gaussians at random")


def mcmc_noise(cloud: GaussianCloud, strength: float, seed: int, step: int, min_opacity: float) -> None:
    """`add_noise` for a float32 cloud on a GPU, with the same random numbers."""
    noise = fill(
        _Noise, means=cloud.means, log_scales=cloud.log_scales, quats=cloud.quats, logits=cloud.logit_opacities
    )
    noise.n, noise.min_opacity, noise.strength = len(cloud), min_opacity, strength
    noise.seed, noise.step = seed % 2**64, step % 2**64
    cuda_launcher.launcher(cloud.device).launch("mcmc", "mcmc_noise", blocks_for(len(cloud), 128), 128, noise)


def _noise_torch(cloud: GaussianCloud, strength: float, seed: int, step: int, min_opacity: float) -> Tensor:
    """(N, 3) the same noise in PyTorch, on any device and in the cloud's dtype."""
    rows = torch.arange(len(cloud), device=cloud.device)
    step_words = (step % 2**32, step >> 32 & 0xFFFFFFFF)
    words = _philox((rows & 0xFFFFFFFF, rows >> 32, *(torch.full_like(rows, word) for word in step_words)), seed)
    unit = [((word >> 8) + 1).to(cloud.dtype) / 2**24 for word in words]
    radius = [(-2 * u.log()).sqrt() for u in (unit[0], unit[2])]
    angle = [2 * torch.pi * u for u in (unit[1], unit[3])]
    normal = torch.stack([radius[0] * angle[0].cos(), radius[0] * angle[0].sin(), radius[1] * angle[1].cos()], -1)
    gate = torch.sigmoid(-100 * (cloud.opacities - min_opacity))
    gate = torch.where(gate >= _GATE_MIN, gate * strength, torch.zeros_like(gate))
    return (cloud.covariances @ (normal * gate[:, None])[..., None])[..., 0]


def _philox(counter: tuple[Tensor, ...], key: int) -> tuple[Tensor, ...]:
    """Philox4x32-10 (Salmon et al. 2011) on four int64 tensors that hold 32-bit words."""
    c0, c1, c2, c3 = counter
    k0, k1 = key & 0xFFFFFFFF, key >> 32 & 0xFFFFFFFF
    for _ in range(10):
        high0, low0 = _wide_product(c0, 0xD2511F53)
        high1, low1 = _wide_product(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _wide_product(a: Tensor, b: int) -> tuple[Tensor, Tensor]:
    """High and low word of a·b for 32-bit words held in int64, by 16-bit halves so that nothing overflows the sign."""
    low_part = (a & 0xFFFF) * b
    high_part = (a >> 16) * b + (low_part >> 16)
    return high_part >> 16, (high_part << 16 | low_part & 0xFFFF) & 0xFFFFFFFF
