"""Pictures of every s-th pixel: the same as the full picture has there, and the same gradients."""

import pytest
import torch
from support.cases import camera, device_of, random_cloud

from splat.cloud import FIELDS
from splat.rendering import ImageGradients, RenderOptions, get_backend, reference
from splat.rendering.types import BLUR

FULL = RenderOptions(background=(0.2, 0.5, 0.9), depth=True, normal=True)


@pytest.mark.parametrize("antialiased", [False, True])
@pytest.mark.parametrize("stride, x, y", [(2, 0, 0), (2, 1, 0), (3, 2, 1), (4, 3, 2)])
def test_strided_picture_is_the_subsampled_full_picture(stride: int, x: int, y: int, antialiased: bool):
    view, cloud = camera(67, 45), random_cloud(80, 2, 31, scale=0.06, spread=0.6)
    full_options = RenderOptions(**vars(FULL) | {"antialiased": antialiased})
    options = RenderOptions(**vars(full_options) | {"blur": BLUR / stride**2})
    full, full_context = reference.forward(cloud, view, full_options)
    found, context = reference.forward(cloud, view.strided(stride, x, y), options)
    some = (slice(y, None, stride), slice(x, None, stride))
    for name in ("rgb", "alpha", "depth", "normal", "median_depth"):
        torch.testing.assert_close(getattr(found, name), getattr(full, name)[some], atol=1e-12, rtol=0)

    upstream = torch.randn(found.rgb.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    spread = torch.zeros_like(full.rgb)
    spread[some] = upstream
    truth = reference.backward(full_context, ImageGradients(rgb=spread))
    gradients = reference.backward(context, ImageGradients(rgb=upstream))
    for name in (*FIELDS, "world_to_camera"):
        torch.testing.assert_close(getattr(gradients, name), getattr(truth, name), atol=1e-9, rtol=1e-9)
    # The centre moves s times less on a grid that is s times coarser, so what it costs to move it is s times as much.
    torch.testing.assert_close(gradients.means2d, stride * truth.means2d, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("backend", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_all_offsets_together_make_the_full_picture(backend: str):
    device, module = device_of(backend), get_backend(backend)
    view, cloud = camera(67, 45), random_cloud(200, 1, 32, scale=0.03, spread=0.6)
    truth, _ = reference.forward(cloud, view, RenderOptions())
    whole = torch.zeros_like(truth.rgb)
    for y in range(3):
        for x in range(3):
            options = RenderOptions(blur=BLUR / 9)
            part, _ = module.forward(cloud.to(device, torch.float32), view.strided(3, x, y), options)
            whole[y::3, x::3] = part.rgb.cpu().double()
    assert ((whole - truth.rgb).abs().amax(2) > 1e-4).float().mean() < 1e-3  # but for pixels on the edge of a threshold
    assert (whole - truth.rgb).abs().max() < 2e-2
