"""Every backend against the float64 reference: images within 1e-4, gradients within 1e-3, degenerate clouds too."""

from dataclasses import replace

import pytest
import torch
from support.cases import (
    GRADIENTS,
    PICTURES,
    assert_gradients_match,
    assert_rendering_matches,
    case,
    case_names,
    device_of,
    expected,
)

from splat.cloud import FIELDS, GaussianCloud
from splat.rendering import CloudGradients, ImageGradients, get_backend, render

BACKENDS = ["reference", "cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def moved(upstream: ImageGradients, device: torch.device) -> ImageGradients:
    """``upstream`` in single precision on ``device``."""
    found = {name: getattr(upstream, name) for name in PICTURES}
    return ImageGradients(**{name: None if t is None else t.to(device, torch.float32) for name, t in found.items()})


@pytest.mark.parametrize("name", case_names)
@pytest.mark.parametrize("backend", BACKENDS)
def test_backend_agrees_with_float64(backend: str, name: str):
    device, this = device_of(backend), case(name)
    module = get_backend(backend)
    rendering, context = module.forward(this.cloud.to(device, torch.float32), this.camera, this.options)
    assert_rendering_matches(rendering, name)
    assert_gradients_match(module.backward(context, moved(expected(name).upstream, device)), name)


@pytest.mark.parametrize("backend", BACKENDS)
def test_sums_of_weights_can_be_spared(backend: str):
    device, this = device_of(backend), case("plain")
    cloud, rasterizer = this.cloud.to(device, torch.float32), get_backend(backend)
    choices = [replace(this.options, weights=wanted) for wanted in (True, False)]
    whole, spared = (rasterizer.forward(cloud, this.camera, options)[0] for options in choices)
    assert spared.weights is None and torch.allclose(
        whole.weights.cpu().double(), expected("plain").rendering.weights, atol=1e-3
    )
    assert torch.equal(spared.rgb, whole.rgb)


@pytest.mark.parametrize("name", ["plain", "degenerate_antialiased", "empty"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_autograd_through_render_agrees_with_float64(backend: str, name: str):
    device, this = device_of(backend), case(name)
    cloud = this.cloud.to(device, torch.float32)
    tensors = [getattr(cloud, field).clone().requires_grad_() for field in FIELDS]
    pose = this.camera.world_to_camera.clone().requires_grad_()
    rendering = render(GaussianCloud(*tensors), this.camera, backend, this.options, world_to_camera=pose)
    upstream = moved(expected(name).upstream, device)
    loss = sum((getattr(rendering, picture) * getattr(upstream, picture)).sum() for picture in PICTURES)
    loss.backward()
    assert pose.grad.dtype == torch.float64 and not pose.grad[3].any()
    wanted = expected(name).gradients
    screen = {
        field: getattr(wanted, field) for field in GRADIENTS if field.startswith("means2d")
    }  # not seen by autograd
    assert_gradients_match(CloudGradients(*(t.grad for t in tensors), world_to_camera=pose.grad, **screen), name)


@pytest.mark.parametrize("picture", PICTURES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_each_picture_alone_has_the_right_gradient(backend: str, picture: str):
    device, this = device_of(backend), case("plain")
    upstream = ImageGradients(**{picture: getattr(expected("plain").upstream, picture)})
    truth_module, module = get_backend("reference"), get_backend(backend)
    truth = truth_module.backward(truth_module.forward(this.cloud, this.camera, this.options)[1], upstream)
    _, context = module.forward(this.cloud.to(device, torch.float32), this.camera, this.options)
    found = module.backward(context, moved(upstream, device))
    for field in GRADIENTS:
        value, wanted = getattr(found, field).cpu().double(), getattr(truth, field)
        assert float((value - wanted).norm()) <= 1e-4 * float(wanted.norm()) + 1e-12, f"{picture}: {field}"
