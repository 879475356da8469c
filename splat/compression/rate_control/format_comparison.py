"""The same cloud in the formats that others read, for comparison."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from splat.cloud import GaussianCloud
from splat.compression.rate_control.judge import Judge
from splat.compression.rate_control.search import Codec, Trial
from splat.formats.splatz.quantizer import Steps

RIVALS = {"SOG": "a.sog", "SPZ": "a.spz", "compressed .ply": "a.compressed.ply"}
CURVE = (35.0, 50.0, 65.0, 80.0)  # qualities of .splatz


def rivals(
    cloud: GaussianCloud, judge: Judge, steps: Steps | None = None, qualities: Sequence[float] = CURVE
) -> Iterator[tuple[str, list[Trial]]]:
    """Name and trials of each format for the whole ``cloud``, nothing pruned; `.splatz` at several ``qualities``."""
    codec = Codec(Path("a.splatz"), steps=steps)
    yield ".splatz", [codec.trial(cloud, quality, judge) for quality in qualities]
    for name, file in RIVALS.items():
        yield name, [Codec(Path(file)).trial(cloud, None, judge)]
