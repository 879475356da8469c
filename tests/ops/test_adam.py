"""Fused Adam against torch.optim.Adam, and the finite check, in every build variant."""

from dataclasses import dataclass, replace

import pytest
import torch

from splat.cloud import FIELDS, GaussianCloud
from splat.native import cpu_library
from splat.ops.adam import AdamState, _step_torch, adam_step
from splat.ops.nonfinite import first_nonfinite

VARIANTS = cpu_library.variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="the CPU core is not built")


@dataclass(frozen=True)
class Hyper:
    step: int = 1
    means: float = 1e-3
    log_scales: float = 5e-3
    quats: float = 2e-3
    logit_opacities: float = 5e-2
    sh_dc: float = 3e-3
    sh_rest: float = 2e-4
    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-15
    visible_only: bool = False
    opacity_reg: float = 0.0
    scale_reg: float = 0.0


@pytest.fixture(params=VARIANTS)
def variant(request):
    with cpu_library.use_variant(request.param):
        yield request.param


def _cloud(n: int, degree: int = 2, seed: int = 0) -> GaussianCloud:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"means": (n, 3), "log_scales": (n, 3), "quats": (n, 4), "logit_opacities": (n,)}
    shapes["sh"] = (n, (degree + 1) ** 2, 3)
    return GaussianCloud(**{name: torch.randn(shape, generator=generator) for name, shape in shapes.items()})


def _gradients(cloud: GaussianCloud, seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: getattr(cloud, name) for name in FIELDS}
    # Magnitudes over many decades, and exact zeros.
    return {
        name: torch.randn(t.shape, generator=generator)
        * 10 ** (8 * torch.rand(t.shape, generator=generator) - 8)
        * (torch.rand(t.shape, generator=generator) > 0.1)
        for name, t in tensors.items()
    }


def _tensors(cloud: GaussianCloud) -> dict[str, torch.Tensor]:
    return {name: getattr(cloud, name) for name in FIELDS}


@pytest.mark.parametrize(("n", "degree"), [(1, 0), (2, 1), (7, 4), (1000, 2), (3001, 3)])
def test_equals_pytorch(variant, n, degree):
    cloud, state, hyper = _cloud(n, degree), None, Hyper()
    state = AdamState.zeros(cloud)
    exact = {name: tensor.clone().double().requires_grad_() for name, tensor in _tensors(cloud).items()}
    dc, rest = (part.clone().detach().requires_grad_() for part in (exact["sh"][:, :1], exact["sh"][:, 1:]))
    groups = [{"params": [exact[name]], "lr": getattr(hyper, name)} for name in FIELDS[:4]]
    groups += [{"params": [dc], "lr": hyper.sh_dc}, {"params": [rest], "lr": hyper.sh_rest}]
    optimizer = torch.optim.Adam(groups, eps=1e-15)
    for step in range(1, 8):
        gradients = _gradients(cloud, step)
        assert adam_step(cloud, gradients, state, replace(hyper, step=step)) == ()
        for name in FIELDS[:4]:
            exact[name].grad = gradients[name].double()
        dc.grad, rest.grad = gradients["sh"][:, :1].double(), gradients["sh"][:, 1:].double()
        optimizer.step()
    exact["sh"] = torch.cat([dc, rest], 1)
    for name, tensor in _tensors(cloud).items():
        torch.testing.assert_close(tensor.double(), exact[name].detach(), rtol=2e-6, atol=2e-6, msg=name)


def test_only_visible_rows_without_bias_correction(variant):
    cloud = _cloud(501)
    before, state, hyper = cloud.clone(), AdamState.zeros(cloud), Hyper(visible_only=True, step=4)
    visible = torch.rand(501, generator=torch.Generator().manual_seed(5)) < 0.5
    gradients = _gradients(cloud, 1)
    adam_step(cloud, gradients, state, hyper, visible=visible)
    rates = {"sh": torch.tensor([hyper.sh_dc] + [hyper.sh_rest] * 8)[:, None]}
    for name, tensor in _tensors(cloud).items():
        old, gradient = getattr(before, name), gradients[name].double()
        assert torch.equal(tensor[~visible], old[~visible])
        assert not state.m[name][~visible].any()
        rate = rates[name] if name == "sh" else getattr(hyper, name)
        m, v = 0.1 * gradient, 0.001 * gradient**2
        expected = old.double() - rate * m / (v.sqrt() + 1e-15)
        torch.testing.assert_close(tensor[visible].double(), expected[visible], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state.m[name][visible].double(), m[visible], rtol=1e-5, atol=1e-12)
        torch.testing.assert_close(state.v[name][visible].double(), v[visible], rtol=1e-5, atol=1e-20)


