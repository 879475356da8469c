"""Published formulas against transcriptions of the papers' equations in float64 NumPy that share no code with ours.

Others stand with their modules: SSIM (tests/test_metrics.py, tests/ops/test_photometric_loss.py), MCMC's relocation and
noise (tests/ops/test_mcmc.py), Taming's pixel sums and budget and Turbo-GS (tests/training/strategies), bilateral grids
and appearance features (tests/training/test_appearance.py).
"""

import math

import numpy as np
import pytest
import torch

import splat
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.compression.methods.significance import blending_weights, significance, volume_factor
from splat.metrics import psnr
from splat.ops.adam import AdamHyper, AdamState, adam_step
from splat.rendering import ImageGradients, RenderOptions, reference
from splat.rendering.types import Rendering
from splat.surface.evaluation.metrics import compare
from splat.training.config.config import RatesConfig
from splat.training.hooks.dropout import gaussian_dropout
from splat.training.hooks.ges import SHAPE, frequency_mask, shaped
from splat.training.hooks.mip_filter import FILTER, filtered, widths
from splat.training.losses.sparse_depth import disparity_loss
from splat.training.losses.surface import distortion, normal_consistency
from splat.training.per_photo.exposure import expose
from splat.training.population import populate
from splat.training.rng import generator
from splat.training.schedules import rates
from splat.training.strategies.splitting import shared_opacity
from splat.training.strategies.taming import combined, gaussian_terms, pixel_weights
from splat.training.update import MeanGradient
from tests.support.clouds import cloud_of

POSE = torch.eye(4, dtype=torch.float64)
POSE[2, 3] = 4.0
CAMERA = Camera(30.0, 28.0, 12.3, 9.1, 24, 20, POSE)


def near(value, expected, rel: float = 1e-5) -> None:
    np.testing.assert_allclose(np.asarray(value, dtype=np.float64), expected, rtol=rel, atol=1e-7)


def doubles(*tensors: torch.Tensor) -> list[np.ndarray]:
    return [tensor.detach().double().numpy() for tensor in tensors]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


# ---- LightGaussian (Fan et al. 2024): score γ_j · I_j, γ_j = clip(V_j / V_90, 0, 1)^β, β = 0.1; I_j here Σ αT ----


def test_the_volume_factor_is_that_of_lightgaussian():
    cloud = cloud_of(50, 0, 1)
    (log_scales,) = doubles(cloud.log_scales)
    volume = 4 / 3 * math.pi * np.exp(log_scales).prod(1)
    ninety = np.sort(volume)[int(0.9 * 50)]
    expected = np.minimum(np.maximum(volume / ninety, 0), 1) ** 0.1
    assert expected.min() < 0.7 and (expected == 1).sum() == 5
    near(volume_factor(cloud), expected)
    near(volume_factor(cloud, 0.5), (np.minimum(volume / ninety, 1)) ** 0.5)
    few = volume[:5]
    near(volume_factor(cloud.select(slice(0, 5))), np.minimum(few / np.sort(few)[4], 1) ** 0.1)


def test_significance_is_weight_times_volume_factor():
    cloud = cloud_of(40, 0, 2, size=0.7)
    weights = blending_weights(cloud, [CAMERA, CAMERA.replace(fx=50.0)])
    both = [splat.render(cloud, c, "reference", weights=True).weights for c in (CAMERA, CAMERA.replace(fx=50.0))]
    near(weights, sum(doubles(*both)), 1e-4)
    assert (weights > 0).sum() > 20
    near(significance(cloud, [CAMERA, CAMERA.replace(fx=50.0)]), doubles(weights)[0] * doubles(volume_factor(cloud))[0])


