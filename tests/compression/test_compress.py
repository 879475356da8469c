"""Stages and rate control of `splat.compress` on clouds and scenes that are small enough to be quick."""

import pytest
import torch
from support.scenes import ring_scene, truth

import splat
from splat import InputError
from splat.cloud import GaussianCloud
from splat.compression import blending_weights, distill, finetune, prune, prune_below, significance, views_around
from splat.compression.methods.significance import volume_factor
from splat.rendering import RenderOptions, render


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr("splat.viewpoints.around_cloud.SIDE", 40)


def ball(count: int = 80, degree: int = 1, seed: int = 0) -> GaussianCloud:
    """Blobs on the unit sphere."""
    g = torch.Generator().manual_seed(seed)
    sh = 0.5 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)
    sh[:, 1:] *= 0.3
    return GaussianCloud(
        torch.nn.functional.normalize(torch.randn(count, 3, generator=g), dim=1),
        torch.randn(count, 3, generator=g) * 0.3 - 1.8,
        torch.randn(count, 4, generator=g),
        torch.full((count,), 1.5),
        sh,
    )


def test_views_see_the_cloud_whatever_lies_far_away():
    cloud = ball(200)
    means = cloud.means.clone()
    means[:5] = 1e5
    for camera in views_around(cloud.replace(means=means), 7):
        pixels, depth = camera.project(cloud.means.double())
        inside = (depth > 0) & (pixels > -camera.width / 2).all(1) & (pixels < 1.5 * camera.width).all(1)
        assert inside.double().mean() > 0.8
    assert views_around(GaussianCloud.empty()) == []


def test_blending_weights_add_up_to_the_opacity_of_the_pictures():
    cloud = ball()
    cameras = views_around(cloud, 2, side=32)
    weights = blending_weights(cloud, cameras)
    covered = sum(float(render(cloud, camera).alpha.sum()) for camera in cameras)
    assert float(weights.sum()) == pytest.approx(covered, rel=1e-3)


def test_significance_is_weight_times_clipped_volume():
    cloud = ball()
    volume = cloud.scales.double().prod(1)
    large = volume.sort().values[int(0.9 * len(cloud))]
    expected = (volume / large).clamp(0, 1) ** 0.1
    torch.testing.assert_close(volume_factor(cloud).double(), expected, rtol=1e-4, atol=1e-6)
    cameras = views_around(cloud, 2, side=32)
    torch.testing.assert_close(significance(cloud, cameras, power=0.0), blending_weights(cloud, cameras))


def test_prune_keeps_the_best_in_their_order():
    cloud = ball(10)
    scores = torch.tensor([3.0, 0, 9, 1, 5, 7, 2, 8, 4, 6])
    torch.testing.assert_close(prune(cloud, scores, 0.5).means, cloud.means[scores >= 5])
    torch.testing.assert_close(prune_below(cloud, scores, 7).means, cloud.means[scores >= 7])
    assert len(prune(cloud, scores, 1.0)) == 1
    with pytest.raises(InputError, match="expected 0 to 1"):
        prune(cloud, scores, 1.5)


def test_distilled_colours_come_nearer_than_cut_ones():
    cloud = ball(40, 2)
    cloud = cloud.replace(sh=torch.cat([cloud.sh[:, :4], 2 * cloud.sh[:, 4:]], 1))
    cameras = views_around(cloud, 4, side=40)
    found = distill(cloud, 0, cameras, steps=40)
    assert found.sh_degree == 0

    def error(other: GaussianCloud) -> float:
        return sum(float((render(other, c).rgb - render(cloud, c).rgb).square().mean()) for c in cameras)

    assert error(found) < 0.9 * error(cloud.with_sh_degree(0))
    torch.testing.assert_close(found.means, cloud.means)


def test_finetuning_heals_a_pruned_cloud():
    options = RenderOptions(background=(0.1, 0.1, 0.1))
    scene = ring_scene(views=6, size=32, backend="auto")
    start = truth().replace(sh=truth().sh * 0.7)
    found = finetune(start, scene, 40, options)
    camera, photo = scene.train_views[0].camera, scene.train_views[0].load().rgb.float() / 255

    def psnr(cloud: GaussianCloud) -> float:
        return render(cloud, camera, options=options).psnr(photo)

    assert len(found) == len(start)
    assert psnr(found) > psnr(start) + 1


def test_fidelity_and_size(tmp_path):
    cloud = ball(60)
    found = splat.compress(cloud, tmp_path / "a.splatz", fidelity=35)
    assert found.psnr >= 35 and found.size == len(found.data) < found.source_size / 3
    small = splat.compress(cloud, size=found.size * 3 // 4)
    assert small.size <= found.size * 3 // 4 and small.psnr < found.psnr
    with pytest.raises(InputError, match="20 bytes cannot be reached.*the nearest is"):
        splat.compress(cloud, size=20)


def test_goals_that_make_no_sense():
    with pytest.raises(InputError, match="fidelity and ratio were all given"):
        splat.compress(ball(3), fidelity=40, ratio=3)
    with pytest.raises(InputError, match="positive"):
        splat.compress(ball(3), ratio=-1)
    with pytest.raises(InputError, match="photos"):
        splat.compress(ball(3), max_drop=0.1)


@pytest.mark.parametrize("name", ["a.splatz", "a.ply"])
def test_empty_single_and_broken(name):
    assert len(splat.compress(GaussianCloud.empty(1), name).cloud) == 0
    assert len(splat.compress(ball(1), name, fidelity=30).cloud) == 1
    cloud = ball(5)
    cloud.means[2, 0] = torch.nan
    found = splat.compress(cloud, name, fidelity=30)
    assert found.dropped == 1 and found.source_gaussians == 4


@pytest.mark.parametrize("name", ["a.splatz", "a.ply"])
def test_largest_drop_on_held_out_photos(name):
    options = RenderOptions(background=(0.1, 0.1, 0.1))
    scene = ring_scene(views=9, size=32, backend="auto")

    def psnr(cloud: GaussianCloud) -> float:
        pairs = [(render(cloud, v.camera, options=options), v.load().rgb.float() / 255) for v in scene.test_views]
        return sum(picture.psnr(photo) for picture, photo in pairs) / len(pairs)

    found = splat.compress(truth(), name, max_drop=8, scene=scene, steps=40, options=options)
    assert psnr(found.cloud) >= psnr(truth()) - 8
    assert found.size < found.source_size
