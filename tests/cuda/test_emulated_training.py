"""The training step's CUDA kernels, run by the emulation, against autograd, PyTorch's Adam and worked equations."""

import pytest
import torch
from support.cases import case, expected, random_cloud
from support.emulator import Emulator

from splat.cloud import FIELDS
from splat.native import cuda_launcher
from splat.native.cuda_structs import adam
from splat.ops import adam as optimizer
from splat.ops.adam import AdamHyper, AdamState
from splat.ops.mcmc_noise import _noise_torch, mcmc_noise
from splat.ops.mcmc_relocation import mcmc_relocate
from splat.ops.photometric_loss import compare_images
from splat.rendering import cuda
from splat.rendering.fused_step import Statistics
from splat.rendering.types import ImageGradients


@pytest.fixture(autouse=True)
def emulated():
    with cuda_launcher.use(Emulator()):
        yield


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


def blurred(picture: torch.Tensor) -> torch.Tensor:
    """(H, W, 3) float64 under the window of SSIM, zeros around: 11 taps, σ = 1.5 px."""
    taps = torch.exp(-(torch.arange(11, dtype=torch.float64) - 5).square() / 4.5)
    window = torch.outer(taps, taps) / taps.sum() ** 2
    planes = picture.permute(2, 0, 1)[:, None]
    return torch.nn.functional.conv2d(planes, window[None, None], padding=5)[:, 0].permute(1, 2, 0)


def ssim_map(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """SSIM (Wang et al. 2004) around every pixel and channel, differentiable."""
    x, y = blurred(a), blurred(b)
    xx, yy, xy = blurred(a * a) - x * x, blurred(b * b) - y * y, blurred(a * b) - x * y
    return (2 * x * y + 1e-4) * (2 * xy + 9e-4) / ((x * x + y * y + 1e-4) * (xx + yy + 9e-4))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(33, 41), (16, 16), (5, 3)])
def test_image_loss_equals_autograd(size, masked: bool):
    weight = 0.3
    rgb = 1.4 * random(*size, 3) - 0.2
    target = (255 * random(*size, 3, seed=1)).to(torch.uint8)
    mask = random(*size, seed=2) > 0.3 if masked else None
    keep = torch.ones(*size, 1, dtype=torch.float64) if mask is None else mask[..., None].double()
    leaf = rgb.double().requires_grad_()
    x, y = leaf * keep, target.double() / 255 * keep
    count = 3 * keep.sum()
    l1, ssim = (x - y).abs().sum() / count, (ssim_map(x, y) * keep).sum() / count
    ((1 - weight) * l1 + weight * (1 - ssim)).backward()
    sums, grad = compare_images(rgb, target, mask, weight, gradient=True)
    assert float(sums[3]) == float(keep.sum())
    assert float(sums[0] / count) == pytest.approx(l1.item(), rel=1e-5)
    assert float(sums[1] / count) == pytest.approx(ssim.item(), rel=1e-4)
    assert float(sums[2] / count) == pytest.approx((((x.clamp(0, 1) - y) ** 2).sum() / count).item(), rel=1e-5)
    assert float((grad - leaf.grad).abs().max()) < 1e-4 * float(leaf.grad.abs().max())


def test_image_loss_of_a_picture_without_valid_pixels():
    rgb, target = random(8, 8, 3), torch.zeros(8, 8, 3, dtype=torch.uint8)
    sums, grad = compare_images(rgb, target, torch.zeros(8, 8, dtype=torch.bool), 0.2, gradient=True)
    assert not sums.any() and not grad.any()


def test_adam_equals_pytorch():
    tensor = random(37, 5).requires_grad_()
    own, moments = tensor.detach().clone(), (torch.zeros(37, 5), torch.zeros(37, 5))
    peer = torch.optim.Adam([tensor], lr=0.01, eps=1e-15)
    for step in range(1, 4):
        tensor.grad = random(37, 5, seed=step) - 0.5
        constants = adam(step, 0.9, 0.999, 1e-15)
        bad = optimizer.adam_rows(own, moments, tensor.grad, optimizer.RowRates(5, 0.01, 0.0), constants)
        peer.step()
        assert int(bad) == 2**31 - 1
    assert torch.allclose(own, tensor.detach(), atol=1e-6)


