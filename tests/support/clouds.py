"""Clouds to write and read back, and ways to compare."""

import numpy as np
import torch
from hypothesis import strategies as st

from splat.cloud import FIELDS, GaussianCloud


def cloud_of(count: int, degree: int = 3, seed: int = 0, size: float = 1.0) -> GaussianCloud:
    """A plausible random cloud: distinct centres, scales around e^-4, mild colours."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    sh = 0.2 * normal(count, (degree + 1) ** 2, 3)
    sh[:, 1:].clamp_(-0.8, 0.8)
    quats = normal(count, 4) * (1 + torch.rand(count, 1, generator=random))
    return GaussianCloud(size * normal(count, 3), normal(count, 3).clamp(-3, 3) - 4, quats, 2 * normal(count), sh)


@st.composite
def clouds(draw) -> GaussianCloud:
    """Any cloud a file may have to hold: empty, single, flat, huge, opaque, invisible, unnormalised, of SH 0 to 3."""
    cloud = cloud_of(draw(st.sampled_from([0, 1, 2, 5, 300])), draw(st.integers(0, 3)), draw(st.integers(0, 99)))
    if len(cloud) == 0:
        return cloud
    scale = draw(st.sampled_from([1.0, 1e-3, 50.0]))
    cloud = cloud.replace(means=cloud.means * scale + draw(st.sampled_from([0.0, 100.0])))
    log_scales, logits, quats = cloud.log_scales.clone(), cloud.logit_opacities.clone(), cloud.quats.clone()
    log_scales[0] = draw(st.sampled_from([-30.0, -9.0, 0.0, 5.0]))
    logits[0] = draw(st.sampled_from([-torch.inf, -40.0, 0.0, 40.0, torch.inf]))
    quats[0] *= draw(st.sampled_from([1e-20, 1.0, 1e15]))
    means = cloud.means.clone()
    if draw(st.booleans()):
        means[:] = means[0]  # no extent at all
    sh = cloud.sh * draw(st.sampled_from([0.0, 1.0]))
    return GaussianCloud(means, log_scales, quats, logits, sh)


def same_bits(a: GaussianCloud, b: GaussianCloud) -> bool:
    """Whether every tensor, extras included, is equal bit for bit."""
    main = all(_bits(getattr(a, name), getattr(b, name)) for name in FIELDS)
    return main and set(a.extras) == set(b.extras) and all(_bits(a.extras[name], b.extras[name]) for name in a.extras)


def _bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.numpy().tobytes() == b.numpy().tobytes()


def angles(a: GaussianCloud, b: GaussianCloud) -> torch.Tensor:
    """(N,) degrees between the rotations of two clouds."""

    def unit(quats: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.normalize(quats.double() / quats.double().abs().amax(1, keepdim=True), dim=1)

    dot = (unit(a.quats) * unit(b.quats)).sum(1).abs()
    # 2 asin of half the chord: precise for small angles, where the arc cosine is not.
    return torch.rad2deg(4 * torch.arcsin(((1 - dot.clamp(max=1)) / 2).sqrt()))


def padded(cloud: GaussianCloud, degree: int) -> GaussianCloud:
    """``cloud`` with SH of ``degree``: writers may leave out bands that are all zero."""
    return cloud.with_sh_degree(degree)


def half_steps(values: np.ndarray, steps: float) -> float:
    """Half a quantization step of ``steps`` over the range of ``values``."""
    return float(np.ptp(values)) / steps / 2 if values.size else 0.0
