"""Exploration noise and relocation of MCMC: published test vectors, statistics, brute force, bit-determinism."""

import ctypes
import math

import pytest
import torch
from support.emulator import Emulator

from splat.cloud import GaussianCloud
from splat.native import cpu_library, cuda_launcher
from splat.ops.mcmc_noise import _philox, add_noise, mcmc_noise
from splat.ops.mcmc_relocation import relocate

VARIANTS = cpu_library.variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="the CPU core is not built")


@pytest.fixture(params=VARIANTS)
def variant(request):
    with cpu_library.use_variant(request.param):
        yield request.param


def _cloud(n: int, seed: int = 0, opacity: float | None = None, dtype=torch.float32) -> GaussianCloud:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, generator=generator, dtype=torch.float64) * 2 - 4
    if opacity is not None:
        logits = torch.full((n,), math.log(opacity / (1 - opacity)), dtype=torch.float64)
    return GaussianCloud(
        means=torch.zeros(n, 3, dtype=torch.float64),
        log_scales=torch.randn(n, 3, generator=generator, dtype=torch.float64) - 1,
        quats=torch.randn(n, 4, generator=generator, dtype=torch.float64) * 3,
        logit_opacities=logits,
        sh=torch.zeros(n, 1, 3, dtype=torch.float64),
    ).to(dtype=dtype)


