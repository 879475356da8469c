"""Clouds and cameras on which every backend is held against the float64 `reference`, and the way they are compared.

Thresholds make rendering discontinuous: α at 1/255 and 0.99, transmittance at 1e-4 (and at ½ for the median depth).
Where a float64 value lies within a relative 1e-3 of one, single precision may fall on the other side and be just as
right. Such pixels (`Expected.flips`, under 1 % of most cases) are left out: images are compared elsewhere, and the
gradient given to the backward pass is zero there, so that every remaining difference is an error.
"""

import functools
import math
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.rendering import check_backend, reference
from splat.rendering.types import (
    ALPHA_MAX,
    ALPHA_MIN,
    TRANSMITTANCE_MIN,
    CloudGradients,
    ImageGradients,
    Rendering,
    RenderOptions,
)

IMAGE_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
FLIP_TOLERANCE = 1e-3
PICTURES = ("rgb", "alpha", "depth", "normal", "square_depth")
GRADIENTS = ("means", "log_scales", "quats", "logit_opacities", "sh", "world_to_camera", "means2d", "means2d_abs")


@dataclass(frozen=True)
class Case:
    """One thing to draw. The cloud is float64 with values that float32 holds exactly."""

    name: str
    cloud: GaussianCloud
    camera: Camera
    options: RenderOptions


@dataclass(frozen=True)
class Expected:
    """What the float64 reference finds.

    Attributes:
        flips: (H, W) pixels on the edge of a threshold; median_flips: likewise for the median depth.
        upstream: the random gradient given to `backward`, zero at flips.
    """

    rendering: Rendering
    flips: Tensor
    median_flips: Tensor
    upstream: ImageGradients
    gradients: CloudGradients


def camera(
    width: int = 67, height: int = 45, fov: float = 60.0, centre: tuple[float, float] = (0.5, 0.5), seed: int = 0
) -> Camera:
    """A camera 4 units from the origin, looking at it; ``centre`` is the principal point as a share of the image."""
    generator = torch.Generator().manual_seed(seed)
    position = torch.tensor([0.6, -0.8, -4.0], dtype=torch.float64) + 0.2 * torch.randn(
        3, generator=generator, dtype=torch.float64
    )
    view = Camera.look_at(position, torch.zeros(3), torch.tensor([0.1, -1.0, 0.05]), width, height, fov)
    focal = view.fx
    return view.replace(fx=focal, fy=focal * 1.1, cx=width * centre[0], cy=height * centre[1])


