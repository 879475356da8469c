"""What `.splatz` rounds, and how coarsely: rows of a cloud as integers and back. docs/splatz.md describes every number.

Steps follow what an error does to a picture (reverse water-filling, Cover and Thomas, "Elements of information theory",
10.3), judged by what the reader knows already, in integers, so that every machine decides alike. A Gaussian of area A
and opacity o that is displaced, turned, swollen or recoloured by δ changes the picture by about o²·A·δ², so that steps
shrink like its visibility to the power one half; a shift by δ world units counts almost the same for every size. Seen
from all sides, the short axis of a disc counts by the square of its share; so does, for a turn, what is long.
"""

from dataclasses import dataclass

import numpy as np

from splat.coding.octree import DEEPEST
from splat.formats.splatz.rotation import is_prolate, quaternions, turns
from splat.sh_basis import C0

FINEST = 16  # plain bits per axis below the octree
MIN_LOG_SCALE = -20.0
OCTAVE = float(np.log(2.0))  # coarsest step of log scales
CELLS = 16  # of opacity, at the coarsest
SCALE_BITS, OPACITY_BITS = 12, 10  # at the finest
# Rows: brightness and two colour differences of RGB, an orthonormal basis.
COLOUR = np.array([[3**-0.5] * 3, [0.5**0.5, 0, -(0.5**0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])
ROUND_UP = 0.36  # of view-dependent colour: below one half, as zeros are cheap
HUGE = 2**29  # codes of colours end here
HALF = (-6, 4)  # range of the powers of two on steps that follow the square root of visibility
QUARTER = (-4, 3)  # of those that follow its fourth root
TURN = (-8, 6)  # of those on the steps of rotations
DETAIL = (-4, 3)  # of the digits that single Gaussians have more than visibility asks for
THIN, THINNEST = 2, 2  # cells between middle and short axis: from here on coarser, so many more than bits: the last


@dataclass(frozen=True)
class Steps:
    """How coarse each attribute is, for a Gaussian of median visibility.

    Attributes:
        position: of the median size; in a `Frame`, world units.
        log_scale: natural logarithm. rotation: half an angle, of a ball. opacity: of 1.
        colour, sh: base and view-dependent colour, of 1.
    """

    position: float = 0.6
    log_scale: float = 0.35
    rotation: float = 0.18
    opacity: float = 0.04
    colour: float = 0.08
    sh: float = 0.2

    def scaled(self, factor: float) -> "Steps":
        """All steps ``factor`` times as coarse."""
        return Steps(*(value * factor for value in vars(self).values()))


@dataclass(frozen=True)
class Frame:
    """What all layers share: the cube around all centres, the steps, the basis of view-dependent colour."""

    origin: np.ndarray  # (3,) float64
    side: float
    steps: Steps  # as float32, which the file stores
    basis: np.ndarray  # (J, D) float32, D = 3 (K − 1)
    reference: int  # visibility that has the steps as they are
    detailed: bool = False  # whether rows say their detail; else it is 0


@dataclass(frozen=True)
class Rows:
    """Arrays of N Gaussians: means (N, 3) float64, log_scales (N, 3), quats (N, 4) unit, alphas (N,), sh (N, K, 3),
    detail (N,) int64."""

    means: np.ndarray
    log_scales: np.ndarray
    quats: np.ndarray
    alphas: np.ndarray
    sh: np.ndarray
    detail: np.ndarray  # binary digits of shape and place beyond what visibility asks for, within DETAIL

    def take(self, index: np.ndarray) -> "Rows":
        return Rows(*(values[index] for values in vars(self).values()))


@dataclass(frozen=True)
class Levels:
    """How finely the attributes of N Gaussians are stored, int64: bits below the cells of positions (below the whole
    cube), sizes (N, 3) and opacities, powers of two on the steps of rotations (N, 3) and colours; others (N,)."""

    position: np.ndarray
    scale: np.ndarray
    opacity: np.ndarray
    turn: np.ndarray
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


def levels_of(scale: np.ndarray, opacity: np.ndarray, frame: Frame, detail: np.ndarray) -> Levels:
    """The levels that cells of scale (N, 3), from long to short, and of opacity (N,) ask for, and ``detail`` (N,)."""
    steps, area = frame.steps, scale[:, 0] + scale[:, 1]
    lack = frame.reference - visibility(scale, opacity)
    half = np.clip((lack + 1) >> 1, *HALF)
    small = frame.reference - 3 - area  # opacity's own share is not known yet
    fine = _bits(OCTAVE / steps.log_scale, lack, 1, HALF) + detail
    thin = fine - np.maximum(scale[:, 1] - scale[:, 2] - THIN, 0)
    turn = (half - detail)[:, None] + _turn_levels(scale)
    return Levels(
        np.clip(_bits(frame.side / steps.position, lack, 2, QUARTER) + 1 + detail, 0, DEEPEST + FINEST),
        np.clip(np.stack([fine, fine, thin], 1), 0, SCALE_BITS),
        np.clip(_bits(1 / (CELLS * steps.opacity), small, 2, QUARTER) + detail, 0, OPACITY_BITS),
        np.clip(np.minimum(turn, _whole(0.6 / steps.rotation)), *TURN),
        half,
    )


def _turn_levels(scale: np.ndarray) -> np.ndarray:
    """(N, 3) powers of two on the step of turns: where the symmetry axis points (2), and about it.

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


def visibility(scale: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """(N,) opacity times the largest face of a Gaussian, in powers of two, from cells (N, 3) from long to short."""
    return scale[:, 0] + scale[:, 1] + np.frexp((2 * opacity + 1).astype(np.float64))[1].astype(np.int64)


def cells_of(log_scales: np.ndarray, alphas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cells of sizes (N, 3) and opacities (N,)."""
    scale = np.floor((np.maximum(log_scales, MIN_LOG_SCALE) - MIN_LOG_SCALE) / OCTAVE).astype(np.int64)
    return scale, np.minimum(np.floor(alphas * CELLS), CELLS - 1).astype(np.int64)


def quantize(rows: Rows, frame: Frame) -> Codes:
    """Codes of ``rows`` as their axes come; centres aside."""
    scale, opacity = cells_of(rows.log_scales, rows.alphas)
    levels = levels_of(-np.sort(-scale, 1), opacity, frame, rows.detail)
    scale[:, 2] = np.maximum(scale[:, 2], scale[:, 1] - levels.scale[:, 1] - THINNEST)  # thinner looks no thinner
    levels = levels_of(-np.sort(-scale, 1), opacity, frame, rows.detail)
    sizes = (np.maximum(rows.log_scales, MIN_LOG_SCALE) - MIN_LOG_SCALE) / OCTAVE - scale
    factor = np.exp2(levels.colour)[:, None]
    turn = frame.steps.rotation * np.exp2(levels.turn)
    rotation = np.rint(turns(rows.quats, is_prolate(scale)) / turn).astype(np.int64)
    colour = C0 * rows.sh[:, 0] @ COLOUR.T / (frame.steps.colour * factor)
    colour = np.rint(np.clip(colour, -HUGE, HUGE)).astype(np.int64)
    rest = np.clip(components(rows.sh, frame) / (frame.steps.sh * factor), -HUGE, HUGE)
    rest = (np.sign(rest) * np.floor(np.abs(rest) + ROUND_UP)).astype(np.int64)
    below = below_cell(sizes, levels.scale), below_cell(rows.alphas * CELLS - opacity, levels.opacity)
    return Codes(levels, rows.detail, scale, below[0], opacity, below[1], rotation, colour, rest)


def below_cell(parts: np.ndarray, bits: np.ndarray) -> np.ndarray:
    """The first ``bits`` binary digits of ``parts`` in [0, 1]."""
    count = np.int64(1) << bits
    return np.clip((parts * count).astype(np.int64), 0, count - 1)


def dequantize(codes: Codes, means: np.ndarray, frame: Frame, degree: int) -> Rows:
    """The rows that ``codes`` and centres (N, 3) stand for."""
    levels, steps = codes.levels, frame.steps
    quats = quaternions(codes.rotation * (steps.rotation * np.exp2(levels.turn)), is_prolate(codes.scale))
    factor = np.exp2(levels.colour)[:, None]
    sh = np.zeros((len(means), (degree + 1) ** 2, 3))
    sh[:, 0] = codes.colour * (steps.colour * factor) @ COLOUR / C0
    if len(frame.basis):
        parts = codes.rest * (steps.sh * factor)
        sh[:, 1:] = (parts @ frame.basis).reshape(len(means), -1, 3) @ COLOUR
    sizes = codes.scale + (codes.scale_bits + 0.5) / np.exp2(levels.scale)
    alphas = (codes.opacity + (codes.opacity_bits + 0.5) / np.exp2(levels.opacity)) / CELLS
    return Rows(means, sizes * OCTAVE + MIN_LOG_SCALE, quats, alphas, sh, codes.detail)


def components(sh: np.ndarray, frame: Frame) -> np.ndarray:
    """(N, J) view-dependent colour of ``sh`` (N, K, 3) in the frame's basis."""
    if not len(frame.basis):
        return np.zeros((len(sh), 0))
    return (sh[:, 1:] @ COLOUR.T).reshape(len(sh), -1) @ np.linalg.pinv(frame.basis.astype(np.float64))


def round_means(means: np.ndarray, levels: Levels, frame: Frame) -> np.ndarray:
    """Centres (N, 3) as a file has them where the octree is not finer than the Gaussians need."""
    cell = frame.side * 0.5 ** np.minimum(levels.position, DEEPEST)[:, None]
    return (np.floor((means - frame.origin) / cell) + 0.5) * cell + frame.origin


def canonical(log_scales: np.ndarray, quats: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same ellipsoids with axes from long to short, and of the four rotations that give them the smallest.

    Args: log_scales (N, 3); quats (N, 4) unit, w x y z. The results have the same shapes, with w ≥ |x|, |y|, |z|.
    """
    order = np.argsort(-log_scales, axis=1, kind="stable")
    sign = np.linalg.det(np.eye(3)[order])  # an odd exchange of axes needs one axis reversed
    w, x, y, z = quats.astype(np.float64).T
    matrix = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]).transpose(2, 0, 1)  # fmt: skip
    matrix = np.take_along_axis(matrix, order[:, None, :], 2)
    matrix[:, :, 2] *= sign[:, None]
    a, b, c = matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 2, 2]
    squares = np.stack([1 + a + b + c, 1 + a - b - c, 1 - a + b - c, 1 - a - b + c], 1)  # 4 w², 4 x², …
    # Half turns about own axes change nothing: they reverse two columns. The right one makes w the largest part.
    turn = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]])[squares.argmax(1)]
    matrix *= turn[:, None, :]
    w = 0.5 * np.sqrt(np.maximum(1 + np.trace(matrix, axis1=1, axis2=2), 1e-12))
    parts = [matrix[:, 2, 1] - matrix[:, 1, 2], matrix[:, 0, 2] - matrix[:, 2, 0], matrix[:, 1, 0] - matrix[:, 0, 1]]
    return np.take_along_axis(log_scales, order, 1), np.stack([w, *(part / (4 * w) for part in parts)], 1)
