"""The gsplat backend against a stand-in with gsplat's calling convention that draws with the reference renderer."""

import sys
from types import SimpleNamespace

import pytest
import torch
from support.cases import GRADIENTS, case, expected

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import RenderOptions, gsplat, render
from splat.sh import C0


def rasterization(
    means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane, eps2d, packed, rasterize_mode,
    sh_degree=None, backgrounds=None, render_mode="RGB", absgrad=False,
):  # fmt: skip
    """gsplat 1.5.3's signature and shapes, as far as the backend uses them."""
    assert packed is False and viewmats.shape == (1, 4, 4) and Ks.shape == (1, 3, 3)
    (fx, _, cx), (_, fy, cy), _ = Ks[0].tolist()
    if sh_degree is None:  # plain colours: as SH of degree 0, whose clamp at 0 must not cut
        sh, sh_degree, shift = ((colors - 0.5 + 10) / C0)[:, None], 0, 10.0
    else:
        sh, shift = colors, 0.0
    background = (0.0, 0.0, 0.0) if backgrounds is None else tuple(backgrounds[0].tolist())
    depth = render_mode == "RGB+ED"
    antialiased = rasterize_mode == "antialiased"
    options = RenderOptions(background, sh_degree, antialiased, depth=depth, near=near_plane, blur=eps2d)
    cloud = GaussianCloud(means, scales.log(), quats, torch.logit(opacities), sh)
    camera = Camera(fx, fy, cx, cy, width, height, viewmats[0].detach())
    drawn = render(cloud, camera, "reference", options, world_to_camera=viewmats[0])
    picture = drawn.rgb - shift * drawn.alpha[..., None]
    if depth:
        picture = torch.cat([picture, drawn.depth[..., None]], -1)
    radii = drawn.radii[None, :, None].expand(1, -1, 2)
    return (
        picture[None],
        drawn.alpha[None, ..., None],
        {"means2d": drawn.means2d[None].requires_grad_(), "radii": radii},
    )


@pytest.fixture
def stand_in(monkeypatch):
    monkeypatch.setitem(sys.modules, "gsplat", SimpleNamespace(rasterization=rasterization))


@pytest.mark.parametrize("name", ["plain", "rgb_only", "antialiased"])
def test_pictures_and_gradients_pass_through(stand_in, name: str):
    this, wanted = case(name), expected(name)
    rendering, context = gsplat.forward(this.cloud, this.camera, this.options)
    for picture in ("rgb", "alpha", "depth", "normal", "weights", "means2d"):
        value, truth = getattr(rendering, picture), getattr(wanted.rendering, picture)
        assert (value is None) == (truth is None)
        assert value is None or torch.allclose(value, truth, atol=1e-9), picture
    assert torch.equal(rendering.radii, wanted.rendering.radii)
    found = gsplat.backward(context, wanted.upstream)
    for field in GRADIENTS[:6]:
        assert torch.allclose(getattr(found, field), getattr(wanted.gradients, field), atol=1e-9), field


def test_missing_gsplat_is_one_sentence(monkeypatch):
    monkeypatch.setattr(gsplat.util, "find_spec", lambda name: None)
    assert gsplat.check() == f"gsplat is not installed; {gsplat.INSTALL}"
    assert "--backend cpu" in gsplat.INSTALL
