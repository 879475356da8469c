"""The `cpu` backend beyond the common cases: every build variant, determinism, the fused step, odd input."""

from dataclasses import dataclass

import pytest
import torch
from support.cases import (
    GRADIENTS,
    assert_gradients_match,
    assert_rendering_matches,
    camera,
    case,
    case_names,
    expected,
    random_cloud,
)
from torch import Tensor

from splat.cloud import FIELDS, GaussianCloud
from splat.native import cpu_library
from splat.ops.adam import AdamHyper
from splat.rendering import ImageGradients, RenderOptions, check_backend, cpu, reference
from splat.rendering.fused_step import Statistics

pytestmark = pytest.mark.skipif(check_backend("cpu") is not None, reason=str(check_backend("cpu")))

RATES = {"means": 1e-3, "log_scales": 5e-3, "quats": 1e-3, "logit_opacities": 2e-2, "sh_dc": 2.5e-3, "sh_rest": 1e-4}


def single(upstream: ImageGradients) -> ImageGradients:
    return ImageGradients(**{name: None if t is None else t.float() for name, t in vars(upstream).items()})


def scene(n: int = 3000, degree: int = 2, seed: int = 3) -> tuple[GaussianCloud, ImageGradients]:
    """A cloud of many small Gaussians, in single precision, and a gradient for its 67×45 picture."""
    cloud = random_cloud(n, degree, seed, scale=0.05).to(dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    return cloud, ImageGradients(rgb=torch.randn(45, 67, 3, generator=generator) / 3000)


@pytest.mark.parametrize("name", case_names)
@pytest.mark.parametrize("variant", cpu_library.variants())
def test_every_variant_agrees_with_float64(variant: str, name: str):
    this = case(name)
    with cpu_library.use_variant(variant):
        rendering, context = cpu.forward(this.cloud.to(dtype=torch.float32), this.camera, this.options)
        assert_rendering_matches(rendering, name)
        assert_gradients_match(cpu.backward(context, single(expected(name).upstream)), name)


@pytest.mark.parametrize("options", [RenderOptions(), RenderOptions(depth=True, normal=True, antialiased=True)])
def test_bits_do_not_depend_on_the_number_of_threads(options: RenderOptions):
    cloud, upstream = scene(20000)
    view = camera()
    found = []
    before = cpu_library.threads()
    try:
        for count in (1, 2, 3, 7):
            cpu_library.set_threads(count)
            rendering, context = cpu.forward(cloud, view, options)
            gradients = cpu.backward(context, upstream)
            found.append([t for t in (*vars(rendering).values(), *vars(gradients).values()) if t is not None])
    finally:
        cpu_library.set_threads(before)
    for other in found[1:]:
        assert all(torch.equal(a, b) for a, b in zip(found[0], other, strict=True))


@dataclass
class Moments:
    m: dict[str, Tensor]
    v: dict[str, Tensor]


def moments(cloud: GaussianCloud, seed: int = 5) -> Moments:
    generator = torch.Generator().manual_seed(seed)

    def some(power: int) -> dict[str, Tensor]:
        return {f: (1e-3 * torch.randn(getattr(cloud, f).shape, generator=generator)) ** power for f in FIELDS}

    return Moments(m=some(1), v=some(2))


def expected_step(
    cloud: GaussianCloud, gradients: dict[str, Tensor], state: Moments, hyper: AdamHyper, rows: Tensor
) -> tuple[dict[str, Tensor], Moments]:
    """Adam as its paper writes it, in float64, on ``rows`` (N,) only."""
    beta1, beta2 = hyper.beta1, hyper.beta2
    scale1, scale2 = (1.0, 1.0) if hyper.visible_only else (1 - beta1**hyper.step, 1 - beta2**hyper.step)
    updated, new = {}, Moments({}, {})
    for name in FIELDS:
        p, g = getattr(cloud, name).double(), gradients[name].double()
        m = beta1 * state.m[name].double() + (1 - beta1) * g
        v = beta2 * state.v[name].double() + (1 - beta2) * g * g
        if name == "sh":
            rate = torch.full((p.shape[1], 1), hyper.sh_rest, dtype=torch.float64)
            rate[0] = hyper.sh_dc
        else:
            rate = torch.tensor(getattr(hyper, name), dtype=torch.float64)
        mask = rows.reshape(-1, *[1] * (p.ndim - 1))
        updated[name] = torch.where(mask, p - rate * (m / scale1) / ((v / scale2).sqrt() + hyper.eps), p)
        new.m[name] = torch.where(mask, m, state.m[name].double())
        new.v[name] = torch.where(mask, v, state.v[name].double())
    return updated, new


@pytest.mark.parametrize("visible_only", [False, True])
@pytest.mark.parametrize("regularised", [False, True])
def test_fused_step_is_backward_then_adam(visible_only: bool, regularised: bool):
    cloud, upstream = scene()
    view = camera(fov=25.0)  # some Gaussians are out of view
    state = moments(cloud)
    hyper = AdamHyper(step=7, **RATES, visible_only=visible_only)
    if regularised:
        hyper = AdamHyper(step=7, **RATES, visible_only=visible_only, opacity_reg=0.5, scale_reg=0.3)
    rendering, context = cpu.forward(cloud, view, RenderOptions())
    assert rendering.weights is None
    found = cpu.backward(context, upstream)
    assert 100 < int(rendering.visible.sum()) < len(cloud) - 100
    gradients = {name: getattr(found, name).clone() for name in FIELDS}
    o = cloud.opacities
    gradients["logit_opacities"] += hyper.opacity_reg / len(cloud) * o * (1 - o)
    gradients["log_scales"] += hyper.scale_reg / (3 * len(cloud)) * cloud.scales
    rows = rendering.visible if visible_only else torch.ones(len(cloud), dtype=torch.bool)
    wanted, wanted_state = expected_step(cloud, gradients, state, hyper, rows)

    statistics = Statistics(*(torch.full((len(cloud),), 2.0) for _ in range(3)))
    result = cpu.backward_adam(context, upstream, state, hyper, statistics)
    assert result.nonfinite == ()
    assert torch.allclose(result.world_to_camera, found.world_to_camera, rtol=1e-6)
    for name in FIELDS:
        assert torch.allclose(getattr(cloud, name).double(), wanted[name], rtol=1e-5, atol=1e-7), name
        assert torch.allclose(state.m[name].double(), wanted_state.m[name], rtol=1e-4, atol=1e-9), name
        assert torch.allclose(state.v[name].double(), wanted_state.v[name], rtol=1e-4, atol=1e-14), name

    half = torch.tensor([view.width / 2, view.height / 2])
    seen = rendering.visible.float()
    assert torch.allclose(statistics.grad2d, 2 + (found.means2d * half).norm(dim=1) * seen, rtol=1e-5)
    assert torch.allclose(statistics.grad2d_abs, 2 + (found.means2d_abs * half).norm(dim=1) * seen, rtol=1e-5)
    assert torch.equal(statistics.count, 2 + seen)


def test_fused_step_leaves_unused_bands_alone():
    cloud, upstream = scene(degree=3)
    state, sh = moments(cloud), cloud.sh.clone()
    before = state.m["sh"].clone()
    _, context = cpu.forward(cloud, camera(), RenderOptions(sh_degree=1))
    cpu.backward_adam(context, upstream, state, AdamHyper(step=1, **RATES))
    assert torch.equal(cloud.sh[:, 4:], sh[:, 4:]) and torch.equal(state.m["sh"][:, 4:], before[:, 4:])
    assert not torch.equal(cloud.sh[:, :4], sh[:, :4])


def test_fused_step_names_what_is_not_finite():
    cloud, upstream = scene()
    state = moments(cloud)
    copy, m_before = cloud.clone(), state.m["log_scales"].clone()
    upstream.rgb[20, 30] = float("nan")
    rendering, context = cpu.forward(cloud, camera(), RenderOptions())
    result = cpu.backward_adam(context, upstream, state, AdamHyper(step=1, **RATES))
    assert set(result.nonfinite) == set(FIELDS)
    kept = (cloud.log_scales == copy.log_scales).all(1)
    assert 0 < int(kept.sum()) < len(cloud) and bool(cloud.finite().all())
    assert torch.equal(state.m["log_scales"][kept], m_before[kept])


@pytest.mark.parametrize("variant", cpu_library.variants())
@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_rows_that_are_not_finite_do_no_harm(field: str, value: float, variant: str):
    cloud, upstream = scene(500)
    bad = cloud.clone()
    rows = torch.arange(0, 500, 7)
    getattr(bad, field)[rows] = value
    with cpu_library.use_variant(variant):
        rendering, context = cpu.forward(bad, camera(), RenderOptions())
        gradients = cpu.backward(context, upstream)
    assert rendering.rgb.shape == (45, 67, 3) and rendering.alpha.isfinite().all()
    # An infinite logit or log-scale may stand for a limit; a colour that is no number has no picture to agree on.
    if field != "sh" and (value != value or field in ("means", "quats")):
        assert not rendering.visible[rows].any()
        keep = torch.ones(500, dtype=torch.bool)
        keep[rows] = False
        alone, context = cpu.forward(cloud.select(keep), camera(), RenderOptions())
        assert torch.allclose(rendering.rgb, alone.rgb, atol=1e-6)
        assert gradients.means[keep].isfinite().all()


def test_outputs_may_outlive_the_context_and_workspaces_are_reused():
    from splat.rendering import cpu_structs

    cloud, _ = scene(200)
    cpu.release()
    first, context = cpu.forward(cloud, camera(), RenderOptions())
    image = first.rgb.clone()
    second, other = cpu.forward(cloud.select(slice(0, 100)), camera(), RenderOptions())
    workspaces = {context.workspace, other.workspace}
    assert len(workspaces) == 2  # frames that live together do not share memory
    del context, other
    _, again = cpu.forward(cloud, camera(), RenderOptions())
    assert again.workspace in workspaces and torch.equal(first.rgb, image) and len(cpu_structs._idle) == 1


def test_many_threads_of_the_program_render_at_once():
    from concurrent.futures import ThreadPoolExecutor

    cloud, upstream = scene(5000)
    view = camera()

    def work(_: int) -> list[Tensor]:
        rendering, context = cpu.forward(cloud, view, RenderOptions())
        return [rendering.rgb, *(getattr(cpu.backward(context, upstream), name) for name in GRADIENTS)]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(work, range(12)))
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


