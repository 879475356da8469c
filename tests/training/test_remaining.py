"""The time that a run says is left, for runs whose steps take what their pixels and Gaussians make them take."""

import dataclasses
import math

import pytest

from splat.training.config.config import TrainConfig
from splat.training.config.densify import STRATEGY_DEFAULTS
from splat.training.config.methods import BatchConfig, CoarseConfig
from splat.training.hooks import coarse_to_fine
from splat.training.remaining import Remaining
from splat.training.step_context import StepContext
from splat.training.strategies import mcmc, taming

PIXELS, FIRST, MOST = 500_000.0, 20_000, 400_000


def run(config: TrainConfig, per_gaussian=1e-6, per_pixel=2.5e-7, growth=None):
    """(fraction, seconds, what `Remaining` says) of each step; ``growth`` is ADC's factor a densification."""
    densify, count, seconds = STRATEGY_DEFAULTS[config.strategy], FIRST, 7.0
    remaining, rows = Remaining(config, PIXELS, FIRST, MOST), []
    for step in range(1, config.steps + 1):
        fraction = step / config.steps
        cap = coarse_to_fine.cap(config.coarse, FIRST, MOST, fraction)
        context = StepContext(step, fraction, (step - 1) / config.steps, 1.0, cap, 0, FIRST, ())
        if step % densify.every == 0 and densify.start < fraction <= densify.stop:
            if growth is not None:
                count = min(MOST, int(count * growth))
            elif config.strategy == "taming":
                count = max(count, taming.budget(densify, context))
            else:
                count = mcmc.target_count(densify.every, config.mcmc.full, count, context)
        pixels = PIXELS / coarse_to_fine.factor(config.coarse, fraction) ** 2
        photos = config.batch.size if fraction >= config.batch.start else 1
        seconds += photos * (per_gaussian * count + per_pixel * pixels) + 0.002
        seconds += 3.0 if step in (config.steps // 4, config.steps // 2, 3 * config.steps // 4) else 0
        rows.append((fraction, seconds, remaining.after(step, fraction, seconds, count)))
    return rows


CASES = {
    "mcmc": TrainConfig(steps=2000),
    "a slow machine": TrainConfig(steps=2000),
    "taming": TrainConfig(steps=2000, strategy="taming"),
    "coarse": TrainConfig(steps=2000, strategy="taming", coarse=CoarseConfig(start=4.0, until=0.65)),
    "batch": TrainConfig(steps=2000, batch=BatchConfig(size=3, start=0.7)),
    "adc": TrainConfig(steps=2000, strategy="adc"),
    "adc that grows little": TrainConfig(steps=2000, strategy="adc"),
}
OPTIONS = {
    "a slow machine": {"per_gaussian": 4e-6, "per_pixel": 1e-6},
    "adc": {"growth": 1.2},
    "adc that grows little": {"growth": 1.12},
}


@pytest.mark.parametrize("case", CASES)
def test_the_time_of_the_whole_run_is_known_after_a_tenth(case) -> None:
    rows = run(CASES[case], **OPTIONS.get(case, {}))
    begin, end = 7.0, rows[-1][1]
    settled = 0.25 if "adc" in case else 0.12  # how fast ADC grows shows in its first densifications alone
    late = [row for row in rows if row[0] >= settled]
    totals = [(seconds + left - begin) / (end - begin) for _, seconds, left in late]
    assert 0.85 < min(totals) and max(totals) < 1.15
    naive = [seconds / fraction / end for fraction, seconds, _ in late]
    assert min(naive) < 0.75 or "little" in case  # what the mean pace so far promises
    jumps = [abs(b[2] - a[2] + b[1] - a[1]) for a, b in zip(late, late[1:], strict=False)]
    assert max(jumps) < 0.03 * (end - begin)
    assert rows[-1][2] == 0 and math.isnan(rows[0][2])


def test_a_run_by_time_knows_its_end() -> None:
    remaining = Remaining(dataclasses.replace(TrainConfig(), minutes=2.0), PIXELS, FIRST, MOST)
    assert remaining.after(10, 0.25, 30.0, FIRST) == pytest.approx(90)


def test_a_resumed_run_counts_its_own_steps_alone() -> None:
    """A pace from before, such as of another machine, does not enter."""
    config = TrainConfig(steps=1000)
    remaining = Remaining(config, PIXELS, FIRST, MOST)
    assert math.isnan(remaining.after(900, 0.9, 5000.0, MOST))
    for step in range(901, 921):
        left = remaining.after(step, step / 1000, 5000.0 + 0.5 * (step - 900), MOST)
    assert left == pytest.approx(40, rel=0.02)
