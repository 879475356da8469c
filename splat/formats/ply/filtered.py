"""The 3D smoothing filter of Mip-Splatting (Yu et al. 2024, §4.1), worked into clouds that carry it beside."""

import numpy as np

from splat.coding.parallel import BLOCK, each, pieces


def work_in(log_scales: np.ndarray, logit_opacities: np.ndarray, widths: np.ndarray) -> None:
    """Widen ``log_scales`` (N, 3) by ``widths`` (N,) and lower ``logit_opacities`` (N,), both in place.

    s′² = s² + f², o′ = o · √(Π s² / Π s′²). Rows whose width is no positive number stay as they are.
    """

    def widen(rows: slice) -> None:
        with np.errstate(all="ignore"):  # odd values stay odd
            width = widths[rows].astype(np.float64)
            good = np.isfinite(width) & (width > 0)
            narrow = log_scales[rows].astype(np.float64)
            wide = 0.5 * np.logaddexp(2 * narrow, 2 * np.log(width)[:, None])
            log_alpha = (narrow - wide).sum(1) - np.logaddexp(0, -logit_opacities[rows].astype(np.float64))
            logit = log_alpha - np.log(-np.expm1(log_alpha))
        log_scales[rows][good] = wide[good]
        logit_opacities[rows][good] = logit[good]

    each(widen, pieces(len(widths), BLOCK))