# ---- 3DGS (Kerbl et al. 2023): Σ' = J W Σ Wᵀ Jᵀ, + 0.3 px²; Mip-Splatting (Yu et al. 2024): o√(|Σ'| / |Σ' + sI|) ----


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("antialiased", [False, True])
def test_one_gaussian_is_drawn_as_the_equations_say(backend, antialiased):
    mean, log_scale = np.array([0.2, -0.1, 0.5]), np.log([0.03, 0.2, 0.08])
    quat, logit = np.array([0.8, 0.3, -0.4, 0.2]), 1.2
    w, x, y, z = quat / np.linalg.norm(quat)
    rotation = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ])  # fmt: skip
    covariance = rotation @ np.diag(np.exp(2 * log_scale)) @ rotation.T
    t = POSE[:3, :3].numpy() @ mean + POSE[:3, 3].numpy()
    fx, fy = CAMERA.fx, CAMERA.fy
    jacobian = np.array([[fx / t[2], 0, -fx * t[0] / t[2] ** 2], [0, fy / t[2], -fy * t[1] / t[2] ** 2]])
    flat = jacobian @ covariance @ jacobian.T
    wide = flat + 0.3 * np.eye(2)
    opacity = sigmoid(logit)
    if antialiased:
        opacity *= math.sqrt(np.linalg.det(flat) / np.linalg.det(wide))
    centre = np.array([fx * t[0] / t[2] + CAMERA.cx, fy * t[1] / t[2] + CAMERA.cy])
    ys, xs = np.mgrid[: CAMERA.height, : CAMERA.width] + 0.5
    offset = np.stack([xs, ys], -1) - centre
    alpha = opacity * np.exp(-0.5 * np.einsum("hwi,ij,hwj->hw", offset, np.linalg.inv(wide), offset))
    alpha = np.where(alpha >= 1 / 255, alpha, 0)
    sh = np.array([0.3, -0.2, 0.1])
    expected = alpha[..., None] * (0.5 + 0.28209479177387814 * sh)
    cloud = GaussianCloud(
        *(torch.tensor(np.array(v)[None], dtype=torch.float32) for v in (mean, log_scale, quat, logit, sh[None]))
    )
    drawn = splat.render(cloud, CAMERA, backend, antialiased=antialiased)
    assert alpha.max() > 0.2
    assert np.abs(doubles(drawn.rgb)[0] - expected).max() < 2e-5
    assert np.abs(doubles(drawn.alpha)[0] - alpha).max() < 2e-5


# ---- Mip-Splatting (Yu et al. 2024): the 3D smoothing filter, with s = 0.2 as variance ----


def test_the_smoothing_filter_is_that_of_mip_splatting():
    cloud = cloud_of(30, 0, 3)
    width = torch.rand(30, generator=torch.Generator().manual_seed(0)) * 0.05
    log_scales, logits, f = doubles(cloud.log_scales, cloud.logit_opacities, width)
    squares = np.exp(2 * log_scales)
    wide = squares + f[:, None] ** 2
    opacity = sigmoid(logits) * np.sqrt(squares.prod(1) / wide.prod(1))
    made = filtered(cloud.replace(extras={FILTER: width}))
    near(made.scales, np.sqrt(wide))
    near(made.opacities, opacity, 1e-4)


def test_the_width_of_the_smoothing_filter_is_that_of_the_finest_view():
    points = np.array([[0.0, 0.0, 0.0], [0.1, 0.1, 2.0], [0.0, 0.0, -3.75], [0.0, 0.0, -3.85], [0.0, 0.0, -100.0]])
    far = CAMERA.replace(fx=90.0)
    # ν̂ = max over views of f / d; the filter's standard deviation is √s / ν̂.
    expected = [math.sqrt(0.2) * min(4 / 30, 4 / 90), math.sqrt(0.2) * min(6 / 30, 6 / 90)]
    expected.append(math.sqrt(0.2) * 0.25 / 90)
    expected += [max(expected)] * 2  # nearer than 0.2, and behind the cameras
    near(widths(torch.tensor(points, dtype=torch.float32), [CAMERA, far], 0.2), expected)


# ---- GES (Hamdi et al. 2024) and its code: φ(b) = 2 / (1 + exp(−ρb)), ρ = 0.1; the mask of the frequency loss ----


def test_a_generalized_exponential_has_the_width_of_ges():
    cloud = cloud_of(20, 0, 4)
    shape = torch.linspace(-40, 40, 20)
    made = shaped(cloud.replace(extras={SHAPE: shape}))
    scales, b = doubles(cloud.scales, shape)
    near(made.scales, scales * (2 / (1 + np.exp(-0.1 * b)))[:, None])


def blurring(size: int, sigma: float) -> np.ndarray:
    """(size, size): a row is a Gaussian of ``sigma`` of length 2 · round(3σ) + 1 and sum 1, cut off outside."""
    at = np.arange(size)[None] - np.arange(size)[:, None]
    reach = round(3 * sigma)
    weights = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    return np.where(abs(at) <= reach, np.exp(-(at**2) / (2 * sigma**2)), 0) / weights.sum()


