"""Looks of parts of a scene: the colours they make, their slopes, a look recovered from half a photo, whole runs."""

import dataclasses
import math

import pytest
import torch
from support.scenes import row_scene, short

from splat.camera import Camera
from splat.cloud import FIELDS, GaussianCloud
from splat.formats import read
from splat.priors.wild import appearance_fitting
from splat.priors.wild.appearance_fitting import fit_exposure, fit_transforms, left_half
from splat.rendering import RenderOptions, render
from splat.runs.train import train
from splat.scene import Photo
from splat.sh_basis import C0
from splat.training.config.config import AppearanceConfig
from splat.training.config.methods import BatchConfig
from splat.training.hooks import appearance_features
from splat.training.hooks.chain_rule import deform_with_pullback
from splat.training.per_photo import exposure as exposures
from splat.training.training_view import TrainingView


def featured(count: int = 6, degree: int = 1, kind=torch.float64) -> GaussianCloud:
    g = torch.Generator().manual_seed(1)
    return GaussianCloud(
        means=(torch.rand(count, 3, generator=g) - 0.5).to(kind),
        log_scales=torch.full((count, 3), math.log(0.1), dtype=kind),
        quats=torch.tensor([[1.0, 0, 0, 0]], dtype=kind).repeat(count, 1),
        logit_opacities=torch.full((count,), 2.0, dtype=kind),
        sh=(0.4 * torch.randn(count, (degree + 1) ** 2, 3, generator=g)).to(kind),
        extras={appearance_features.APPEARANCE_FEATURES: torch.randn(count, 2, generator=g).to(kind)},
    )


