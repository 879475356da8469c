"""Smaller SOG files: codes rounded to multiples of powers of two, which the pictures of other viewers hold as well.

A lossless picture whose numbers are all multiples of eight costs three bits less for each. How coarse a Gaussian may be
follows its visibility, as in `.splatz` (see splatz/quantizer.py); sizes and colours get evenly spaced codebooks, which
suit an entropy coder better than the codebooks of least error (Gish and Pierce 1968).
"""

from dataclasses import dataclass

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.formats.splatz.quantizer import ROUND_UP, QuantizationGrid, QuantizationSteps
from splat.formats.splatz.rows import CELLS, OCTAVE, Rows
from splat.sh_basis import C0

CODES = 256
QUAT_STEP = 2**0.5 / 255  # of a quaternion's part, between two bytes
PALETTE_FRACTION, PALETTE_SLOPE = 0.25, 0.5  # entries for each Gaussian at the usual step of SH; power of step


@dataclass(frozen=True)
class Coarse:
    """Powers of two by which the codes of N Gaussians are coarser than the finest.

    Attributes:
        position: (N, 3). rotation, opacity, scale, colour: (N,).
        scale_codes, colour_codes: codebooks at the finest.
    """

    position: np.ndarray
    rotation: np.ndarray
    opacity: np.ndarray
    scale: np.ndarray
    colour: np.ndarray
    scale_codes: np.ndarray
    colour_codes: np.ndarray

    def select(self, rows: np.ndarray) -> "Coarse":
        """Of these Gaussians."""
        parts = (self.position, self.rotation, self.opacity, self.scale, self.colour)
        return Coarse(*(part[rows] for part in parts), self.scale_codes, self.colour_codes)


def ordered(table: GaussianArrays) -> GaussianArrays:
    """The same Gaussians with axes from long to short and w the largest part of the rotation: codes that vary less."""
    rows = Rows.of(table.with_sh_degree(0)).ordered()
    return table.replace(log_scales=rows.log_scales.astype(np.float32), quats=rows.quats.astype(np.float32))


def coarse(table: GaussianArrays, steps: QuantizationSteps, low: np.ndarray, high: np.ndarray) -> Coarse:
    """For ``table`` as `ordered` gives it, with sign·ln(1+|x|) of the centres from ``low`` to ``high`` (3,)."""
    rows = Rows.of(table.with_sh_degree(0))
    grid = QuantizationGrid.fit(rows, steps)
    levels = grid.levels(*rows.cells(), rows.detail)
    width = np.maximum(high - low, 1e-30) / 65535 * (1 + np.abs(rows.means))  # of a code, world units
    cell = grid.side * np.exp2(-levels.position.astype(np.float64))[:, None]
    scale_codes, scale = _codebook(rows.log_scales, OCTAVE * np.exp2(-levels.scale[:, 0].astype(np.float64)))
    colour_codes, colour = _codebook(table.sh[:, 0], grid.steps.colour / C0 * np.exp2(levels.colour))
    return Coarse(
        _powers(cell / width, 12),
        _powers(grid.steps.rotation * np.exp2(levels.rotation.min(1)) / QUAT_STEP, 6),
        _powers(255 / CELLS * np.exp2(-levels.opacity.astype(np.float64)), 5),
        *(scale, colour, scale_codes, colour_codes),
    )


def _powers(ratio: np.ndarray, most: int) -> np.ndarray:
    """Whole powers of two not above ``ratio``, none negative."""
    return np.clip(np.floor(np.log2(ratio)), 0, most).astype(np.int64)


def _codebook(values: np.ndarray, wish: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Even codes over ``values`` (N, 3) as fine as the finest steps ``wish`` (N,), and the powers towards them."""
    low, high = float(values.min()), float(values.max())
    step = max(float(np.quantile(wish, 0.02)), (high - low) / (CODES - 1), 1e-6)
    return low + step * np.arange(int(np.ceil((high - low) / step - 1e-9)) + 1), _powers(wish / step, 6)


def rounded(codes: np.ndarray, powers: np.ndarray, middle: int = 0, top: int = 255) -> np.ndarray:
    """``codes`` at the nearest distance from ``middle`` that 2^``powers`` divides, within 0 and ``top``."""
    shifted = codes.astype(np.int64) - middle
    return np.clip((((shifted + (1 << powers >> 1)) >> powers) << powers) + middle, 0, top)


def index(values: np.ndarray, codes: np.ndarray, powers: np.ndarray) -> np.ndarray:
    """Codes (N, 3) uint8 of ``values`` in the even codebook ``codes``."""
    step = codes[1] - codes[0] if len(codes) > 1 else 1.0
    return rounded(np.rint((values - codes[0]) / step), powers[:, None], top=len(codes) - 1).astype(np.uint8)


def palette_fraction(steps: QuantizationSteps) -> float:
    """Palette entries for each Gaussian."""
    return min(PALETTE_FRACTION * (QuantizationSteps().sh / steps.sh) ** PALETTE_SLOPE, 1.0)


def rest_codes(centers: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
    """Even codebook of view-dependent colour (any shape), and the codes; small values are zero."""
    step = max(step, 2 * float(np.abs(centers).max(initial=0)) / (CODES - 2), 1e-6)
    codes = (np.sign(centers) * np.floor(np.abs(centers) / step + ROUND_UP)).astype(np.int64)
    low = int(codes.min(initial=0))
    return step * np.arange(low, int(codes.max(initial=0)) + 1), (codes - low).astype(np.uint8)
