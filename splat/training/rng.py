"""Random numbers that depend only on (seed, purpose, step), so that a resumed run draws what the first would have."""

import zlib

import torch
from torch import Tensor


def generator(seed: int, purpose: str, step: int = 0) -> torch.Generator:
    """A CPU generator of its own for one purpose at one step."""
    return torch.Generator().manual_seed(mix_seed(seed, purpose, step))


def mix_seed(seed: int, purpose: str, step: int = 0) -> int:
    """A well-mixed 63-bit number for (seed, purpose, step): SplitMix64 (Steele et al. 2014) over the three."""
    state = 0
    for value in (seed, zlib.crc32(purpose.encode()), step):
        state = _mix((state ^ value) & _ALL)
    return state >> 1


_ALL = 2**64 - 1


def _mix(value: int) -> int:
    value = (value + 0x9E3779B97F4A7C15) & _ALL
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _ALL
    return value ^ (value >> 31)


def photo_at(seed: int, step: int, photos: int) -> int:
    """Which of ``photos`` photos step ``step`` (from 0) uses: each epoch is a fresh shuffle without replacement."""
    epoch, position = divmod(step, photos)
    return int(torch.randperm(photos, generator=generator(seed, "order", epoch))[position])


def draw(weights: Tensor, count: int, source: torch.Generator) -> Tensor:
    """``count`` indices (int64, CPU order) drawn ∝ ``weights`` (N,) ≥ 0, with replacement.

    By inverting the cumulative sum in float64, which has no limit on N (torch.multinomial stops at 2²⁴).
    """
    total = weights.to(torch.float64).cumsum(0)
    uniform = torch.rand(count, dtype=torch.float64, generator=source).to(weights.device)
    index = torch.searchsorted(total, uniform * total[-1], right=True)
    return index.clamp_max(weights.numel() - 1)
