"""Schedules stretch with the run, whether its length is given in steps or in minutes."""

import dataclasses

import pytest

from splat.training import rng, schedules
from splat.training.budget import max_gaussians, use_whole_size
from splat.training.config.config import RatesConfig, TrainConfig


def test_position_rate_decays_log_linearly_times_extent():
    config = RatesConfig(means=1.6e-4, means_final=1.6e-6)
    assert schedules.rates(config, 5.0, 0.0).means == pytest.approx(8e-4)
    assert schedules.rates(config, 5.0, 0.5).means == pytest.approx(8e-5)
    assert schedules.rates(config, 5.0, 1.0).means == pytest.approx(8e-6)
    assert schedules.rates(config, 5.0, 0.7).sh_dc == config.sh_dc


def test_colour_bands_are_added_one_by_one():
    config = TrainConfig(sh_every=0.2, sh_degree=3)
    degrees = [schedules.sh_degree(config, step / 10) for step in range(11)]
    assert degrees == [0, 0, 1, 1, 2, 2, 3, 3, 3, 3, 3]


@pytest.mark.parametrize("steps", [7, 10, 999, 7000, 30_000])
def test_every_multiple_is_crossed_once(steps):
    schedule = schedules.Schedule(steps, None, clock=lambda: 0.0)
    events = 0
    while not schedule.finished:
        schedule.advance()
        events += schedules.crossed(0.1, schedule.previous_fraction, schedule.fraction)
    assert schedule.step == steps and schedule.fraction == 1.0
    assert events == min(10, steps)


class Machine:
    """A clock that only training moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def run_minutes(minutes: float, seconds_at, reserve: float = 0.0) -> tuple[schedules.Schedule, list[float]]:
    machine = Machine()
    schedule = schedules.Schedule(7000, minutes, clock=machine)
    schedule.reserve = reserve
    fractions = []
    while not schedule.finished:
        machine.now += seconds_at(schedule)
        schedule.advance()
        fractions.append(schedule.fraction)
    return schedule, fractions


def test_a_time_budget_is_met_on_any_machine():
    for speed in (0.003, 0.05, 0.9):
        schedule, fractions = run_minutes(3.0, lambda schedule, speed=speed: speed)
        assert schedule.seconds == pytest.approx(180, abs=1.0)
        assert schedule.step == pytest.approx(180 / speed, rel=0.01)
        assert fractions == sorted(fractions)


def test_a_time_budget_is_met_when_steps_become_slower():
    schedule, fractions = run_minutes(2.0, lambda schedule: 0.01 + 0.09 * schedule.fraction, reserve=12.0)
    assert schedule.seconds == pytest.approx(108, abs=0.2)  # the reserve is left for evaluation and writing
    assert max(b - a for a, b in zip(fractions, fractions[1:], strict=False)) < 0.002  # the schedule never jumps


def test_steps_are_foretold_from_the_speed():
    machine = Machine()
    schedule = schedules.Schedule(7000, 1.0, clock=machine)
    for _ in range(100):
        machine.now += 0.1
        schedule.advance()
    assert schedule.steps == pytest.approx(600, rel=0.01)


def test_steps_are_expected_to_take_as_long_as_those_lately():
    # Ten times slower from a third of the time on, as where pictures grow.
    seen = []
    schedule, _ = run_minutes(
        1.0,
        lambda schedule: (
            seen.append((schedule.fraction, schedule.expected)) or 0.02 * (1 + 9 * (schedule.fraction > 1 / 3))
        ),
    )
    early = [expected for fraction, expected in seen if 0.03 < fraction < 1 / 3]
    late = [expected for fraction, expected in seen if fraction > 0.42]
    assert schedule.step == pytest.approx(1000 + 200, rel=0.02)
    assert min(early) == pytest.approx(3000, rel=0.02) and max(early) == pytest.approx(3000, rel=0.02)
    assert min(late) == pytest.approx(1200, rel=0.03) and max(late) == pytest.approx(1200, rel=0.03)
    assert schedules.Schedule(50, None).expected == 50


def test_gaussians_are_limited_by_the_steps_that_there_will_be():
    config = TrainConfig(steps=100, gaussians=5000, gaussians_per_root_step=200.0)
    assert max_gaussians(config) == 2000 and max_gaussians(config, 25) == 1000 and max_gaussians(config, 900) == 5000
    timed = dataclasses.replace(config, minutes=1.0)
    assert max_gaussians(timed) == 5000 and max_gaussians(timed, 100) == 2000 and max_gaussians(timed, 1) == 200
    assert max_gaussians(dataclasses.replace(config, gaussians_per_root_step=0.0)) == 5000
    assert max_gaussians(config, pixels=500.0) == 1000 and max_gaussians(timed, pixels=500.0) == 1000
    sized = use_whole_size(dataclasses.replace(config, size="1MB"))
    assert max_gaussians(sized) == sized.gaussians == (10**6 - 2300) // 248


def test_a_resumed_budget_counts_what_was_spent_before():
    machine = Machine()
    schedule = schedules.Schedule(7000, 1.0, clock=machine)
    schedule.resume(step=300, fraction=0.5, seconds=30.0)
    machine.now += 6.0
    schedule.advance()
    assert (
        schedule.seconds == pytest.approx(36)
        and schedule.fraction == pytest.approx(0.6)
        and schedule.previous_fraction == 0.5
    )


def test_each_epoch_shows_every_photo_once_in_another_order():
    first = [rng.photo_at(3, step, 12) for step in range(12)]
    second = [rng.photo_at(3, step, 12) for step in range(12, 24)]
    assert sorted(first) == sorted(second) == list(range(12)) and first != second
    assert first != [rng.photo_at(4, step, 12) for step in range(12)]
    assert second == [rng.photo_at(3, step, 12) for step in range(12, 24)]


def test_draws_follow_the_weights():
    import torch

    weights = torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0])
    rows = rng.sample_with_replacement(weights, 40_000, torch.Generator().manual_seed(0))
    counts = torch.bincount(rows, minlength=5).tolist()
    assert counts[0] == counts[2] == counts[4] == 0
    assert counts[3] / 40_000 == pytest.approx(0.75, abs=0.01)


def test_seconds_that_were_spent_before_are_part_of_the_budget():
    now = [100.0]
    schedule = schedules.Schedule(7, 1.0, lambda: now[0], spent=15.0)
    assert schedule.seconds == 15.0
    now[0] += 30.0
    schedule.advance()
    assert schedule.fraction == pytest.approx(0.75)
    now[0] += 15.0
    schedule.advance()
    assert schedule.finished


def test_a_resumed_run_crosses_what_it_would_have_crossed():
    schedule = schedules.Schedule(10, None)
    schedule.resume(4, 0.4, 0.0)
    assert (schedule.previous_fraction, schedule.fraction) == (0.3, 0.4)
    schedule.resume(0, 0.0, 0.0)
    assert (schedule.previous_fraction, schedule.fraction) == (0.0, 0.0)


def test_the_pace_is_noted_once_a_hundredth():
    """2 s a step for 50 s, then 1 s: with marks every second step (2 s of 200), the last six lie 10 steps apart."""
    now = [0.0]
    schedule = schedules.Schedule(1, 200 / 60, lambda: now[0])
    for step in range(60):
        now[0] += 2.0 if step < 25 else 1.0
        schedule.advance()
    assert now[0] == 85 and schedule.expected == 60 + (200 - 85)  # one second a step lately