# The known answers that come with Random123 (Salmon et al. 2011): counter, key, result.
KNOWN = [
    ([0] * 4, [0] * 2, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, [0xFFFFFFFF] * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        [0xA4093822, 0x299F31D0],
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_random_words_match_the_published_vectors(variant, counter, key, expected):
    words = (ctypes.c_uint32 * 4)(*counter)
    whole = key[1] << 32 | key[0]
    cpu_library.function("splat_test_philox", [ctypes.c_void_p, ctypes.c_int64, ctypes.c_uint64])(words, 1, whole)
    assert list(words) == expected
    assert [int(word) for word in _philox(tuple(torch.tensor([word]) for word in counter), whole)] == expected


def test_cpp_cuda_and_pytorch_draw_the_same_numbers(variant):
    """Philox is written three times; with keys, steps and rows that fill both words each, all of them agree."""
    seed, step, strength = 2**63 + 12345, 2**33 + 7, 0.7
    exact, compiled, emulated = _cloud(2003, dtype=torch.float64), _cloud(2003), _cloud(2003)
    add_noise(exact, strength, seed, step)
    add_noise(compiled, strength, seed, step)
    with cuda_launcher.use(Emulator()):
        mcmc_noise(emulated, strength, seed, step, 0.005)
    scale = exact.means.abs().amax(1, keepdim=True) + 1e-9
    for other in (compiled, emulated):
        assert float(other.means.abs().max()) > 0.1
        assert float(((other.means.double() - exact.means).abs() / scale).max()) < 1e-4


@pytest.mark.parametrize("n", [1, 5, 1003])
def test_noise_equals_float64_pytorch(variant, n):
    cloud, exact = _cloud(n), _cloud(n, dtype=torch.float64)
    for step in (1, 2**33 + 7):
        add_noise(cloud, 0.7, seed=2**63 + 12345, step=step)
        add_noise(exact, 0.7, seed=2**63 + 12345, step=step)
    scale = exact.means.abs().amax(1, keepdim=True) + 1e-9
    assert ((cloud.means.double() - exact.means).abs() / scale).max() < 1e-4


def test_noise_is_normal_with_the_squared_covariance(variant):
    """Equal Gaussians far below the gate: displacements must have covariance Σ·Σᵀ·strength²."""
    n = 200_000
    one = _cloud(1, seed=4)
    quats, log_scales = one.quats.expand(n, 4).contiguous(), one.log_scales.expand(n, 3).contiguous()
    cloud = _cloud(n, opacity=1e-6).replace(quats=quats, log_scales=log_scales)
    add_noise(cloud, 2.0, seed=1, step=1)
    sigma = one.covariances[0].double()
    gate = 1 / (1 + math.exp(100 * (1e-6 - 0.005)))
    expected = sigma @ sigma * (2 * gate) ** 2
    found = cloud.means.double().T.cov()
    assert (found - expected).norm() / expected.norm() < 0.02
    assert (cloud.means.double().mean(0).abs() < 5 * (expected.diagonal() / n).sqrt()).all()
    whitened = cloud.means.double() @ torch.linalg.inv(sigma) / (2 * gate)
    assert (whitened**4).mean(0) == pytest.approx([3, 3, 3], rel=0.05)


def test_opaque_gaussians_stay(variant):
    cloud = _cloud(100, opacity=0.5)
    add_noise(cloud, 100.0, seed=1, step=1)
    assert not cloud.means.any()


def test_noise_depends_on_seed_and_step_alone(variant):
    def noise(n: int, seed: int, step: int) -> torch.Tensor:
        cloud = _cloud(1, opacity=1e-3).select(torch.zeros(n, dtype=torch.int64))
        add_noise(cloud, 1.0, seed, step)
        return cloud.means

    base = noise(20_000, 7, 3)
    try:
        for count in (1, 3):
            cpu_library.set_threads(count)
            assert torch.equal(noise(20_000, 7, 3), base)
    finally:
        cpu_library.set_threads(0)
    assert torch.equal(noise(333, 7, 3), base[:333])
    for other in (noise(20_000, 8, 3), noise(20_000, 7, 4)):
        assert abs(torch.corrcoef(torch.stack([base[:, 0], other[:, 0]]))[0, 1]) < 0.03
    assert len(torch.unique(base, dim=0)) == 20_000


def _brute(opacity: float, n: int) -> tuple[float, float]:
    """New opacity and scale factor by the double sum of the paper."""
    new = 1 - (1 - opacity) ** (1 / n)
    total = sum(
        math.comb(i - 1, k) * (-1) ** k / math.sqrt(k + 1) * new ** (k + 1) for i in range(1, n + 1) for k in range(i)
    )
    return new, opacity / total


# (o, n) → (o', s'/s), from the survey of the original.
VECTORS = [
    (0.5, 2, 0.2929, 0.9522),
    (0.5, 10, 0.0670, 0.9161),
    (0.9, 2, 0.6838, 0.8679),
    (0.99, 3, 0.7846, 0.7462),
    (0.99, 10, 0.3690, 0.6674),
    (0.1, 2, 0.0513, 0.9923),
]


def _relocated(opacity: float, n: int) -> tuple[float, torch.Tensor]:
    logits = torch.tensor([math.log(opacity / (1 - opacity))])
    log_scales = torch.tensor([[0.3, -2.0, 1.0]])
    new_logits, new_scales = relocate(logits, log_scales, torch.tensor([n]))
    return new_logits.sigmoid().item(), (new_scales - log_scales).exp()[0]


@pytest.mark.parametrize(("opacity", "n", "new", "factor"), VECTORS)
def test_relocation_matches_the_published_vectors(variant, opacity, n, new, factor):
    found, factors = _relocated(opacity, n)
    assert found == pytest.approx(new, abs=6e-5)
    assert factors.tolist() == pytest.approx([factor] * 3, abs=6e-5)


@pytest.mark.parametrize("opacity", [0.3, 0.7, 0.999])
@pytest.mark.parametrize("n", [1, 2, 5, 30, 51])
def test_relocation_matches_the_double_sum(variant, opacity, n):
    found, factors = _relocated(opacity, n)
    new, factor = _brute(opacity, n)
    assert found == pytest.approx(new, rel=1e-5)
    assert factors.tolist() == pytest.approx([factor] * 3, rel=1e-5)


def test_relocation_limits(variant):
    assert _relocated(0.02, 51)[0] == pytest.approx(0.005, rel=1e-5)
    assert _relocated(0.9, 51)[0] == _relocated(0.9, 4000)[0]
    logits, scales = relocate(torch.tensor([40.0, -3.0]), torch.zeros(2, 3), torch.tensor([3, 1]))
    assert logits.isfinite().all() and scales.isfinite().all()
    assert logits[1].item() == pytest.approx(-3.0, abs=1e-5) and not scales[1].any()
    empty = relocate(torch.zeros(0), torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64))
    assert empty[0].shape == (0,) and empty[1].shape == (0, 3)
    with pytest.raises(ValueError, match="shapes"):
        relocate(torch.zeros(2), torch.zeros(2, 3), torch.zeros(3))
