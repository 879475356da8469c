"""Budgets of Gaussians, bytes and minutes are used and never exceeded."""

import dataclasses

import pytest
from support.method_runs import SHORT
from support.scenes import ring_scene

from splat.errors import InputError
from splat.files import bytes_of
from splat.runs import train as training_run
from splat.runs.train import train
from splat.training import budget, trainer
from splat.training.config import config as settings
from splat.training.config.config import TrainConfig
from splat.training.config.densify import DensifyConfig


@pytest.fixture(scope="module")
def scene():
    return ring_scene(size=32)


@pytest.mark.parametrize(("degree", "size"), [(0, "6kB"), (1, "20 kB"), (3, "0.02MB")])
def test_a_size_is_filled_and_never_exceeded(scene, degree, size, tmp_path):
    config = budget.use_whole_size(dataclasses.replace(SHORT, steps=30, size=size, sh_degree=degree))
    train(scene, config, tmp_path / "run")
    limit = bytes_of(size, "size")
    # One Gaussian more would not fit; at a few kilobytes the header counts.
    assert limit - 2500 < (tmp_path / "run" / "cloud.ply").stat().st_size <= limit


@pytest.mark.parametrize("name", ["mcmc", "taming", "turbo", "fast", "tiny", "quality"])
def test_a_budget_is_used_and_never_exceeded(scene, name):
    config = settings.preset(name) if name in settings.presets() else TrainConfig(strategy=name)
    config = dataclasses.replace(config, steps=400, gaussians=200, gaussians_per_root_step=0.0, checkpoint_seconds=0)
    counts = []
    result = train(scene, config, progress=lambda now: counts.append(now.gaussians))
    assert max(counts) <= 200 and len(result.cloud) >= 196


def test_at_megabytes_a_size_is_used_to_98_percent():
    for size, degree in (("1MB", 3), ("12MB", 3), ("5MB", 0)):
        count = budget.use_whole_size(TrainConfig(size=size, sh_degree=degree)).gaussians
        assert count * 4 * (14 + 3 * (degree + 1) ** 2) >= 0.98 * bytes_of(size, "size")


def test_size_and_count_both_hold():
    assert budget.max_gaussians(TrainConfig(size="12MB", gaussians=100)) == 100
    assert budget.max_gaussians(TrainConfig(size="12MB", gaussians=10**9)) < 12e6 / 248
    for wrong in ("12 parsecs", "1kB"):
        with pytest.raises(InputError, match="size"):
            TrainConfig(size=wrong)


def test_minutes_hold_on_a_machine_that_slows_down(scene, monkeypatch, tmp_path):
    """Simulated time: steps get three times as slow, and evaluating and writing take a fifth of the budget."""
    now = [0.0]

    def slow(function, seconds):
        def call(*args, **named):
            now[0] += seconds(*args, **named)
            return function(*args, **named)

        return call

    each = slow(trainer.step, lambda setup, state: 0.25 if state.schedule.fraction < 0.5 else 0.75)
    monkeypatch.setattr(trainer, "step", each)
    views = lambda *args, **named: 3.0 * len(args[4] if len(args) > 4 else scene.test_views)  # noqa: E731
    monkeypatch.setattr(training_run, "evaluate", slow(training_run.evaluate, views))
    config = dataclasses.replace(SHORT, minutes=1.0, eval_every=0, checkpoint_seconds=0)
    result = train(scene, config, tmp_path / "run", clock=lambda: now[0])
    assert len(result.cloud) == config.gaussians  # few steps, and yet all are used
    assert 0.95 * 60 <= now[0] <= 1.05 * 60
    assert result.metrics["steps"] > 50


def test_the_weight_on_opacity_grows_with_the_run_where_a_strategy_wants_it():
    taming_of = trainer.strategy_of(TrainConfig(strategy="taming", densify=DensifyConfig(opacity_weight=0.004)))
    assert [taming_of.opacity_weight(steps) for steps in (1000, 2000, 20_000)] == pytest.approx([0.002, 0.004, 0.04])
    for name in ("mcmc", "adc", "turbo"):
        strategy = trainer.strategy_of(TrainConfig(strategy=name, densify=DensifyConfig(opacity_weight=0.004)))
        assert strategy.opacity_weight(100) == strategy.opacity_weight(10**6) == 0.004