def test_adam_leaves_hidden_and_faulty_rows_alone_and_knows_two_rates():
    tensor, gradient = random(100, 4, 3), random(100, 4, 3, seed=1) + 0.1
    gradient[70, 2, 1], gradient[90, 0, 0] = float("nan"), float("inf")
    visible = torch.arange(100) % 3 != 0
    before, moments = tensor.clone(), (torch.zeros_like(tensor), torch.zeros_like(tensor))
    rates = optimizer.RowRates(3, 0.5, 0.25)
    bad = optimizer.adam_rows(tensor, moments, gradient, rates, adam(1, 0.9, 0.999, 0.0, False), visible)
    assert int(bad) == 70
    touched = visible.clone()
    touched[[70, 90]] = False
    assert torch.equal(tensor[~touched], before[~touched]) and not moments[0][~touched].any()
    # The first step without bias correction: lr · 0.1 g / √(0.001 g²)
    moved = (before - tensor)[touched] / (0.1 / 0.001**0.5)
    assert torch.allclose(moved[:, 0], torch.tensor(0.5), rtol=1e-4) and torch.allclose(
        moved[:, 1:], torch.tensor(0.25), rtol=1e-4
    )


@pytest.mark.parametrize("visible_only", [False, True])
def test_adam_of_a_whole_cloud_equals_the_cores(visible_only: bool, monkeypatch):
    clouds = [random_cloud(40, 2, 1).to(dtype=torch.float32) for _ in range(2)]
    gradients = {name: torch.randn_like(getattr(clouds[0], name)) for name in FIELDS}
    gradients["quats"][7, 1] = float("nan")
    visible = torch.arange(40) % 3 > 0
    hyper = AdamHyper(
        2, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, visible_only=visible_only, opacity_reg=0.01, scale_reg=0.02
    )
    states = [AdamState.zeros(cloud) for cloud in clouds]
    assert optimizer.adam_step(clouds[0], gradients, states[0], hyper, visible) == ("quats",)
    monkeypatch.setattr(cuda_launcher, "runs_on", lambda tensor: True)
    assert optimizer.adam_step(clouds[1], gradients, states[1], hyper, visible) == ("quats",)
    for name in FIELDS:
        wanted, found = (getattr(cloud, name) for cloud in clouds)
        assert torch.allclose(found, wanted, atol=1e-6), name
        assert torch.allclose(states[1].v[name], states[0].v[name], atol=1e-9)