def random_cloud(n: int, degree: int, seed: int, scale: float = 0.15, spread: float = 1.2) -> GaussianCloud:
    """``n`` Gaussians of about ``scale`` world units around the origin, opacities from 0.02 to 0.98."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    cloud = GaussianCloud(
        means=spread * normal(n, 3),
        log_scales=math.log(scale) + 0.6 * normal(n, 3),
        quats=normal(n, 4),
        logit_opacities=(1.5 * normal(n)).clamp(-3.9, 3.9),
        sh=torch.cat([0.5 * normal(n, 1, 3), 0.15 * normal(n, (degree + 1) ** 2 - 1, 3)], 1),
    )
    return cloud.to(dtype=torch.float32).to(dtype=torch.float64)


def degenerate_cloud(view: Camera, seed: int) -> GaussianCloud:
    """Ten each of: huge, tiny, prolate, flat, edge-on, behind, at the near plane, opacity ~0, opacity ~1, zero or
    odd quaternion, far outside."""
    cloud = random_cloud(110, 2, seed)
    fields = {name: getattr(cloud, name).clone() for name in ("means", "log_scales", "quats", "logit_opacities", "sh")}
    means, log_scales, quats, logits = (fields[name] for name in ("means", "log_scales", "quats", "logit_opacities"))
    forward, position = view.forward.to(torch.float64), view.position.to(torch.float64)
    kinds = [slice(10 * i, 10 * i + 10) for i in range(11)]
    log_scales[kinds[0]] += math.log(100.0)
    log_scales[kinds[1]] += math.log(1e-4)
    log_scales[kinds[2], 0] += math.log(1e2)
    log_scales[kinds[2], 1:] += math.log(1e-2)
    log_scales[kinds[3], 1] = math.log(1e-6)
    log_scales[kinds[4], 2] = math.log(1e-6)  # discs whose plane nearly holds the viewing ray
    means[kinds[4]] = position + 3 * forward + 0.05 * means[kinds[4]]
    means[kinds[5]] = position - 2 * forward + means[kinds[5]]
    means[kinds[6]] = (
        position + torch.linspace(0.0, 0.3, 10, dtype=torch.float64)[:, None] * forward + 0.05 * means[kinds[6]]
    )
    logits[kinds[7]] = torch.linspace(-12, -5.4, 10, dtype=torch.float64)  # some just above 1/255
    logits[kinds[8]] = torch.linspace(4.4, 15, 10, dtype=torch.float64)
    quats[kinds[9]] *= torch.tensor([0.0, 0.0, 1e-6, 1e-3, 1e3, 1e6, 1, 1, 1, 1], dtype=torch.float64)[:, None]
    means[kinds[10]] *= 8
    return GaussianCloud(**fields).to(dtype=torch.float32).to(dtype=torch.float64)


def _cases() -> list[Case]:
    everything = RenderOptions(background=(0.2, 0.5, 0.9), depth=True, normal=True, square_depth=True, weights=True)
    smooth = RenderOptions(background=(0.1, 0.0, 0.3), depth=True, normal=True, square_depth=True, antialiased=True)
    smooth = replace(smooth, weights=True)
    plain = camera()
    tied = random_cloud(40, 1, 5)
    tied = GaussianCloud.concat([tied, tied.replace(sh=-tied.sh, log_scales=tied.log_scales + 0.3)])
    # Without the square or the weights, other kernels run.
    two = RenderOptions(background=(0.2, 0.5, 0.9), depth=True, normal=True, weights=True)
    opaque = random_cloud(400, 1, 6, scale=0.4)
    opaque = opaque.replace(logit_opacities=opaque.logit_opacities.clamp_min(1.0))
    cases = [
        Case("plain", random_cloud(80, 3, 1), plain, everything),
        Case("rgb_only", random_cloud(80, 3, 2), plain, RenderOptions()),
        Case("antialiased", random_cloud(150, 1, 3, scale=0.02), plain, smooth),
        Case("degenerate", degenerate_cloud(plain, 4), plain, everything),
        Case("degenerate_antialiased", degenerate_cloud(plain, 14), plain, smooth),
        Case("depth_ties", tied, plain, everything),
        Case("opaque", opaque, camera(35, 37, seed=3), everything),
        Case("off_centre", random_cloud(80, 1, 7), camera(61, 30, centre=(0.1, 1.1), seed=4), two),
        Case("wide", random_cloud(80, 1, 8, spread=3.0), camera(40, 30, fov=120.0, seed=5), two),
        Case("single", random_cloud(1, 0, 9, spread=0.1), camera(16, 16), everything),
        Case("one_pixel", random_cloud(30, 0, 10), camera(1, 1), everything),
        Case("empty", GaussianCloud.empty(1, dtype=torch.float64), camera(20, 9), everything),
        Case("fewer_bands", random_cloud(40, 3, 12), plain, RenderOptions(sh_degree=1, background=(1.0, 1.0, 1.0))),
        Case("fine_blur", random_cloud(80, 1, 15, scale=0.05), plain, replace(everything, blur=0.3 / 16)),
        Case("fine_blur_antialiased", random_cloud(80, 1, 16, scale=0.02), plain, replace(smooth, blur=0.3 / 4)),
        Case("near_plane", random_cloud(60, 1, 13), plain, RenderOptions(near=3.5, depth=True)),
    ]
    cases += [Case(f"sh{degree}", random_cloud(30, degree, 20 + degree), plain, RenderOptions()) for degree in range(5)]
    return cases


CASES = _cases()
case_names = [case.name for case in CASES]


def case(name: str) -> Case:
    """The case called ``name``."""
    return CASES[case_names.index(name)]


def random_gradients(rendering: Rendering, keep: Tensor, seed: int = 0) -> ImageGradients:
    """Gradients of about 1/pixels for every picture in ``rendering``, zero where not ``keep`` (H, W)."""
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for name in PICTURES:
        picture = getattr(rendering, name)
        if picture is not None:
            values = torch.randn(picture.shape, generator=generator, dtype=torch.float64) / keep.numel()
            values = values / 16 if name == "square_depth" else values  # clouds are 4 units away: in units of depth
            found[name] = (values * keep.reshape(*keep.shape, *[1] * (picture.ndim - 2))).float().double()
    return ImageGradients(**found)


def flips(case: Case) -> tuple[Tensor, Tensor]:
    """(H, W) masks of the pixels where some value lies on the edge of a threshold, and of those that are on the edge of
    having another median."""
    shape = (case.camera.height, case.camera.width)
    edge, median_edge = torch.zeros(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
    projection = reference.project(case.cloud, case.camera, case.options, case.camera.world_to_camera)
    for block in reference.blocks(projection, case.camera):
        means2d = projection.means2d[block.members].expand(len(block.ys), -1, -1)
        falloff = reference.falloffs(projection, block, means2d)
        alpha = torch.where(falloff >= ALPHA_MIN, falloff.clamp_max(ALPHA_MAX), 0)
        behind = torch.cumprod(1 - alpha, 1)

        def near(value: Tensor, threshold: float) -> Tensor:
            return ((value / threshold - 1).abs() < FLIP_TOLERANCE).any(1)

        # What happens after a pixel is finished has no consequence, but marking it costs little.
        edge[block.ys, block.xs] = near(falloff, ALPHA_MIN) | near(falloff, ALPHA_MAX) | near(behind, TRANSMITTANCE_MIN)
        median_edge[block.ys, block.xs] = near(behind, 0.5)
    return edge, median_edge


@functools.cache
def expected(name: str) -> Expected:
    """The float64 reference on the case called ``name``; computed once per test session."""
    this = case(name)
    rendering, context = reference.forward(this.cloud, this.camera, this.options)
    edge, median_edge = flips(this)
    upstream = random_gradients(rendering, ~edge)
    return Expected(rendering, edge, edge | median_edge, upstream, reference.backward(context, upstream))


# ---- comparison ----


def assert_rendering_matches(found: Rendering, name: str) -> None:
    """Every picture within 1e-4 (depths relative to their size), every statistic likewise, away from flips."""
    wanted = expected(name)
    for picture in (*PICTURES, "median_depth"):
        value, truth = getattr(found, picture), getattr(wanted.rendering, picture)
        assert (value is None) == (truth is None), (
            f"{name}: {picture} is {'missing' if value is None else 'unasked for'}"
        )
        if truth is None:
            continue
        keep = ~(wanted.median_flips if picture == "median_depth" else wanted.flips)
        assert value.shape == truth.shape, (
            f"{name}: {picture} has shape {tuple(value.shape)}, expected {tuple(truth.shape)}"
        )
        error = (value.cpu().double() - truth).abs()
        if picture.endswith("depth"):
            error = error / truth.clamp_min(1)
        worst = float(error[keep].max()) if keep.any() else 0.0
        assert worst < IMAGE_TOLERANCE, f"{name}: {picture} differs by {worst:.2e}"
    assert found.radii.dtype == torch.int32
    # A half-extent within rounding of a whole number may be rounded up either way.
    difference = (found.radii.cpu().long() - wanted.rendering.radii.long()).abs()
    slack = (wanted.rendering.radii.double() * 1e-5).ceil().long().clamp_min(1)
    assert bool((difference <= slack).all()), f"{name}: radii differ by {int(difference.max())}"
    assert float((difference > 0).double().mean() if len(difference) else 0) < 0.05, f"{name}: many radii differ"
    seen = wanted.rendering.visible & (found.radii.cpu() > 0)
    _assert_rows_match(
        found.means2d[seen.to(found.means2d.device)], wanted.rendering.means2d[seen], f"{name}: means2d", 1e-4
    )
    assert (found.weights is None) == (wanted.rendering.weights is None)
    if found.weights is None:
        return
    total = (found.weights.cpu().double() - wanted.rendering.weights).abs()
    # Each flip-prone pixel may give or take at most one threshold's worth of weight.
    allowed = IMAGE_TOLERANCE * (1 + wanted.rendering.weights) + ALPHA_MIN * 1.01 * float(wanted.flips.sum())
    assert bool((total <= allowed).all()), f"{name}: weights differ by {float(total.max()):.2e}"


def assert_gradients_match(found: CloudGradients, name: str) -> None:
    """Every row of every gradient within 1e-3 of its own length (plus 1e-3 of a typical row's)."""
    wanted = expected(name).gradients
    for field in GRADIENTS:
        value, truth = getattr(found, field), getattr(wanted, field)
        assert value.shape == truth.shape, (
            f"{name}: {field} has shape {tuple(value.shape)}, expected {tuple(truth.shape)}"
        )
        if field == "world_to_camera":
            value, truth = value.reshape(1, 16), truth.reshape(1, 16)
        _assert_rows_match(value, truth, f"{name}: gradient of {field}", GRADIENT_TOLERANCE)


def _assert_rows_match(value: Tensor, truth: Tensor, what: str, tolerance: float) -> None:
    if not len(truth):
        return
    value, truth = value.cpu().double().reshape(len(truth), -1), truth.reshape(len(truth), -1)
    assert bool(value.isfinite().all()), f"{what} is not finite"
    size = truth.norm(dim=1)
    typical = float(size[size > 0].median()) if bool((size > 0).any()) else 1.0
    error = (value - truth).norm(dim=1) / (size + typical)
    row = int(error.argmax())
    assert float(error[row]) < tolerance, (
        f"{what}: row {row} off by {float(error[row]):.2e} ({value[row].tolist()} for {truth[row].tolist()})"
    )


def device_of(backend: str) -> torch.device:
    """Where the clouds of a usable ``backend`` live; skips the test when it is not usable."""
    reason = check_backend(backend)
    if reason is not None:
        pytest.skip(reason)
    return torch.device("cuda" if backend == "cuda" else "cpu")
