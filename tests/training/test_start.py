"""Runs that begin with clouds: frozen Gaussians end bit for bit as they were, the others are trained as beside them."""

import dataclasses

import pytest
import torch
from support.method_runs import METHODS, SHORT
from support.scenes import ring_scene, train_in_pieces, truth

from splat.cloud import FIELDS, GaussianCloud
from splat.coordinates import Georeference
from splat.errors import InputError
from splat.ops.adam import AdamHyper, parameters
from splat.rendering.backends import get_backend
from splat.runs.train import train
from splat.training import checkpoint, trainer
from splat.training.config.config import TrainConfig
from splat.training.config.densify import AdcConfig
from splat.training.config.methods import AverageConfig
from splat.training.config.photos import AppearanceConfig
from splat.training.config.priors import PriorsConfig
from splat.training.fitter import Fitter
from splat.training.frozen import with_frozen
from splat.training.hooks import mip_filter
from splat.training.population import populate
from splat.training.schedules import Schedule
from splat.training.start import Start, place_of
from splat.training.strategies import view_sampler
from splat.training.training_view import TrainingView

STRATEGIES = {
    "mcmc": {},
    "adc": {"strategy": "adc", "adc": AdcConfig(reset_every=0.25)},
    "taming": METHODS["taming"],
    "turbo": METHODS["turbo"],
}
# What else changes rows or moves them.
OTHERS = {
    "pruning, filter, shapes, batches": {
        name: value for name, value in METHODS["all"].items() if name not in ("strategy", "coarse", "dilate")
    },
    "averaging, features, dropout": {
        "average": AverageConfig(start=0.3),
        "appearance": AppearanceConfig(features=2),
        "priors": PriorsConfig(dropout=0.2),
    },
}


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


def half() -> GaussianCloud:
    """Half of the scene's true Gaussians, with view-dependent colours; strategies would remove some of them."""
    cloud = truth().select(slice(0, 12)).with_sh_degree(2)
    logits, scales = cloud.logit_opacities.clone(), cloud.log_scales.clone()
    logits[0], logits[1], logits[2], scales[2] = -12.0, 9.0, -4.0, 0.0
    sh = cloud.sh.clone()
    sh[:, 1:] = 0.05 * torch.randn(12, 8, 3, generator=torch.Generator().manual_seed(3))
    return cloud.replace(logit_opacities=logits, log_scales=scales, sh=sh)


def same(a: GaussianCloud, b: GaussianCloud) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name)) for name in FIELDS)


def config_of(changes: dict, **more) -> TrainConfig:
    return dataclasses.replace(SHORT, **{"sh_degree": 2, "checkpoint_seconds": 0} | changes | more)


@pytest.mark.parametrize("name", [*STRATEGIES, *OTHERS])
def test_frozen_rows_end_as_they_were(name, scene, monkeypatch):
    monkeypatch.setattr(mip_filter, "EVERY", 7)
    frozen = half()
    kept = frozen.clone()
    config = config_of({**STRATEGIES, **OTHERS}[name], steps=100)
    result = train(scene, config, start=Start(frozen=frozen))
    assert same(result.cloud.select(slice(len(result.cloud) - 12, None)), kept) and same(frozen, kept)
    trained = result.cloud.select(slice(0, len(result.cloud) - 12))
    assert len(result.cloud) <= config.gaussians and result.metrics["gaussians"] == len(result.cloud)
    assert len(trained) > 12 and result.metrics["psnr"] > 15
    first = trainer.begin(trainer.set_up(scene, config), Schedule(100, None)).cloud
    assert not any(torch.equal(trained.means[row], first.means[row]) for row in range(min(len(trained), len(first))))


@pytest.mark.parametrize("name", ["taming", *OTHERS])
def test_stopped_runs_go_on_bit_for_bit_without_the_files(name, scene, tmp_path, monkeypatch):
    monkeypatch.setattr(mip_filter, "EVERY", 7)
    config, start = config_of({**STRATEGIES, **OTHERS}[name]), Start(frozen=half(), added=truth(5, 9))
    whole = train(scene, config, start=start)
    steps: list[int] = []
    train(
        scene, config, tmp_path / "run", start=start,
        progress=lambda now: steps.append(now.step), stop=lambda: steps[-1] == 17,
    )  # fmt: skip
    config = dataclasses.replace(config, sh_every=0.0)
    result = train(scene, config, tmp_path / "run", resume=True)
    assert same(whole.cloud, result.cloud) and whole.cloud.extras.keys() == result.cloud.extras.keys()


