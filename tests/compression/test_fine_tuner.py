"""Fine-tuning: one optimizer state while rows leave, the running mean, axes in order; and all of it with photos."""

from dataclasses import replace

import numpy as np
import torch
from support.scenes import ring_scene, truth

import splat
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression import Callbacks
from splat.compression.finetuning.fine_tuner import FineTuner, Targets, photo_targets, usual_rates
from splat.compression.finetuning.straight_through import Rounding, with_ordered_axes
from splat.formats.splatz.rows import Rows
from splat.rendering import RenderOptions, render
from splat.scene.images import Photo
from splat.training.training_view import TrainingView

OPTIONS = RenderOptions(background=(0.1, 0.1, 0.1))


def tuner(cloud: GaussianCloud, **rates: float) -> FineTuner:
    scene = ring_scene(views=6, size=32, backend="auto")
    usual = replace(usual_rates(scene.extent), **rates)
    return FineTuner(cloud, photo_targets(scene, OPTIONS), usual, OPTIONS)


def test_what_stays_keeps_its_moments_and_goes_on_alike():
    far = truth().select(torch.tensor([0])).clone()
    far.means[:] = torch.tensor([0.0, 0.0, 1e4])  # no view shows it
    whole, less = tuner(GaussianCloud.concat([truth(), far])), tuner(GaussianCloud.concat([truth(), far]))
    for each in (whole, less):
        each.run(15, (1.0, 1.0))
    kept = torch.arange(len(less.cloud)) < len(less.cloud) - 1
    less.prune(kept)
    for each in (whole, less):
        each.run(15, (1.0, 0.1))
    torch.testing.assert_close(less.cloud.means, whole.cloud.means[kept], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(less.mean.sh, whole.mean.sh[kept], rtol=1e-4, atol=1e-5)


def test_snapshots_bring_back_rows():
    trained = tuner(truth())
    last, before = trained.snapshot(), trained.cloud.means.clone()
    trained.prune(torch.arange(len(before)) % 2 == 0)
    trained.run(10, (1.0, 1.0))
    trained.restore(last)
    torch.testing.assert_close(trained.cloud.means, before)
    assert trained.steps == 10


def test_ordered_axes_change_no_picture():
    trained = tuner(truth())
    trained.run(30, (1.0, 1.0))
    camera = ring_scene(views=6, size=32, backend="auto").train_views[0].camera
    before = render(trained.cloud, camera).rgb
    trained.order_axes()
    assert (trained.cloud.log_scales.diff(dim=1) <= 0).all()
    torch.testing.assert_close(render(trained.cloud, camera).rgb, before, atol=1e-4, rtol=0)


def test_a_price_on_colour_makes_smaller_files():
    sizes = []
    flat = truth()
    bands = 0.15 * torch.randn(len(flat), 3, 3, generator=torch.Generator().manual_seed(0))
    start = with_ordered_axes(flat.replace(sh=torch.cat([flat.sh[:, :1], bands], 1)))
    for price in (0.0, 0.02):
        trained, rounding = tuner(start, sh_rest=0.01), Rounding.of(start, 70.0)
        trained.run(80, (1.0, 1.0), rounding, price)
        codes = rounding.grid.quantize(Rows.of(GaussianArrays.of(trained.mean)))
        sizes.append(int(np.abs(codes.rest).sum()))
    assert sizes[1] < 0.9 * sizes[0]


def test_the_whole_way_prunes_says_what_it_does_and_keeps_the_goal():
    scene, said = ring_scene(views=9, size=32, backend="auto"), []
    cloud = GaussianCloud.concat([truth(), truth().replace(logit_opacities=truth().logit_opacities * 0 - 6)])

    def psnr(cloud: GaussianCloud) -> float:
        pairs = [(render(cloud, v.camera, options=OPTIONS), v.load().rgb.float() / 255) for v in scene.test_views]
        return sum(picture.psnr(photo) for picture, photo in pairs) / len(pairs)

    found = splat.compress(
        cloud, max_drop=20, scene=scene, steps=120, options=OPTIONS, callbacks=Callbacks(say=said.append)
    )
    assert psnr(found.cloud) >= psnr(cloud) - 20
    assert found.gaussians < len(cloud)
    assert "steps" in said[0] and any("Gaussians" in line for line in said) and any("quality" in line for line in said)


def test_photos_that_mislead_are_replaced_by_renders(monkeypatch):
    scene, said = ring_scene(views=9, size=32, backend="auto"), []
    camera = scene.train_views[0].camera
    noise = torch.randint(0, 256, (32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(
        "splat.compression.rate_control.with_photos.photo_targets",
        lambda *_: Targets(1, lambda index: TrainingView(None, Photo(noise), camera, (0.1, 0.1, 0.1))),
    )
    cloud = GaussianCloud.concat([truth(), truth().replace(logit_opacities=truth().logit_opacities * 0 - 6)])
    found = splat.compress(
        cloud, max_drop=20, scene=scene, steps=120, options=OPTIONS, callbacks=Callbacks(say=said.append)
    )
    assert any("renders of the input" in line for line in said)
    assert found.gaussians < len(cloud)
