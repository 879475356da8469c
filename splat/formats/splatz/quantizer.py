"""The quantizer of `.splatz`: a `QuantizationGrid` rounds `Rows` to integer `Codes` and back. docs/splatz.md has the
formulas.

    grid = QuantizationGrid.fit(rows, QuantizationSteps.of_quality(50))
    codes = grid.quantize(rows)                        # what a file stores, centres aside
    rows = grid.dequantize(codes, means, degree)       # what a reader gets
    rows = grid.rounded(rows)                          # both at once, row by row, as training on a file needs it

Steps follow what an error does to a picture (reverse water-filling, Cover and Thomas, "Elements of information theory",
10.3), judged by what the reader knows already, in integers, so that every machine decides alike. A Gaussian of area A
and opacity o that is displaced, turned, swollen or recoloured by δ changes the picture by about o²·A·δ², so that steps
shrink like its visibility to the power one half; a shift by δ world units counts almost the same for every size. Seen
from all sides, the short axis of a disc counts by the square of its fraction; so does, for a rotation, what is long.
"""

from dataclasses import dataclass, replace

import numpy as np

from splat.coding.octree import DEEPEST
from splat.formats.splatz.basis import COLOUR, empty_basis, fit_basis
from splat.formats.splatz.rotation import from_symmetry_axis, is_prolate, nearest_equivalent, to_symmetry_axis
from splat.formats.splatz.rows import CELLS, MIN_LOG_SCALE, OCTAVE, Rows, visibility_of_cells
from splat.sh_basis import C0

FINEST = 16  # plain bits per axis below the octree
SCALE_BITS, OPACITY_BITS = 12, 10  # at the finest
ROUND_UP = 0.36  # of view-dependent colour: below one half, as zeros are cheap
HUGE = 2**29  # codes of colours end here
HALF = (-6, 4)  # range of the powers of two on steps that follow the square root of visibility
QUARTER = (-4, 3)  # of those that follow its fourth root
ROTATION = (-8, 6)  # of those on the steps of rotations
THIN, THINNEST = 2, 2  # cells between middle and short axis: from here on coarser, so many more than bits: the last
USUAL_QUALITY = 50.0  # at which the steps are those of `QuantizationSteps`; ten more halve them
SOFT = 0.3  # of a code: below, the price of view-dependent colour fades


@dataclass(frozen=True)
class QuantizationSteps:
    """How coarse each attribute is, for a Gaussian of median visibility.

    Attributes:
        position: of the median size; in a `QuantizationGrid`, world units.
        log_scale: natural logarithm. rotation: half an angle, of a ball. opacity: of 1.
        colour, sh: base and view-dependent colour, of 1.
    """

    position: float = 0.6
    log_scale: float = 0.35
    rotation: float = 0.18
    opacity: float = 0.04
    colour: float = 0.08
    sh: float = 0.2

    @staticmethod
    def of_quality(quality: float) -> "QuantizationSteps":
        """The steps of a file of ``quality``, as it stores them."""
        return QuantizationSteps().at_quality(quality).storable()

    @staticmethod
    def of(quality: "float | QuantizationSteps") -> "QuantizationSteps":
        """The steps of a file of this quality, or with these steps, as it stores them."""
        known = isinstance(quality, QuantizationSteps)
        return quality.storable() if known else QuantizationSteps.of_quality(quality)

    def at_quality(self, quality: float) -> "QuantizationSteps":
        """These steps, which are those of the usual quality, at another ``quality``."""
        return self.scaled(2.0 ** ((USUAL_QUALITY - quality) / 10))

    def scaled(self, factor: float) -> "QuantizationSteps":
        """All steps ``factor`` times as coarse."""
        return QuantizationSteps(*(value * factor for value in vars(self).values()))

    def storable(self) -> "QuantizationSteps":
        """These steps within range and rounded to float32, as a file stores them."""
        # An eighth of the range is the coarsest that decodes sensibly, whatever the quality.
        steps = replace(self, opacity=min(self.opacity, 0.125), rotation=min(self.rotation, 0.2))
        return QuantizationSteps(*np.array(list(vars(steps).values()), np.float32).astype(np.float64).tolist())


@dataclass(frozen=True)
class Levels:
    """How finely the attributes of N Gaussians are stored, int64.

    Attributes:
        position: (N,) bits below the whole cube. scale: (N, 3), opacity: (N,) bits below their cells.
        rotation: (N, 3), colour: (N,) powers of two on the steps.
    """

    position: np.ndarray
    scale: np.ndarray
    opacity: np.ndarray
    rotation: np.ndarray
    colour: np.ndarray