def enlarging(small: int, size: int) -> np.ndarray:
    """(size, small): linear interpolation between pixel centres, the outermost continued."""
    at = ((np.arange(size) + 0.5) * small / size - 0.5).clip(0, small - 1)
    return np.maximum(1 - abs(at[:, None] - np.arange(small)[None]), 0)


@pytest.mark.parametrize("fraction", [0.01, 0.2, 0.49, 0.5, 0.9, 1.0])
def test_the_frequency_mask_is_that_of_ges(fraction):
    rgb = np.random.default_rng(7).random((45, 60, 3))
    percent = 100 * fraction
    sigma = 0.1 + 0.1 * (100 - percent) if percent >= 50 else 0.1 + 0.1 * percent
    small = rgb.mean(2)[2::5, 2::5]  # a fifth: the samples fall on pixel centres
    narrow, wide = (blurring(9, s) @ small @ blurring(12, s).T for s in (sigma, 2 * sigma))
    bands = enlarging(9, 45) @ (narrow - wide) @ enlarging(12, 60).T
    bands = (bands - bands.min()) / (bands - bands.min()).max()
    expected = (1 - bands if percent < 50 else bands) >= 0.5
    assert 0.05 < expected.mean() < 0.95
    assert (frequency_mask(torch.tensor(rgb), fraction).numpy() == expected).mean() > 0.999


# ---- 2D Gaussian Splatting (Huang et al. 2024): Σ wᵢ wⱼ (zᵢ − zⱼ)², here relative to z̄; Σ wᵢ (1 − nᵢᵀ N) ----


def test_distortion_of_known_weights():
    weights, depths = np.array([[0.3, 0.2, 0.4], [0.1, 0.0, 0.6]]), np.array([[1.0, 2.0, 4.0], [3.0, 3.5, 3.0]])
    expected = 0.0
    for w, z in zip(weights, depths, strict=True):
        mean = (w * z).sum() / w.sum()
        expected += sum(w[i] * w[j] * (z[i] - z[j]) ** 2 for i in range(3) for j in range(i)) / mean**2 / 2
    alpha, depth = weights.sum(1), (weights * depths).sum(1) / weights.sum(1)
    square = (weights * depths**2).sum(1) / weights.sum(1)
    near(distortion(*(torch.tensor(v[None]) for v in (alpha, depth, square))), expected)


def test_normal_consistency_on_a_tilted_plane():
    slope = np.array([0.3, -0.2, -1.0]) / math.sqrt(0.3**2 + 0.2**2 + 1)
    ys, xs = np.mgrid[: CAMERA.height, : CAMERA.width] + 0.5
    rays = np.stack([(xs - CAMERA.cx) / CAMERA.fx, (ys - CAMERA.cy) / CAMERA.fy, np.ones_like(xs)], -1)
    depth = (slope[2] * 5.0) / (rays @ slope)  # the plane through (0, 0, 5)
    blended = 0.7 * np.array([0.1, 0.2, -0.9])
    alpha = np.full(depth.shape, 0.8)
    inside = (CAMERA.height - 2) * (CAMERA.width - 2) / depth.size  # the border has no normals
    expected = (0.8 - slope @ blended) * inside
    normal = np.broadcast_to(blended, (*depth.shape, 3)).copy()
    near(normal_consistency(*(torch.tensor(v) for v in (depth, normal, alpha)), CAMERA), expected)


def test_the_depth_term_is_the_mean_difference_of_disparities():
    depth = torch.full((20, 24), 2.5, dtype=torch.float64)
    points = torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 1.0], [0.0, 0.0, -9.0]], dtype=torch.float64)
    pixels = torch.tensor([[5.5, 5.5], [9.5, 3.5], [1.5, 1.5]])  # the last lies behind the camera
    near(disparity_loss(depth, CAMERA, points, pixels), (abs(1 / 2.5 - 1 / 4) + abs(1 / 2.5 - 1 / 5)) / 2)


# ---- exposure (Kerbl et al. 2024, hierarchical 3DGS): affine 3×4 per photo ----


def test_an_exposure_is_an_affine_map_of_colours():
    random = np.random.default_rng(0)
    rgb, change = random.random((5, 7, 3)), random.normal(size=(3, 4))
    affine = np.eye(3, 4) + change
    expected = np.array([[affine @ [*pixel, 1.0] for pixel in row] for row in rgb])
    near(expose(torch.tensor(rgb), torch.tensor(change)), expected)


