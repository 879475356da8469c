"""The fused L1 + SSIM loss against plain float64 PyTorch, in every build variant."""

import pytest
import torch
from torch.nn.functional import conv2d

from splat.native import cpu_library
from splat.ops import photometric_loss
from splat.ops.photometric_loss import _loss_torch, image_loss

VARIANTS = cpu_library.variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="the CPU core is not built")
SIZES = [(1, 1), (5, 7), (1, 40), (33, 2), (20, 96), (23, 97), (281, 100), (64, 211)]


@pytest.fixture(params=VARIANTS)
def variant(request):
    with cpu_library.use_variant(request.param):
        yield request.param


def _pictures(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A rendering around a photo of smooth shapes, flat areas and noise."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    waves = torch.stack([(x / 9).sin() * (y / 7).cos(), (x / 3 + y / 5).sin(), (y / 4).cos()], -1)
    target = (0.5 + 0.4 * waves + 0.05 * torch.randn(height, width, 3, generator=generator)).clamp(0, 1)
    target[: height // 3] = 0.25
    rgb = target + 0.1 * torch.randn(height, width, 3, generator=generator)
    return rgb.float(), (target * 255).round().to(torch.uint8)


def _reference(rgb, target, mask, weight):
    """(loss, l1, ssim, mse, gradient) by autograd on a two-dimensional window, in float64."""
    offsets = torch.arange(-5, 6, dtype=torch.float64)
    line = torch.exp(-(offsets**2) / (2 * 1.5**2))
    line = line / line.sum()
    window = torch.outer(line, line).expand(3, 1, 11, 11)

    def blur(image):
        return conv2d(image.permute(2, 0, 1)[None], window, padding=5, groups=3)[0].permute(1, 2, 0)

    x = rgb.double().requires_grad_()
    valid = torch.ones(rgb.shape[:2], dtype=torch.bool) if mask is None else mask
    zeroed = torch.where(valid[..., None], x, torch.zeros((), dtype=torch.float64))
    y = target.double() / 255 * valid[..., None]
    mx, my = blur(zeroed), blur(y)
    vx, vy, cov = blur(zeroed**2) - mx**2, blur(y**2) - my**2, blur(zeroed * y) - mx * my
    ssim_map = (2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
    if not valid.any():
        return 0.0, 0.0, 1.0, 0.0, torch.zeros_like(rgb)
    l1 = (zeroed - y).abs()[valid].mean()
    ssim = ssim_map[valid].mean()
    mse = ((zeroed.clamp(0, 1) - y) ** 2)[valid].mean()
    loss = (1 - weight) * l1 + weight * (1 - ssim)
    loss.backward()
    return loss.item(), l1.item(), ssim.item(), mse.item(), x.grad


def _agree(found, expected) -> None:
    loss, l1, ssim, mse, grad = expected
    assert found.loss == pytest.approx(loss, abs=2e-6)
    assert found.l1 == pytest.approx(l1, abs=1e-6)
    assert found.ssim == pytest.approx(ssim, abs=1e-5)
    assert found.mse == pytest.approx(mse, abs=1e-7)
    scale = grad.abs().max().clamp_min(1e-30)
    assert ((found.grad - grad).abs().max() / scale).item() < 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("masked", [False, True])
def test_equals_float64_pytorch(variant, size, masked):
    rgb, target = _pictures(*size)
    mask = torch.rand(size, generator=torch.Generator().manual_seed(3)) < 0.7 if masked else None
    for weight in (0.2, 1.0):
        _agree(image_loss(rgb, target, mask, weight), _reference(rgb, target, mask, weight))


def test_a_rectangular_mask_at_the_border(variant):
    rgb, target = _pictures(50, 130)
    mask = torch.ones(50, 130, dtype=torch.bool)
    mask[:13, 90:] = False
    rgb[:13, 90:] = float("nan")  # what lies under the mask must not matter
    found = image_loss(rgb, target, mask)
    _agree(found, _reference(torch.where(mask[..., None], rgb, torch.zeros(())), target, mask, 0.2))
    assert torch.equal(found.grad[:13, 90:], torch.zeros(13, 40, 3))


def test_everything_masked(variant):
    rgb, target = _pictures(20, 30)
    found = image_loss(rgb, target, torch.zeros(20, 30, dtype=torch.bool))
    assert (found.loss, found.l1, found.ssim, found.mse, found.pixels) == (0, 0, 1, 0, 0)
    assert torch.equal(found.grad, torch.zeros_like(rgb))


def test_equal_pictures_have_no_loss(variant):
    _, target = _pictures(40, 120)
    rgb = (target.float() * torch.tensor(1 / 255)).contiguous()
    found = image_loss(rgb, target)
    assert found.loss == pytest.approx(0, abs=1e-6)
    assert found.ssim == pytest.approx(1, abs=1e-6)
    assert found.grad.abs().max() < 1e-7


def test_without_gradient_the_values_are_the_same(variant):
    rgb, target = _pictures(281, 100)
    full, values = image_loss(rgb, target), image_loss(rgb, target, gradient=False)
    assert values.grad is None
    assert (full.l1, full.ssim, full.mse) == (values.l1, values.ssim, values.mse)


def test_any_number_of_threads_gives_the_same_bits(variant):
    rgb, target = _pictures(300, 400)
    results = []
    try:
        for count in (1, 2, 5):
            cpu_library.set_threads(count)
            results.append(image_loss(rgb, target))
    finally:
        cpu_library.set_threads(0)
    for other in results[1:]:
        assert torch.equal(other.grad, results[0].grad)
        assert (other.l1, other.ssim, other.mse) == (results[0].l1, results[0].ssim, results[0].mse)


def test_a_not_finite_rendering_shows_in_the_loss(variant):
    rgb, target = _pictures(20, 30)
    rgb[7, 8, 1] = float("nan")
    assert image_loss(rgb, target).loss != image_loss(rgb, target).loss


@pytest.mark.parametrize("masked", [False, True])
def test_the_pytorch_loss_of_other_devices_agrees(masked):
    rgb, target = _pictures(31, 45)
    mask = torch.rand(31, 45, generator=torch.Generator().manual_seed(3)) < 0.7 if masked else None
    _agree(_loss_torch(rgb.double(), target, mask, 0.2, True), _reference(rgb, target, mask, 0.2))
    nothing = _loss_torch(rgb, target, torch.zeros(31, 45, dtype=torch.bool), 0.2, True)
    assert (nothing.loss, nothing.ssim, nothing.pixels) == (0, 1, 0) and not nothing.grad.any()


@pytest.mark.parametrize(("pixels", "expected"), [(0, (0, 1, 0)), (1, (0.5, 0.25, 0.125)), (2, (0.25, 0.125, 0.0625))])
def test_sums_of_a_gpu_become_means_over_the_pixels_that_count(monkeypatch, pixels, expected):
    sums = torch.tensor([1.5, 0.75, 0.375, float(pixels)]) * (pixels > 0)
    monkeypatch.setattr(photometric_loss, "compare_images", lambda *arguments: (sums, None))
    found = photometric_loss._loss_gpu(torch.zeros(4, 5, 3), torch.zeros(4, 5, 3, dtype=torch.uint8), None, 0.2, False)
    assert (found.l1, found.ssim, found.mse, found.pixels) == (*expected, pixels)


def test_wrong_shapes_are_refused():
    rgb, target = _pictures(4, 5)
    with pytest.raises(ValueError, match="target has shape"):
        image_loss(rgb, target[:3])
    with pytest.raises(ValueError, match="mask has shape"):
        image_loss(rgb, target, torch.ones(5, 4, dtype=torch.bool))
    with pytest.raises(ValueError, match="float32"):
        image_loss(rgb.double(), target)
    for weight in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="ssim_weight"):
            image_loss(rgb, target, None, weight)
    assert image_loss(rgb, target, None, 0.0).loss == pytest.approx(float((rgb - target / 255).abs().mean()), rel=1e-5)