@dataclass(frozen=True)
class Codes:
    """Integers for N Gaussians: detail (N,), cells of scale (N, 3) and opacity (N,) with bits below, rotation (N, 3),
    colour (N, 3), rest (N, J)."""

    levels: Levels
    detail: np.ndarray
    scale: np.ndarray
    scale_bits: np.ndarray
    opacity: np.ndarray
    opacity_bits: np.ndarray
    rotation: np.ndarray
    colour: np.ndarray
    rest: np.ndarray


@dataclass(frozen=True)
class QuantizationGrid:
    """What all layers of a file share.

    Attributes:
        origin: (3,) float64 corner and side: width of the cube around all centres, world units.
        steps: as float32, which the file stores.
        basis: (J, D) float32 of view-dependent colour, D = 3 (K − 1).
        reference: visibility that has the steps as they are.
        detailed: whether rows say their detail; else it is 0.
    """

    origin: np.ndarray
    side: float
    steps: QuantizationSteps
    basis: np.ndarray
    reference: int
    detailed: bool = False

    @staticmethod
    def fit(rows: Rows, steps: QuantizationSteps) -> "QuantizationGrid":
        """The grid of a file of ``rows`` with these `storable` steps, whose position is in median sizes."""
        if not len(rows):
            return QuantizationGrid(np.zeros(3), 1.0, steps, empty_basis(), 0)
        low, high = rows.means.min(0), rows.means.max(0)
        side = max(float((high - low).max()) * (1 + 1e-9), float(np.abs(rows.means).max()) * 1e-12, 1e-12)
        rows = rows.ordered()
        world = np.float32(steps.position * np.exp(np.median(rows.log_scales[:, 1])))
        steps = replace(steps, position=float(max(world, np.float32(side * 2.0**-30))))
        grid = QuantizationGrid(low, side, steps, empty_basis(), int(np.median(rows.visibility())))
        return replace(grid, basis=fit_basis(rows.sh, grid.levels(*rows.cells(), rows.detail).colour, steps.sh))

    def levels(self, scale: np.ndarray, opacity: np.ndarray, detail: np.ndarray) -> Levels:
        """What cells of scale (N, 3), from long to short, and of opacity (N,) ask for, and ``detail`` (N,)."""
        steps, area = self.steps, scale[:, 0] + scale[:, 1]
        lack = self.reference - visibility_of_cells(scale, opacity)
        half = np.clip((lack + 1) >> 1, *HALF)
        small = self.reference - 3 - area  # the opacity itself is not known yet
        fine = _bits(OCTAVE / steps.log_scale, lack, 1, HALF) + detail
        thin = fine - np.maximum(scale[:, 1] - scale[:, 2] - THIN, 0)
        rotation = (half - detail)[:, None] + _rotation_levels(scale)
        return Levels(
            np.clip(_bits(self.side / steps.position, lack, 2, QUARTER) + 1 + detail, 0, DEEPEST + FINEST),
            np.clip(np.stack([fine, fine, thin], 1), 0, SCALE_BITS),
            np.clip(_bits(1 / (CELLS * steps.opacity), small, 2, QUARTER) + detail, 0, OPACITY_BITS),
            np.clip(np.minimum(rotation, _whole(0.6 / steps.rotation)), *ROTATION),
            half,
        )

    def quantize(self, rows: Rows) -> Codes:
        """Codes of ``rows`` as their axes come; centres aside."""
        scale, opacity = rows.cells()
        levels = self.levels(-np.sort(-scale, 1), opacity, rows.detail)
        scale[:, 2] = np.maximum(scale[:, 2], scale[:, 1] - levels.scale[:, 1] - THINNEST)  # thinner looks no thinner
        levels = self.levels(-np.sort(-scale, 1), opacity, rows.detail)
        sizes = (np.maximum(rows.log_scales, MIN_LOG_SCALE) - MIN_LOG_SCALE) / OCTAVE - scale
        factor = np.exp2(levels.colour)[:, None]
        step = self.steps.rotation * np.exp2(levels.rotation)
        rotation = np.rint(to_symmetry_axis(rows.quats, is_prolate(scale)) / step).astype(np.int64)
        colour = C0 * rows.sh[:, 0] @ COLOUR.T / (self.steps.colour * factor)
        colour = np.rint(np.clip(colour, -HUGE, HUGE)).astype(np.int64)
        rest = np.clip(self.components(rows.sh) / (self.steps.sh * factor), -HUGE, HUGE)
        rest = (np.sign(rest) * np.floor(np.abs(rest) + ROUND_UP)).astype(np.int64)
        below = bits_below(sizes, levels.scale), bits_below(rows.alphas * CELLS - opacity, levels.opacity)
        return Codes(levels, rows.detail, scale, below[0], opacity, below[1], rotation, colour, rest)

    def dequantize(self, codes: Codes, means: np.ndarray, degree: int) -> Rows:
        """The rows that ``codes`` and centres (N, 3) stand for."""
        levels, steps = codes.levels, self.steps
        rotation = codes.rotation * (steps.rotation * np.exp2(levels.rotation))
        factor = np.exp2(levels.colour)[:, None]
        sh = np.zeros((len(means), (degree + 1) ** 2, 3))
        sh[:, 0] = codes.colour * (steps.colour * factor) @ COLOUR / C0
        if len(self.basis):
            parts = codes.rest * (steps.sh * factor)
            sh[:, 1:] = (parts @ self.basis).reshape(len(means), -1, 3) @ COLOUR
        sizes = codes.scale + (codes.scale_bits + 0.5) / np.exp2(levels.scale)
        alphas = (codes.opacity + (codes.opacity_bits + 0.5) / np.exp2(levels.opacity)) / CELLS
        quats = from_symmetry_axis(rotation, is_prolate(codes.scale))
        return Rows(means, sizes * OCTAVE + MIN_LOG_SCALE, quats, alphas, sh, codes.detail)

    def rounded(self, rows: Rows) -> Rows:
        """``rows`` (ordered axes) as a file on this grid holds them, in their order, rotations near what they were."""
        codes = self.quantize(rows)
        cell = self.side * 0.5 ** np.minimum(codes.levels.position, DEEPEST)[:, None]
        means = (np.floor((rows.means - self.origin) / cell) + 0.5) * cell + self.origin
        result = self.dequantize(codes, means, int(rows.sh.shape[1] ** 0.5) - 1)
        return replace(result, quats=nearest_equivalent(result.quats, rows.quats))

    def components(self, sh: np.ndarray) -> np.ndarray:
        """(N, J) view-dependent colour of ``sh`` (N, K, 3) in the basis."""
        if not len(self.basis):
            return np.zeros((len(sh), 0))
        return (sh[:, 1:] @ COLOUR.T).reshape(len(sh), -1) @ np.linalg.pinv(self.basis.astype(np.float64))

    def rate_gradient(self, rows: Rows) -> np.ndarray | None:
        """(N, K − 1, 3) by how many bits the file grows where a coefficient of SH does; None without a basis.

        The codes of each component of view-dependent colour are taken to be geometric, P(n) ∝ θ^|n|: one more costs
        −log₂ θ bits. Below one code the gradient falls to 0 at 0, so that values may rest there.
        """
        if not len(self.basis):
            return None
        codes = self.quantize(rows)
        step = self.steps.sh * np.exp2(codes.levels.colour)[:, None]
        mean = np.maximum(np.abs(codes.rest).mean(0), 1e-4)
        cost = -np.log2((np.sqrt(1 + mean * mean) - 1) / mean)
        gradient = np.clip(self.components(rows.sh) / step / SOFT, -1, 1) * cost / step
        return (gradient @ np.linalg.pinv(self.basis.astype(np.float64)).T).reshape(len(rows), -1, 3) @ COLOUR


