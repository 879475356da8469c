"""Bit allocation: choose quantization steps so that every attribute has equal rate–distortion slope.

The best steps have equal slopes dD/dR (Shoham & Gersho 1988). Each attribute is rounded alone and measured in pictures,
which gives its error D at the usual steps; its rate grows by R bits when its step is halved. With D ∝ step² the slope
is equal where step² ∝ R / D.
"""

import math
from dataclasses import replace

import numpy as np

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.finetuning.straight_through import Rounding, detail_of, with_ordered_axes
from splat.compression.rate_control.fidelity_metric import FidelityMetric
from splat.formats.splatz.quantizer import QuantizationGrid, QuantizationSteps
from splat.formats.splatz.rows import Rows

# The tensors that each step rounds.
TENSORS = {
    "position": "means", "log_scale": "log_scales", "rotation": "quats", "opacity": "logit_opacities",
    "colour": "sh", "sh": "sh",
}  # fmt: skip
FARTHEST = 16.0  # times coarser or finer than usual: further away the error is no square of the step
PROBE = 50.0  # quality at which attributes are rounded


def allocate_steps(cloud: GaussianCloud, metric: FidelityMetric) -> QuantizationSteps:
    """Quantization steps at which every attribute has equal rate–distortion slope in the pictures of ``metric``.

    Files stay as large as with `QuantizationSteps()`, which are returned where nothing can be seen of the cloud.
    """
    usual = QuantizationSteps()
    if len(cloud) == 0 or not metric.cameras:
        return usual
    errors = _errors(cloud, metric)
    bits = _bits_of_halving(cloud, usual)
    wish = {}
    for name, error in errors.items():
        if error > 0 and bits[name] > 0:
            wish[name] = 0.5 * math.log2(bits[name] / error)
    if not wish:
        return usual
    # The steps' mean, weighted by what halving costs, stays: so does the size of the file.
    mean = sum(bits[name] * value for name, value in wish.items()) / sum(bits[name] for name in wish)
    limit = math.log2(FARTHEST)
    factors = {name: 2 ** min(max(value - mean, -limit), limit) for name, value in wish.items()}
    return replace(usual, **{name: getattr(usual, name) * factor for name, factor in factors.items()})


def _errors(cloud: GaussianCloud, metric: FidelityMetric) -> dict[str, float]:
    """Mean squared error of the pictures when one attribute alone is rounded."""
    cloud = with_ordered_axes(cloud)
    rounded = Rounding.of(cloud, PROBE, detail_of(cloud)).rounded(cloud)
    errors = {}
    for name, tensor in TENSORS.items():
        values = getattr(rounded, tensor)
        if tensor == "sh":
            base = slice(0, 1) if name == "colour" else slice(1, None)
            values = cloud.sh.clone()
            values[:, base] = rounded.sh[:, base]
        errors[name] = metric.error(cloud.replace(**{tensor: values}))
    floor = metric.error(cloud)
    return {name: max(error - floor, 0.0) for name, error in errors.items()}


def _bits_of_halving(cloud: GaussianCloud, steps: QuantizationSteps) -> dict[str, float]:
    """Bits per Gaussian that each attribute costs more at half its step, from the entropy of its codes."""
    rows = Rows.of(GaussianArrays.of(with_ordered_axes(cloud)), detail_of(cloud))

    def rate(steps: QuantizationSteps) -> dict[str, float]:
        codes = QuantizationGrid.fit(rows, steps.storable()).quantize(rows)
        columns = {"rotation": codes.rotation, "colour": codes.colour, "sh": codes.rest}
        return {name: sum(map(_entropy, values.T)) for name, values in columns.items()}

    coarse, fine = rate(steps), rate(steps.scaled(0.5))
    grown = {name: max(fine[name] - coarse[name], 0.0) for name in coarse}
    return {"position": 3.0, "log_scale": 3.0, "opacity": 1.0} | grown  # those are plain bits


def _entropy(column: np.ndarray) -> float:
    """Bits per value of integers on their own."""
    fraction = np.unique(column, return_counts=True)[1] / max(len(column), 1)
    return float(-(fraction * np.log2(fraction)).sum())