# ---- DropGaussian (Park et al. 2025): õ = M · o / (1 − r) ----


def test_dropped_gaussians_are_compensated():
    cloud = cloud_of(500, 0, 5)
    cloud.logit_opacities.clamp_(max=1.0)
    (before,) = doubles(cloud.logit_opacities)
    lost = (torch.rand(500, generator=generator(7, "hidden", 3)) < 0.2).numpy()
    with gaussian_dropout(cloud, 0.2, 7, 3):
        (inside,) = doubles(cloud.opacities)
    assert 60 < lost.sum() < 140
    near(inside[~lost], np.minimum(sigmoid(before[~lost]) / 0.8, 0.99))
    assert inside[lost].max() < 1e-8
    near(cloud.logit_opacities, before, 1e-4)
    (before,) = doubles(cloud.logit_opacities)
    with gaussian_dropout(cloud, 0.0, 7, 3):
        assert np.array_equal(doubles(cloud.logit_opacities)[0], before)


# ---- learning rates: Plenoxels' log-linear interpolation as used by 3DGS ----


@pytest.mark.parametrize("fraction", [0.0, 0.13, 0.5, 1.0])
def test_learning_rates_fall_exponentially(fraction):
    config = RatesConfig()
    got = rates(config, 2.5, fraction)
    means = math.exp((1 - fraction) * math.log(config.means) + fraction * math.log(config.means_final)) * 2.5
    near(got.means, means)
    rest = math.exp(fraction * math.log(config.final))
    near(
        [got.sh_dc, got.sh_rest, got.logit_opacities], np.array([config.sh_dc, config.sh_rest, config.opacities]) * rest
    )
    near([got.log_scales, got.quats], np.array([config.scales, config.quats]) * rest)


# ---- Adam (Kingma & Ba 2015), algorithm 1 ----


def test_adam_is_algorithm_1():
    cloud = cloud_of(11, 1, 6)
    (p,) = doubles(cloud.means)
    m, v, state = np.zeros_like(p), np.zeros_like(p), AdamState.zeros(cloud)
    random = np.random.default_rng(1)
    for t in range(1, 6):
        g = random.normal(size=p.shape)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        p = p - 0.02 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-15)
        hyper = AdamHyper(t, 0.02, 1.0, 1.0, 1.0, 1.0, 1.0)
        adam_step(cloud, {"means": torch.tensor(g, dtype=torch.float32)}, state, hyper)
    near(cloud.means, p, 1e-4)
    near(state.v["means"], v, 1e-4)


def test_the_gradient_of_a_batch_is_the_mean_of_its_views():
    population = populate(cloud_of(30, 0, 8, size=0.5))
    cameras = [CAMERA, CAMERA.replace(fx=45.0), CAMERA.replace(fy=40.0)]
    mean, expected = MeanGradient(reference.BACKEND, population), 0.0
    for camera in cameras:
        rendering, context = reference.forward(population.cloud, camera, RenderOptions())
        grads = ImageGradients(rgb=torch.ones_like(rendering.rgb))
        expected = expected + doubles(reference.backward(context, grads).sh)[0] / len(cameras)
        mean.add(context, rendering, grads)
    mean.step(AdamHyper(1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0), {}, {})
    assert np.abs(expected).max() > 0.1
    near(population.adam.m["sh"], 0.1 * expected, 1e-4)
    near(population.adam.v["sh"], 0.001 * expected**2, 1e-4)


def test_statistics_of_single_renderings_are_those_of_the_fused_step():
    # Kerbl et al. 2023, § 5.2: the norm of the gradient of the centre in normalised device coordinates.
    population = populate(cloud_of(30, 0, 8, size=0.5), ("grad2d", "count"))
    rendering, context = reference.forward(population.cloud, CAMERA, RenderOptions())
    grads = ImageGradients(rgb=torch.ones_like(rendering.rgb))
    (centre,) = doubles(reference.backward(context, grads).means2d)
    mean = MeanGradient(reference.BACKEND, population)
    mean.add(context, rendering, grads)
    mean.add(context, rendering, grads)
    seen = rendering.visible.numpy()
    assert 0 < seen.sum()
    near(population.statistics["grad2d"], 2 * np.hypot(centre[:, 0] * 12, centre[:, 1] * 10) * seen, 1e-4)
    near(population.statistics["count"], 2.0 * seen)