def bits_below(parts: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The first ``bits`` binary digits of ``parts`` in [0, 1]."""
    count = np.int64(1) << bits
    return np.clip((parts * count).astype(np.int64), 0, count - 1)


def _rotation_levels(scale: np.ndarray) -> np.ndarray:
    """(N, 3) powers of two on the step of rotations: where the symmetry axis points (2), and about it.

    Fitted to the squared error of a turned ellipsoid's picture, averaged over all directions to look from.
    """
    long, flat = scale[:, 0] - scale[:, 1], scale[:, 1] - scale[:, 2]
    prolate = is_prolate(scale)
    tilt = np.where(prolate, 1 - long, -np.maximum(long - 1, 0))
    twist = np.where(prolate, np.maximum(2 - flat, 0), 2 - long)
    return np.stack([tilt, tilt, twist], 1)


def _bits(ratio: float, lack: np.ndarray, root: int, limits: tuple[int, int]) -> np.ndarray:
    """(N,) binary digits for steps that follow the 2^``root``-th root of visibility, within ``limits``."""
    lack = np.clip(lack, limits[0] << root, limits[1] << root)
    return (_whole(ratio, 1 << root) + root - 1 - lack) >> root


def _whole(ratio: float, parts: int = 1) -> int:
    """The power of two nearest to ``ratio``, in ``parts`` of one."""
    return int(round(parts * float(np.log2(ratio))))