def test_a_step_is_that_of_the_whole_cloud(scene):
    """The rows beside frozen ones move as they would if all were trained: with the same picture, by their gradients."""
    cloud, frozen = truth(20, 1).with_sh_degree(2), half()
    both = populate(with_frozen(cloud, frozen).clone(), ("grad2d", "grad2d_abs", "count"))
    alone = populate(cloud.clone(), ("grad2d", "grad2d_abs", "count"))
    hyper = AdamHyper(1, means=1e-3, log_scales=2e-3, quats=3e-3, logit_opacities=4e-3, sh_dc=5e-3, sh_rest=6e-4)
    views = [
        TrainingView(None, view.load(), view.camera, (0.1, 0.1, 0.1)) for view in scene.train_views[:2]
    ]  # two: the path that is not fused, for both
    backend = get_backend("reference")
    Fitter(both, backend).step(views, hyper)
    losses = Fitter(alone, backend, frozen=frozen).step(views, hyper)
    for name, tensor in parameters(alone.cloud).items():
        assert torch.allclose(tensor, parameters(both.cloud)[name][:20], rtol=0, atol=1e-6), name
        assert torch.allclose(alone.adam.m[name], both.adam.m[name][:20], rtol=1e-4, atol=1e-9), name
    for name, values in alone.statistics.items():
        assert torch.allclose(values, both.statistics[name][:20], rtol=1e-4, atol=1e-8), name
    assert len(losses) == 2 and len(alone) == 20


def test_what_strategies_see_has_the_frozen_in_its_pictures(scene):
    setup = trainer.set_up(scene, config_of({}), start=Start(frozen=half()))
    state = trainer.begin(setup, Schedule(40, None))
    sampler = trainer.context_of(setup, state).view_sampler
    view = sampler.view_at(0)
    whole = dataclasses.replace(sampler, frozen=None)
    rendering, context = sampler.render(state.cloud, view)
    wanted, all_rows = whole.render(trainer.shown(state), view)
    n = len(state.cloud)
    assert torch.equal(rendering.rgb, wanted.rgb) and torch.equal(rendering.radii, wanted.radii[:n])
    signs = torch.ones_like(rendering.rgb)
    assert torch.equal(sampler.backward(context, signs).sh, whole.backward(all_rows, signs).sh[:n])
    (sums,) = sampler.weighted_sums(state.cloud, view, signs)
    assert torch.equal(sums, whole.weighted_sums(trainer.shown(state), view, signs)[0][:n])
    assert isinstance(sampler, view_sampler.ViewSampler) and len(sums) == n


def test_init_takes_the_place_of_points_and_added_rows_are_trained(scene):
    config = config_of({}, steps=1, densify=dataclasses.replace(SHORT.densify, every=100))
    init, added = truth(9, 2).with_sh_degree(2), truth(4, 3)
    state = trainer.begin(trainer.set_up(scene, config, start=Start(init=init, added=added)), Schedule(1, None))
    assert same(state.cloud, GaussianCloud.concat([init, added])) and state.first_count == 13
    state = trainer.begin(trainer.set_up(scene, config, start=Start(added=added)), Schedule(1, None))
    assert len(state.cloud) == 64 and same(state.cloud.select(slice(60, None)), added.with_sh_degree(2))
    points = dataclasses.replace(scene.points, xyz=scene.points.xyz[:7] + 1, rgb=scene.points.rgb[:7])
    state = trainer.begin(trainer.set_up(scene, config, start=Start(points=points)), Schedule(1, None))
    assert torch.equal(state.cloud.means, points.xyz.float())
    result = train(scene, config_of({}, steps=60), start=Start(init=truth()))
    assert result.metrics["psnr"] > 28  # it begins with the truth


def test_a_scene_on_a_map_takes_the_reference_system_of_its_points():
    files, far = ({"role": "a"}, {"role": "b", "epsg": 25832}), (4e5, 5e6, 0.0)
    assert place_of(Georeference(far), files) == Georeference(far, 25832)
    assert place_of(Georeference(far, 2056), files).epsg == 2056
    assert place_of(Georeference(far), files[:1]).epsg is None and place_of(Georeference(), files) == Georeference()


def test_what_does_not_go_together_is_refused(scene):
    for config, start, reason in (
        (
            config_of({}),
            Start(init=truth(300)),
            "the clouds to begin with have 300 Gaussians, but the run may have 120",
        ),
        (config_of({}), Start(frozen=truth(120)), "--gaussians 121"),
        (config_of({"priors": PriorsConfig(co_regularization=0.5)}), Start(frozen=half()), "co_regularization"),
    ):
        with pytest.raises(InputError, match=reason):
            train(scene, config, start=start)


def test_another_file_to_begin_with_is_refused(scene, tmp_path):
    start = Start(init=truth(), files=({"role": "cloud to begin with", "name": "a.ply", "sha256": "1"},))
    train_in_pieces(scene, config_of({}, sh_every=0.0), tmp_path / "plain", (5,))
    config, out = config_of({}), tmp_path / "run"
    train(scene, config, out, start=start, stop=lambda: True)
    assert checkpoint.load(out / "checkpoints")["start"] == list(start.files)
    other = dataclasses.replace(start, files=({"role": "cloud to begin with", "name": "b.ply", "sha256": "2"},))
    for folder in ("plain", "run"):
        with pytest.raises(InputError, match=r"from another cloud to begin with than b\.ply"):
            train(scene, config, tmp_path / folder, start=other, resume=True)
    assert train(scene, config, out, start=start, resume=True).finished
