"""N-channel features: every backend against blending weights times features, written out in float64."""

from dataclasses import replace

import pytest
import torch
from support.cases import GRADIENT_TOLERANCE, IMAGE_TOLERANCE, case, expected
from support.emulator import Emulator
from torch import Tensor

import splat
from splat.cloud import FIELDS, GaussianCloud
from splat.native import cuda_launcher
from splat.rendering import backends, check_backend, cuda, reference

BACKENDS = ["reference", "cpu", "emulated", pytest.param("cuda", marks=pytest.mark.gpu)]
NAMES = ["plain", "antialiased", "degenerate", "off_centre"]


@pytest.fixture(params=BACKENDS)
def backend(request, monkeypatch):
    """Name and device of a backend that works here; "emulated" is `cuda` on the CPU."""
    if request.param == "emulated":
        on_cpu = replace(cuda.BACKEND, device=torch.device("cpu"), check=lambda: None)
        monkeypatch.setitem(backends.REGISTRY, "emulated", on_cpu)
        backends.check_backend.cache_clear()
        with cuda_launcher.use(Emulator()):
            yield "emulated", on_cpu.device
        backends.check_backend.cache_clear()
        return
    if check_backend(request.param) is not None:
        pytest.skip(check_backend(request.param))
    yield request.param, backends.REGISTRY[request.param].device


def described(count: int) -> Tensor:
    """(count, 5) features whose channels differ widely in size and sign; the last is the same for all."""
    values = torch.randn(count, 5, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    values[:, 4] = 1
    return (values * torch.tensor([1.0, 100.0, 1e-3, 1.0, -2.0])).float().double()


def truth(name: str, tensors: list[Tensor], features: Tensor, pose: Tensor) -> Tensor:
    """(H, W, C) in one go: all pixels' weights αT, (H·W, M), times the features of the M visible Gaussians."""
    this = case(name)
    projection = reference.project(GaussianCloud(*tensors), this.camera, this.options, pose)
    height, width = this.camera.height, this.camera.width
    ys, xs = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    block = reference.Block(ys.flatten(), xs.flatten(), torch.arange(len(projection.rows)))
    centres = projection.means2d.expand(height * width, -1, -1)
    weights, _ = reference.blend_weights(reference.falloffs(projection, block, centres))
    return (weights @ features[projection.rows]).reshape(height, width, -1)


def leaves(name: str, dtype: torch.dtype, device: torch.device) -> tuple[list[Tensor], Tensor, Tensor]:
    """The cloud's tensors, the features and the pose, with gradients."""
    this = case(name)
    cloud = this.cloud.to(device, dtype)
    tensors = [getattr(cloud, field).clone().requires_grad_() for field in FIELDS]
    features = described(len(cloud)).to(device, dtype).requires_grad_()
    return tensors, features, this.camera.world_to_camera.clone().requires_grad_()


@pytest.mark.parametrize("name", NAMES)
def test_features_and_their_gradients_agree_with_float64(backend: tuple[str, torch.device], name: str):
    key, device = backend
    this = case(name)
    tensors, features, pose = leaves(name, torch.float64, torch.device("cpu"))
    wanted = truth(name, tensors, features, pose)
    scale = features.detach().abs().amax(0)
    upstream = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(7), dtype=torch.float64)
    upstream = upstream / scale * ~expected(name).flips[..., None]
    wanted_gradients = torch.autograd.grad((wanted * upstream).sum(), [*tensors[:4], features, pose])

    dtype = torch.float64 if key == "reference" else torch.float32
    tensors, features, pose = leaves(name, dtype, device)
    rendering = splat.render(
        GaussianCloud(*tensors), this.camera, key, this.options, world_to_camera=pose, features=features
    )
    assert rendering.features.shape == (this.camera.height, this.camera.width, 5)
    error = (rendering.features.detach().cpu().double() - wanted.detach()) / scale
    assert float(error[~expected(name).flips].abs().max()) < IMAGE_TOLERANCE
    loss = (rendering.features * upstream.to(device, dtype)).sum()
    found = torch.autograd.grad(loss, [*tensors[:4], features, pose])
    for label, value, right in zip((*FIELDS[:4], "features", "world_to_camera"), found, wanted_gradients, strict=True):
        off = float((value.cpu().double() - right).norm() / right.norm())
        assert off < GRADIENT_TOLERANCE, f"{name}: {label} differs by {off:.1e}"


def test_the_picture_is_the_same_with_features_as_without():
    this = case("plain")
    alone = splat.render(this.cloud, this.camera, "reference", this.options)
    assert alone.features is None
    both = splat.render(this.cloud, this.camera, "reference", this.options, features=described(len(this.cloud)))
    assert torch.equal(alone.rgb, both.rgb) and torch.equal(alone.weights, both.weights)


def test_nothing_to_see_gives_zeros():
    this = case("empty")
    rendering = splat.render(this.cloud, this.camera, "reference", features=torch.zeros(0, 4, dtype=torch.float64))
    assert rendering.features.shape == (9, 20, 4) and not rendering.features.any()


def test_one_row_per_gaussian_is_needed():
    this = case("single")
    with pytest.raises(ValueError, match=r"shape \(2, 4\), expected \(1, channels\)"):
        splat.render(this.cloud, this.camera, "reference", features=torch.zeros(2, 4))
