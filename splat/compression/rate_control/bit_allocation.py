"""How coarse each attribute of a `.splatz` may be: steps at which a bit buys the same error, whatever it is spent on.

The best steps have equal slopes dD/dR (Shoham & Gersho 1988). Each attribute is rounded alone and judged by pictures,
which gives its error D at the usual steps; its rate grows by R bits when its step is halved. With D ∝ step² the slope
is equal where step² ∝ R / D.
"""

import math
from dataclasses import replace

import numpy as np

from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.compression.finetuning.straight_through import Rounding, with_ordered_axes
from splat.compression.rate_control.judge import Judge
from splat.compression.rate_control.per_gaussian_precision import detail_of
from splat.formats.splatz import container
from splat.formats.splatz.quantizer import Codes, Steps, quantize

# The tensors that each step rounds.
TENSORS = {
    "position": "means", "log_scale": "log_scales", "rotation": "quats", "opacity": "logit_opacities",
    "colour": "sh", "sh": "sh",
}  # fmt: skip
FARTHEST = 16.0  # times coarser or finer than usual: the error is no square of the step for ever
PROBE = 50.0  # quality at which attributes are rounded


def allocate(cloud: GaussianCloud, judge: Judge) -> Steps:
    """Steps of the usual size on the whole, spread over the attributes as ``judge``'s pictures ask.

    Those of `Steps()` where nothing can be seen of the cloud.
    """
    usual = Steps()
    if len(cloud) == 0 or not judge.cameras:
        return usual
    errors = _errors(cloud, judge)
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


def _errors(cloud: GaussianCloud, judge: Judge) -> dict[str, float]:
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
        errors[name] = judge.error(cloud.replace(**{tensor: values}))
    floor = judge.error(cloud)
    return {name: max(error - floor, 0.0) for name, error in errors.items()}


def _bits_of_halving(cloud: GaussianCloud, steps: Steps) -> dict[str, float]:
    """Bits per Gaussian that each attribute costs more at half its step, from the entropy of its codes."""
    rows = container.rows_of(GaussianArrays.of(with_ordered_axes(cloud)), detail_of(cloud))

    def rate(steps: Steps) -> dict[str, float]:
        codes = quantize(rows, container.frame_of(rows, container.usable(steps)))
        return {name: sum(map(_entropy, columns.T)) for name, columns in _columns(codes).items()}

    coarse, fine = rate(steps), rate(steps.scaled(0.5))
    grown = {name: max(fine[name] - coarse[name], 0.0) for name in coarse}
    return {"position": 3.0, "log_scale": 3.0, "opacity": 1.0} | grown  # those are plain bits


def _columns(codes: Codes) -> dict[str, np.ndarray]:
    return {"rotation": codes.rotation, "colour": codes.colour, "sh": codes.rest}


def _entropy(column: np.ndarray) -> float:
    """Bits per value of integers on their own."""
    share = np.unique(column, return_counts=True)[1] / max(len(column), 1)
    return float(-(share * np.log2(share)).sum())
