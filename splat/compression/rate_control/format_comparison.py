"""The same cloud in the formats that others read, for comparison."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from splat.cloud import GaussianCloud
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.compression.rate_control.target_format import TargetFormat, Trial

OTHER_FORMATS = {"SOG": "a.sog", "SPZ": "a.spz", "compressed .ply": "a.compressed.ply"}
CURVE = (35.0, 50.0, 65.0, 80.0)  # qualities of .splatz


def compare_formats(
    cloud: GaussianCloud, metric: FidelityMetric, qualities: Sequence[float] = CURVE
) -> Iterator[tuple[str, list[Trial]]]:
    """Name and trials of each format for the whole ``cloud``, nothing pruned; `.splatz` at several ``qualities``."""
    splatz = TargetFormat(Path("a.splatz"))
    yield ".splatz", [splatz.trial(cloud, quality, metric) for quality in qualities]
    for name, file in OTHER_FORMATS.items():
        yield name, [TargetFormat(Path(file)).trial(cloud, None, metric)]