def test_a_look_is_the_sum_of_its_transforms_times_the_features():
    cloud = featured(degree=0)
    transforms = 0.2 * torch.randn(3, 3, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    shown = 0.5 + C0 * appearance_features.apply_appearance(cloud, transforms).sh[:, 0]
    for row in range(len(cloud)):
        colour = 0.5 + C0 * cloud.sh[row, 0]
        expected = colour.clone()
        for weight, transform in zip(
            [1.0, *cloud.extras[appearance_features.APPEARANCE_FEATURES][row].tolist()], transforms, strict=True
        ):
            expected += weight * (transform[:, :3] @ colour + transform[:, 3])
        assert torch.allclose(shown[row], expected)
    assert torch.equal(appearance_features.apply_appearance(cloud, torch.zeros(3, 3, 4).double()).sh, cloud.sh)


def view_of_photo(parameters: dict[str, torch.Tensor]) -> TrainingView:
    camera = Camera.look_at(torch.tensor([0.0, 0, -2.0]), torch.zeros(3), torch.tensor([0.0, -1, 0]), 8, 8, 80.0)
    photo = Photo(torch.zeros(8, 8, 3, dtype=torch.uint8))
    return TrainingView(1, photo, camera, (0.0, 0.0, 0.0), photo_parameters=parameters)


def test_the_pullback_agrees_with_finite_differences_and_steps_nothing():
    config = short(appearance=AppearanceConfig(features=2))
    (hook,) = appearance_features.hooks(config, 3)
    values = 0.1 * torch.randn(3, 3, 3, 4, generator=torch.Generator().manual_seed(3))
    cloud = featured()
    weights = torch.randn(cloud.sh.shape, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def value(cloud: GaussianCloud) -> float:
        return float((appearance_features.apply_appearance(cloud, values[1].double()).sh * weights).sum())

    view = view_of_photo({appearance_features.NAME: values[1].double().requires_grad_()})
    shown, pullback = deform_with_pullback((hook,), cloud, view)
    assert torch.allclose(shown.sh, appearance_features.apply_appearance(cloud, values[1].double()).sh)
    found, of_photo = pullback(
        {name: weights if name == "sh" else torch.zeros_like(getattr(cloud, name)) for name in FIELDS}
    )
    for name in ("sh", appearance_features.APPEARANCE_FEATURES):
        tensor = cloud.sh if name == "sh" else cloud.extras[name]
        for place in [(0,) * tensor.ndim, (3, *(size - 1 for size in tensor.shape[1:]))]:
            sides = []
            for step in (1e-5, -1e-5):
                moved = tensor.clone()
                moved[place] += step
                sides.append(
                    value(
                        cloud.replace(sh=moved) if name == "sh" else cloud.replace(extras={**cloud.extras, name: moved})
                    )
                )
            assert float(found[name][place]) == pytest.approx((sides[0] - sides[1]) / 2e-5, rel=1e-5)
    row = values[1].double().requires_grad_()
    (exact,) = torch.autograd.grad((appearance_features.apply_appearance(cloud, row).sh * weights).sum(), row)
    assert of_photo.keys() == {appearance_features.NAME}
    assert torch.allclose(of_photo[appearance_features.NAME], exact)
    assert hook.per_photo[appearance_features.NAME].parameters.steps.tolist() == [0, 0, 0]  # a pullback steps nothing
    assert deform_with_pullback((hook,), cloud)[0] is cloud  # no photo, no look
    assert deform_with_pullback((hook,), cloud, view_of_photo({})) == (cloud, None)  # a picture that is no photo


def test_the_look_of_a_part_is_recovered_from_half_a_photo_where_one_exposure_cannot(monkeypatch):
    cloud = featured(400, degree=1, kind=torch.float32)
    cloud = cloud.replace(extras={appearance_features.APPEARANCE_FEATURES: 2 * cloud.means[:, :2]})
    camera = Camera.look_at(torch.tensor([0.0, 0, -2.0]), torch.zeros(3), torch.tensor([0.0, -1, 0]), 96, 64, 80.0)
    transforms = torch.zeros(3, 3, 4)
    transforms[0, :, 3] = 0.05
    transforms[1] = 0.15 * torch.randn(3, 4, generator=torch.Generator().manual_seed(5))
    background = (0.2, 0.3, 0.4)
    dusk = (0.5, 0.2, 0.3)
    photo = render(appearance_features.apply_appearance(cloud, transforms), camera, background=dusk).rgb
    spoilt = photo.clone()
    spoilt[:8, :12] = 0
    left = left_half(64, 96)
    plain = render(cloud, camera, background=background).rgb
    found, behind = fit_transforms(cloud, camera, spoilt, left, RenderOptions(background))
    assert torch.allclose(torch.tensor(behind), torch.tensor(dusk), atol=0.02)
    monkeypatch.setattr(appearance_fitting, "_RIDGE", 1e-8)
    exact, _ = fit_transforms(cloud, camera, photo, left, RenderOptions(background))
    assert torch.allclose(exact, transforms, atol=0.02)
    errors = [
        float((picture - photo)[~left].square().mean())
        for picture in (
            render(appearance_features.apply_appearance(cloud, found), camera, background=behind).rgb,
            exposures.expose(plain, fit_exposure(plain, spoilt, left)),
        )
    ]
    assert errors[0] < 0.4 * errors[1]


def sky_changes(rgb: torch.Tensor, number: int) -> torch.Tensor:
    """The upper half of the photos has a cast that differs from one to the next."""
    upper = (torch.arange(len(rgb)) < len(rgb) // 2)[:, None, None]
    return (rgb + 0.25 * math.sin(2.0 * number) * upper * torch.tensor([1.0, 0.0, -1.0])).clamp(0, 1)


def test_photos_that_differ_in_a_part_are_told_apart(monkeypatch):
    scene = row_scene(6, change=sky_changes)
    monkeypatch.setattr(appearance_features, "RATE", 2e-2)  # in few steps
    losses = {}
    for features in (0, 4):
        config = short(steps=150, appearance=AppearanceConfig(features=features))
        result = train(scene, config)
        losses[features] = result.metrics["history"][-2]["loss"]
        assert (appearance_features.APPEARANCE_FEATURES in result.cloud.extras) == (features > 0)
    assert losses[4] < 0.85 * losses[0]


@pytest.mark.parametrize("batch", [1, 2])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path, batch):
    scene = row_scene(4, change=sky_changes)
    config = short(steps=30, checkpoint_seconds=0, appearance=AppearanceConfig(features=3))
    config = dataclasses.replace(config, batch=BatchConfig(size=batch, start=0.5))
    whole = train(scene, config).cloud
    steps = []
    train(scene, config, tmp_path, progress=lambda p: steps.append(p.step), stop=lambda: steps[-1] == 20)
    resumed = train(scene, config, tmp_path, resume=True).cloud
    assert all(torch.equal(getattr(whole, name), getattr(resumed, name)) for name in FIELDS)
    name = appearance_features.APPEARANCE_FEATURES
    assert torch.equal(whole.extras[name], resumed.extras[name])


def test_a_size_holds_with_the_features_in_the_file(tmp_path):
    config = short(steps=2, checkpoint_seconds=0, size="4kB", appearance=AppearanceConfig(features=8))
    result = train(row_scene(), config, tmp_path)
    assert 0.4 * 4000 < (tmp_path / "cloud.ply").stat().st_size <= 4000
    assert torch.equal(
        read(tmp_path / "cloud.ply").extras[appearance_features.APPEARANCE_FEATURES],
        result.cloud.extras[appearance_features.APPEARANCE_FEATURES],
    )