def test_wrong_shapes_are_refused():
    cloud, _ = scene(10)
    _, context = cpu.forward(cloud, camera(), RenderOptions())
    with pytest.raises(ValueError, match="gradient of rgb"):
        cpu.backward(context, ImageGradients(rgb=torch.zeros(3, 3, 3)))
    with pytest.raises(ValueError, match="statistics.count"):
        cpu.backward_adam(
            context, ImageGradients(), moments(cloud), AdamHyper(1, **RATES), Statistics(count=torch.zeros(3))
        )
    doubled = cloud.to(dtype=torch.float64)
    _, context = cpu.forward(doubled, camera(), RenderOptions())
    with pytest.raises(ValueError, match="in place"):
        cpu.backward_adam(context, ImageGradients(), moments(cloud), AdamHyper(1, **RATES))


def test_timings_name_every_stage():
    cloud, upstream = scene()
    cpu.reset_timings()
    _, context = cpu.forward(cloud, camera(), RenderOptions())
    cpu.backward(context, upstream)
    del context
    assert all(seconds > 0 for seconds in cpu.timings().values()) and len(cpu.timings()) == 6


@pytest.mark.parametrize(("width", "height"), [(2100, 2), (2, 2100)])
def test_pictures_may_be_long(width, height):
    view = camera().replace(width=width, height=height, cx=width / 2, cy=height / 2)
    cloud = random_cloud(30, 0, 1)
    drawn = cpu.forward(cloud.to(dtype=torch.float32), view, RenderOptions())[0]
    assert (drawn.rgb - reference.forward(cloud, view, RenderOptions())[0].rgb).abs().max() < 1e-4 and drawn.rgb.any()