def test_regularisers_are_the_gradient_of_their_means(variant):
    cloud = _cloud(333)
    other, state, other_state = cloud.clone(), AdamState.zeros(cloud), AdamState.zeros(cloud)
    gradients = {name: torch.randn_like(t) * 1e-3 for name, t in _tensors(cloud).items()}
    adam_step(cloud, gradients, state, Hyper(opacity_reg=0.7, scale_reg=0.3))
    logits, scales = (getattr(other, name).double().requires_grad_() for name in ("logit_opacities", "log_scales"))
    (0.7 * logits.sigmoid().mean() + 0.3 * scales.exp().mean()).backward()
    gradients["logit_opacities"] = gradients["logit_opacities"] + logits.grad.float()
    gradients["log_scales"] = gradients["log_scales"] + scales.grad.float()
    adam_step(other, gradients, other_state, Hyper())
    for name in FIELDS:
        torch.testing.assert_close(getattr(cloud, name), getattr(other, name), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_rows_with_bad_gradients_stay(variant, bad):
    cloud = _cloud(2000)
    before, state, gradients = cloud.clone(), AdamState.zeros(cloud), _gradients(cloud, 2)
    gradients["quats"][1234, 2] = bad
    gradients["sh"][77, 1, 1] = bad
    assert adam_step(cloud, gradients, state, Hyper(visible_only=False)) == ("quats", "sh")
    assert torch.equal(cloud.quats[1234], before.quats[1234]) and torch.equal(cloud.sh[77], before.sh[77])
    assert not torch.equal(cloud.quats[1233], before.quats[1233])
    assert all(bool(tensor.isfinite().all()) for tensor in [*_tensors(cloud).values(), *state.v.values()])


def test_any_number_of_threads_gives_the_same_bits(variant):
    results = []
    try:
        for count in (1, 2, 5):
            cpu_library.set_threads(count)
            cloud = _cloud(5000)
            state = AdamState.zeros(cloud)
            for step in (1, 2):
                adam_step(cloud, _gradients(cloud, step), state, Hyper(step=step, opacity_reg=0.01))
            results.append([*_tensors(cloud).values(), *state.m.values(), *state.v.values()])
    finally:
        cpu_library.set_threads(0)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("visible_only", [False, True])
def test_the_pytorch_step_of_other_devices_agrees(visible_only):
    cloud = _cloud(200)
    other, hyper = (
        cloud.to(dtype=torch.float64),
        Hyper(step=3, visible_only=visible_only, opacity_reg=0.1, scale_reg=0.1),
    )
    state, other_state = AdamState.zeros(cloud), AdamState.zeros(other)
    visible = torch.arange(200) % 3 > 0
    gradients = _gradients(cloud, 4)
    gradients["means"][5, 1] = float("nan")
    doubles = {name: tensor.double() for name, tensor in gradients.items()}
    assert adam_step(cloud, gradients, state, hyper, visible) == ("means",)
    assert adam_step(other, doubles, other_state, hyper, visible) == ("means",)
    for name in FIELDS:
        torch.testing.assert_close(getattr(cloud, name).double(), getattr(other, name), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(state.v[name].double(), other_state.v[name], rtol=1e-4, atol=1e-30)


def test_extras_take_part(variant):
    cloud = _cloud(40).replace(extras={"shape": torch.zeros(40, 90), "label": torch.zeros(40, dtype=torch.int64)})
    state = AdamState.zeros(cloud)
    assert "shape" in state.m and "label" not in state.m
    adam_step(cloud, {"shape": torch.ones(40, 90)}, state, Hyper(), extra_rates={"shape": 0.5})
    torch.testing.assert_close(cloud.extras["shape"], torch.full((40, 90), -0.5))


def test_empty_clouds_and_missing_masks():
    empty = GaussianCloud.empty(1)
    assert adam_step(empty, _tensors(empty), AdamState.zeros(empty), Hyper()) == ()
    with pytest.raises(ValueError, match="visible"):
        adam_step(empty, {}, AdamState.zeros(empty), Hyper(visible_only=True))
    assert _step_torch("means", empty.means, empty.means, AdamState.zeros(empty), Hyper(), (1, 1), None, 0) == -1


def test_the_first_bad_row_is_named(variant):
    good, bad = torch.randn(70_000, 3), torch.randn(70_001, 4, 3)
    good[5] = 3e38
    assert first_nonfinite({"good": good, "other": torch.zeros(0, 3)}) is None
    bad[65_432, 3, 2] = float("inf")
    bad[69_000] = float("nan")
    assert first_nonfinite({"good": good, "bad": bad}) == ("bad", 65_432)
    assert first_nonfinite({"bad": bad.double()}) == ("bad", 65_432)
    assert first_nonfinite({"last": torch.tensor([0.0, float("nan")])}) == ("last", 1)
