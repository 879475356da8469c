"""A slice of tools/fuzz.py: the same mutants of every reader each time, and the loop that learns."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))
import fuzz
import mutations
from support.patience import bound

from splat import formats

CASES = 200
FEW, LONG = 40, ("checkpoint", "run-config", "run-metrics", "viewer-controls")  # whose readers do more than read


@pytest.mark.parametrize("name", [name for name in fuzz.TARGETS if name != "usd"])
def test_mutants(name, tmp_path):
    target = fuzz.TARGETS[name]
    paths = target.seeds(tmp_path)
    sound = [path.read_bytes() for path in paths]
    for path in paths:
        target.read(path)
    outcomes = set()
    for case in range(FEW if name in LONG else CASES):
        number = case % len(paths)
        random = np.random.default_rng((7, case))
        path = paths[number]
        path.write_bytes(mutations.mutant(sound[number], sound[0], random, target.mend, target.damage))
        outcome = fuzz.attempt(target, path, None)
        assert outcome in ("read", "refused"), f"case {case}: {outcome}"
        outcomes.add(outcome)
        path.write_bytes(sound[number])
    assert outcomes == {"read", "refused"}


@pytest.mark.parametrize("name", sorted({path.name.rpartition("-")[0] for path in fuzz.SEEDS.iterdir()}))
def test_kept_findings(name, tmp_path):
    target, kept = fuzz.TARGETS[name], fuzz.kept_seeds(name)
    paths = target.seeds(tmp_path)
    for seed in kept:
        path = fuzz.home_of(seed, paths)
        sound = path.read_bytes()
        path.write_bytes(seed.read_bytes())
        assert fuzz.attempt(target, path, None) in ("read", "refused"), seed
        path.write_bytes(sound)


def test_failures_are_told(tmp_path):
    """What the tool is to find: another error, much time, much memory."""
    (tmp_path / "a").write_bytes(b"1")

    def fail(path: Path) -> None:
        raise TypeError("odd")

    def swell(path: Path) -> None:
        np.ones(fuzz.SLACK // 8 + (32 << 17))

    for read, said in ((fail, "TypeError: odd"), (swell, "memory"), (lambda path: None, "read")):
        target = fuzz.Target(lambda folder: [], read)
        assert fuzz.attempt(target, tmp_path / "a", None).startswith(said)


def test_new_lines_are_noticed(tmp_path):
    paths = fuzz.TARGETS["ply"].seeds(tmp_path)
    coverage = fuzz.Coverage()
    with coverage:
        formats.read_table(paths[0])
    assert coverage.new > 50
    with coverage:
        formats.read_table(paths[0])
    assert coverage.new == 0
    paths[0].write_bytes(b"ply\nformat ascii 1.0\nelement vertex -1\nend_header\n")
    assert fuzz.attempt(fuzz.TARGETS["ply"], paths[0], coverage) == "refused"
    assert coverage.new > 0


def test_a_run_ends_and_counts(tmp_path):
    start = time.monotonic()
    counts = fuzz.fuzz("splat", 20, 0, 0, tmp_path)
    assert sum(counts.values()) == 20 and counts["failed"] == 0
    assert time.monotonic() - start < bound(60)