@pytest.mark.parametrize("visible_only", [False, True])
def test_fused_adam_equals_gradients_followed_by_adam(visible_only: bool):
    this, upstream = case("fewer_bands"), expected("fewer_bands").upstream
    cloud = this.cloud.to(dtype=torch.float32)
    hidden = random_cloud(3, 3, 1).to(dtype=torch.float32)  # behind the camera: Adam still moves them if it moves all
    hidden = hidden.replace(means=hidden.means - 50 * this.camera.forward.float())
    cloud = cloud.concat([cloud, hidden])
    moments = AdamState.zeros(cloud)
    for name in FIELDS:
        moments.m[name] += 1e-4 * (random(*moments.m[name].shape, seed=3) - 0.5)
        moments.v[name] += 1e-8 * random(*moments.v[name].shape, seed=4)
    hyper = AdamHyper(
        7, 1e-3, 2e-3, 3e-3, 4e-3, 5e-3, 6e-3, visible_only=visible_only, opacity_reg=0.01, scale_reg=0.02
    )
    rendering, context = cuda.forward(cloud, this.camera, this.options)
    given = ImageGradients(rgb=upstream.rgb.float(), alpha=upstream.alpha.float())
    found = cuda.backward(context, given)

    wanted, wanted_moments = (
        cloud.clone(),
        {name: (moments.m[name].clone(), moments.v[name].clone()) for name in FIELDS},
    )
    constants = adam(7, 0.9, 0.999, 1e-15, not visible_only)
    visible = rendering.visible if visible_only else None
    rates = {"means": 1e-3, "log_scales": 2e-3, "quats": 3e-3, "logit_opacities": 4e-3}
    used = 12  # SH values of degree 1; the bands beyond stay as they are
    for name in FIELDS:
        tensor, gradient = getattr(wanted, name), getattr(found, name)
        kind, weight = {"logit_opacities": (1, 0.01), "log_scales": (2, 0.02)}.get(name, (0, 0.0))
        rate = optimizer.RowRates(3 if name == "sh" else 4, rates.get(name, 5e-3), 6e-3)
        weight /= tensor.numel()
        optimizer.adam_rows(tensor, wanted_moments[name], gradient, rate, constants, visible, kind, weight)

    higher = cloud.sh.flatten(1)[:, used:].clone()
    half = torch.tensor([this.camera.width / 2, this.camera.height / 2])
    zeros = [torch.zeros(len(cloud)) for _ in range(3)]
    statistics = Statistics(*zeros)
    result = cuda.backward_adam(context, given, moments, hyper, statistics)
    assert result.nonfinite == () and torch.allclose(result.world_to_camera, found.world_to_camera, atol=1e-7)
    for name in FIELDS:
        got, right = getattr(cloud, name), getattr(wanted, name)
        if name == "sh":
            got, right = got.flatten(1)[:, :used], right.flatten(1)[:, :used]
        assert torch.allclose(got, right, atol=1e-6), name
    assert torch.equal(cloud.sh.flatten(1)[:, used:], higher)
    seen = rendering.visible.float()
    assert torch.allclose(statistics.grad2d, (found.means2d * half).norm(dim=1) * seen, atol=1e-6)
    assert torch.allclose(statistics.grad2d_abs, (found.means2d_abs * half).norm(dim=1) * seen, atol=1e-6)
    assert torch.equal(statistics.count, seen)


def test_fused_adam_names_faulty_tensors_and_leaves_their_rows():
    this = case("plain")
    cloud = this.cloud.to(dtype=torch.float32)
    before, moments = cloud.clone(), AdamState.zeros(cloud)
    rendering, context = cuda.forward(cloud, this.camera, this.options)
    upstream = torch.zeros_like(rendering.rgb)
    upstream[20, 30] = float("inf")
    result = cuda.backward_adam(context, ImageGradients(rgb=upstream), moments, AdamHyper(1, *[1e-2] * 6))
    assert set(result.nonfinite) >= {"means", "sh"}
    assert bool(cloud.finite().all()) and bool((cloud.means != before.means).any(1).sum() == 0)


def test_noise_has_the_same_random_numbers_as_the_cpu():
    cloud = random_cloud(300, 0, 8).to(dtype=torch.float32)
    cloud = cloud.replace(logit_opacities=cloud.logit_opacities - 3.0)
    wanted = _noise_torch(cloud.to(dtype=torch.float64), 50.0, 123456789012345, 7, 0.1)
    before = cloud.means.clone()
    mcmc_noise(cloud, 50.0, 123456789012345, 7, 0.1)
    assert float(wanted.abs().max()) > 1e-3
    assert torch.allclose((cloud.means - before).double(), wanted, atol=2e-5 * float(wanted.abs().max()))


def test_relocation_keeps_the_sum_of_the_copies():
    # Vectors (opacity, copies) → (o', s'/s) worked out in float64 from equation 9 of the paper.
    vectors = [(0.5, 2, 0.2929, 0.9522), (0.5, 10, 0.0670, 0.9161), (0.9, 2, 0.6838, 0.8679), (0.99, 3, 0.7846, 0.7462)]
    vectors += [(0.99, 10, 0.3690, 0.6674), (0.1, 2, 0.0513, 0.9923), (0.3, 1, 0.3, 1.0)]
    logits = torch.logit(torch.tensor([v[0] for v in vectors]))
    new_logits, new_scales = mcmc_relocate(
        logits, torch.zeros(len(vectors), 3), torch.tensor([v[1] for v in vectors]), 0.005
    )
    assert torch.allclose(new_logits.sigmoid(), torch.tensor([v[2] for v in vectors]), atol=1e-4)
    assert torch.allclose(new_scales.exp(), torch.tensor([v[3] for v in vectors])[:, None].expand(-1, 3), atol=1e-4)