def test_a_strided_camera_sees_every_third_pixel():
    strided = CAMERA.strided(3, 2, 1)
    assert (strided.width, strided.height) == (8, 7)  # pixels 2, 5, … 23 and 1, 4, … 19
    assert CAMERA.strided(3, 2, 2).height == 6  # pixels 2, 5, … 17
    near(CAMERA.strided(3, 0, 0).rays()[1], CAMERA.rays()[1][::3, ::3].numpy())
    rays = CAMERA.rays()[1][1::3, 2::3]
    near(strided.rays()[1], rays.numpy())


# ---- Taming 3DGS (Mallick et al. 2024), with the weights of its code ----


def test_the_terms_of_the_taming_score():
    cloud = cloud_of(9, 0, 9)
    gradient, radii = torch.linspace(0.0, 2.0, 9), torch.tensor([0, 1, 2, 3, 4, 5, 6, 7, 0], dtype=torch.int32)
    means, scales, logits, grads, r = doubles(cloud.means, cloud.scales, cloud.logit_opacities, gradient, radii)
    seen = r > 0
    terms = [(25, grads), (100, sigmoid(logits)), (5, means[:, 2] + 4.0), (10, r), (25, scales.prod(1))]
    expected = np.zeros(9)
    for weight, values in terms:
        values = np.where(seen, values, 0)
        positive = np.sort(values[values > 0])
        expected += weight * np.maximum(values / positive[(len(positive) - 1) // 2], 0)
    near(combined(gaussian_terms(cloud, gradient, CAMERA, radii)), expected)


def test_the_weights_of_pixels_in_the_taming_score():
    random = np.random.default_rng(4)
    drawn, photo = random.random((7, 9, 3)), random.random((7, 9, 3))
    grey = np.pad(photo @ [0.299, 0.587, 0.114], 1, mode="edge")
    edges = np.zeros((7, 9))
    for y in range(7):
        for x in range(9):  # the kernel of Pillow's FIND_EDGES: 8 in the middle, −1 around
            edges[y, x] = np.clip(9 * grey[y + 1, x + 1] - grey[y : y + 3, x : x + 3].sum(), 0, 1)
    error = abs(drawn - photo).mean(2)
    expected = sum(50 * (part - part.min()) / (part.max() - part.min()) for part in (error, edges))
    mask = random.random((7, 9)) < 0.6
    pair = torch.tensor(drawn), torch.tensor(photo)
    near(pixel_weights(*pair, None), expected)
    near(pixel_weights(*pair, torch.tensor(mask)), expected * mask)


# ---- Revising Densification (Bulò et al. 2024): α̂ = 1 − √(1 − α) ----


def test_the_opacity_of_two_in_one_place():
    opacity = np.linspace(0.0, 0.99, 50)
    near(shared_opacity(torch.tensor(opacity)), 1 - np.sqrt(1 - opacity))


# ---- measures ----


def test_psnr_is_ten_times_the_logarithm_of_the_inverse_error():
    random = np.random.default_rng(2)
    a, b = random.random((6, 8, 3)), random.random((6, 8, 3))
    near(psnr(torch.tensor(a), torch.tensor(b)), 10 * math.log10(1 / ((a - b) ** 2).mean()))
    none = [None] * 3
    drawn = Rendering(torch.tensor(a), torch.ones(6, 8), *none, torch.zeros(0), None, torch.zeros(0, 2))
    near(drawn.psnr(torch.tensor(b)), 10 * math.log10(1 / ((a - b) ** 2).mean()))


def test_chamfer_and_f_score_of_two_clouds_of_points():
    random = np.random.default_rng(3)
    a, b = random.random((60, 3)), random.random((90, 3))
    distance = np.sqrt(((a[:, None] - b[None]) ** 2).sum(2))
    there, back = distance.min(1), distance.min(0)
    scores = compare(a, b, [0.1])
    near([scores.accuracy, scores.completeness], [there.mean(), back.mean()])
    near(scores.chamfer, (there.mean() + back.mean()) / 2)
    precision, recall = (there <= 0.1).mean(), (back <= 0.1).mean()
    assert 0 < precision < 1 and 0 < recall < 1
    near(scores.f_scores[0].f1, 2 * precision * recall / (precision + recall))
