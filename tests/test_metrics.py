"""PSNR and SSIM against scipy's filters and worked numbers; LPIPS without its weights."""

import math
import sys
import types
import warnings

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter1d

from splat import metrics
from splat.errors import InputError


def pictures(seed: int = 0, height: int = 37, width: int = 52) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(height, width, 3, generator=generator)
    return a, (a + 0.1 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)


def ssim_by_scipy(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """SSIM map from scipy's Gaussian filter (radius 5, zeros outside)."""

    def blur(x):
        for axis in (0, 1):
            x = gaussian_filter1d(x, 1.5, axis=axis, mode="constant", radius=5)
        return x

    ma, mb = blur(a), blur(b)
    va, vb, cov = blur(a * a) - ma**2, blur(b * b) - mb**2, blur(a * b) - ma * mb
    return (2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))


def test_psnr_of_a_known_error():
    a = torch.full((4, 6, 3), 0.5)
    assert metrics.psnr(a, a + 0.1) == pytest.approx(20.0, abs=1e-5)
    assert metrics.psnr(a, a) == math.inf
    assert metrics.psnr(torch.ones(4, 6, 3), torch.full((4, 6, 3), 1.7)) == math.inf  # both show as white


def test_psnr_counts_masked_pixels_only():
    a = torch.zeros(4, 6, 3)
    b = a.clone()
    b[:2] = 0.1
    b[2:] = 0.9
    mask = torch.zeros(4, 6, dtype=torch.bool)
    mask[:2] = True
    assert metrics.psnr(a, b, mask) == pytest.approx(20.0, abs=1e-5)


@pytest.mark.parametrize("seed", range(3))
def test_ssim_equals_scipy(seed):
    a, b = pictures(seed)
    expected = ssim_by_scipy(a.double().numpy(), b.double().numpy())
    assert metrics.ssim(a, b) == pytest.approx(expected.mean(), abs=1e-12)
    assert metrics.ssim(a, a) == pytest.approx(1.0, abs=1e-12)


def test_ssim_with_a_mask_zeroes_and_averages_over_the_rest():
    a, b = pictures()
    mask = torch.rand(a.shape[:2], generator=torch.Generator().manual_seed(5)) > 0.4
    m = mask.numpy()
    expected = ssim_by_scipy(a.double().numpy() * m[..., None], b.double().numpy() * m[..., None])[m].mean()
    assert metrics.ssim(a, b, mask) == pytest.approx(expected, abs=1e-12)
    assert metrics.ssim(a, b, torch.ones_like(mask)) == metrics.ssim(a, b)
    changed = torch.where(mask[..., None], b, 0.123)
    assert metrics.ssim(a, changed, mask) == metrics.ssim(a, b, mask)


def test_wrong_inputs_are_named():
    a, b = pictures()
    with pytest.raises(InputError, match="shapes"):
        metrics.psnr(a, b[:-1])
    with pytest.raises(InputError, match="mask has shape"):
        metrics.ssim(a, b, torch.ones(3, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="no pixel"):
        metrics.psnr(a, b, torch.zeros(a.shape[:2], dtype=torch.bool))
    with pytest.raises(InputError, match="vgg, alex"):
        metrics.lpips(a, b, net="resnet")


def fake_packages(monkeypatch, tmp_path, calls):
    """Stand-ins for `lpips` and `torchvision`, and an empty torch hub cache."""

    class Network:
        def __init__(self, **options):
            calls.append(options)

        def eval(self):
            return self

        def __call__(self, a, b):
            return (a - b).abs().mean()

    for name in ("lpips", "torchvision"):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(name=name)
        monkeypatch.setitem(sys.modules, name, module)
    sys.modules["lpips"].LPIPS = Network
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    metrics._lpips_model.cache_clear()


def test_lpips_says_once_what_is_missing_and_never_loads_without_weights(monkeypatch, tmp_path):
    calls = []
    fake_packages(monkeypatch, tmp_path, calls)
    a, b = pictures()
    with pytest.warns(UserWarning, match="vgg16-397923af.pth"):
        assert metrics.lpips(a, b) is None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert metrics.lpips(a, b) is None
    assert calls == []
    metrics._lpips_model.cache_clear()


def test_lpips_scales_pictures_to_plus_minus_one(monkeypatch, tmp_path):
    calls = []
    fake_packages(monkeypatch, tmp_path, calls)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "vgg16-397923af.pth").touch()
    a, b = pictures()
    assert metrics.lpips(a, b) == pytest.approx(2 * float((a - b).abs().mean()), rel=1e-5)
    assert calls == [{"net": "vgg", "version": "0.1", "verbose": False}]
    metrics._lpips_model.cache_clear()
