"""Layers of `.splatz`: rows of a cloud as integers, and back. docs/splatz.md describes every byte.

Steps follow what an error does to a picture, judged by what the reader knows already, in integers, so that every
machine decides alike: positions are as fine as the Gaussian is small, rotations as it is long, colours as it is large
and opaque (reverse water-filling, see importance.py).
"""

from dataclasses import dataclass

import numpy as np

from splat.formats import splatz_entropy as entropy
from splat.formats.order import spread_bits
from splat.formats.splatz_entropy import Damaged

DEEPEST = 21  # levels of the octree that 64-bit Morton codes have room for
FINEST = 16  # plain bits per axis below the octree
MIN_LOG_SCALE = -20.0
C0 = 0.28209479177387814
# Rows: brightness and two colour differences of RGB, an orthonormal basis.
COLOUR = np.array([[3**-0.5] * 3, [0.5**0.5, 0, -(0.5**0.5)], [6**-0.5, -2 * 6**-0.5, 6**-0.5]])
OPACITY_GROUPS = 8
ROUND_UP = 0.36  # of view-dependent colour: below one half, as zeros are cheap
RUNS = (0, 1, 3, 7, 15, 31, 63, 127)  # SH components that are coded in one go; each run knows the ones before


@dataclass(frozen=True)
class Steps:
    """How coarse each attribute is.

    Attributes:
        position: in standard deviations of the Gaussian along its middle axis.
        log_scale: natural logarithm.
        rotation: quaternion component, of a Gaussian two to four times as long as thick.
        opacity: of 1.
        colour: base colour, of 1, for a Gaussian of median visibility.
        sh: view-dependent colour, the same.
    """

    position: float = 0.15
    log_scale: float = 0.06
    rotation: float = 0.03
    opacity: float = 0.025
    colour: float = 0.05
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
    reference: int  # visibility (see `_visibility`) that has the steps as they are


@dataclass(frozen=True)
class Rows:
    """Arrays of N Gaussians: means (N, 3) float64, log_scales (N, 3), quats (N, 4) unit, alphas (N,), sh (N, K, 3)."""

    means: np.ndarray
    log_scales: np.ndarray
    quats: np.ndarray
    alphas: np.ndarray
    sh: np.ndarray

    def take(self, index: np.ndarray) -> "Rows":
        return Rows(*(values[index] for values in vars(self).values()))


def write_layer(rows: Rows, frame: Frame) -> list[bytes]:
    """The streams of one layer."""
    size = 1 << DEEPEST
    places = (rows.means - frame.origin) * (size / frame.side)
    cells = np.clip(np.floor(places), 0, size - 1).astype(np.uint64)
    x, y, z = (spread_bits(column) for column in cells.T)
    codes = x | y << np.uint64(1) | z << np.uint64(2)
    order = np.argsort(codes, kind="stable")
    rows, codes, places = rows.take(order), codes[order], places[order]
    depth, tree = _write_tree(codes)
    log_scales, quats = canonical(rows.log_scales, rows.quats)
    codes_of = quantize(Rows(rows.means, log_scales, quats, rows.alphas, rows.sh), frame)
    scale_codes = codes_of.scale
    base = int(scale_codes[:, 2].min())
    streams = [*tree, np.array([base], "<u4").tobytes(), *_write_scales(scale_codes - base)]
    streams.append(entropy.encode(codes_of.opacity, _size_groups(scale_codes, frame), OPACITY_GROUPS))
    bits = fine_bits(scale_codes, frame, depth)
    within = places / (size >> depth)
    within = np.clip(((within - np.floor(within)) * (1 << bits)[:, None]).astype(np.int64), 0, (1 << bits)[:, None] - 1)
    streams.append(entropy.pack_bits(within.reshape(-1), np.repeat(bits, 3)))
    streams.append(_write_columns(codes_of.rotation, codes_of.turn + 3, 6))
    streams.append(_write_columns(codes_of.colour, codes_of.exponent + 3, 7))
    if len(frame.basis):
        streams += _write_rest(codes_of.rest, codes_of.exponent)
    return streams


def read_layer(streams: list[bytes], count: int, frame: Frame, degree: int) -> Rows:
    """The inverse of `write_layer`; rows along the Morton curve. Raises Damaged."""
    given = iter(streams)
    try:
        cells, depth = _read_tree(given, count)
        base = int(np.frombuffer(next(given), "<u4", 1)[0])
        scale_codes = _read_scales(given, count) + base
        if scale_codes.max(initial=0) > 1 << 24:
            raise Damaged("a size is out of range")
        opacity = entropy.decode(next(given), count, _size_groups(scale_codes, frame), OPACITY_GROUPS)
        bits = fine_bits(scale_codes, frame, depth)
        within = entropy.unpack_bits(next(given), np.repeat(bits, 3)).reshape(-1, 3)
        means = (cells + (within + 0.5) / (1 << bits)[:, None]) * (frame.side / (1 << depth)) + frame.origin
        turn = rotation_exponents(scale_codes, frame)
        rotation = _read_columns(next(given), count, turn + 3, 6)
        exponent = colour_exponents(scale_codes, opacity, frame)
        colour = _read_columns(next(given), count, exponent + 3, 7)
        rest = _read_rest(given, count, len(frame.basis), exponent)
    except StopIteration as error:
        raise Damaged("a layer lacks streams") from error
    if next(given, None) is not None:
        raise Damaged("a layer has too many streams")
    return dequantize(Codes(scale_codes, opacity, turn, rotation, exponent, colour, rest), means, frame, degree)


# ---- rounding ----


@dataclass(frozen=True)
class Codes:
    """Integers for N Gaussians: scale (N, 3), opacity (N,), rotation (N, 3) with steps 2^turn, colour (N, 3) and rest
    (N, J) with steps 2^exponent."""

    scale: np.ndarray
    opacity: np.ndarray
    turn: np.ndarray
    rotation: np.ndarray
    exponent: np.ndarray
    colour: np.ndarray
    rest: np.ndarray


def quantize(rows: Rows, frame: Frame) -> Codes:
    """Codes of ``rows`` as their axes come; centres aside."""
    scale = np.rint((np.maximum(rows.log_scales, MIN_LOG_SCALE) - MIN_LOG_SCALE) / frame.steps.log_scale)
    scale = scale.astype(np.int64)
    ranked = np.sort(scale, 1)[:, ::-1]
    opacity = np.rint(rows.alphas / frame.steps.opacity).astype(np.int64)
    turn, exponent = rotation_exponents(ranked, frame), colour_exponents(ranked, opacity, frame)
    rotation = np.rint(rows.quats[:, 1:] / (frame.steps.rotation * np.exp2(turn)[:, None])).astype(np.int64)
    factor = np.exp2(exponent)[:, None]
    colour = np.rint(C0 * rows.sh[:, 0] @ COLOUR.T / (frame.steps.colour * factor)).astype(np.int64)
    rest = components(rows.sh, frame) / (frame.steps.sh * factor)
    rest = (np.sign(rest) * np.floor(np.abs(rest) + ROUND_UP)).astype(np.int64)
    return Codes(scale, opacity, turn, rotation, exponent, colour, rest)


def dequantize(codes: Codes, means: np.ndarray, frame: Frame, degree: int) -> Rows:
    """The rows that ``codes`` and centres (N, 3) stand for."""
    three = codes.rotation * (frame.steps.rotation * np.exp2(codes.turn)[:, None])
    quats = np.concatenate([np.sqrt(np.maximum(1 - np.square(three).sum(1, keepdims=True), 1e-4)), three], 1)
    quats /= np.linalg.norm(quats, axis=1, keepdims=True)
    factor = np.exp2(codes.exponent)[:, None]
    sh = np.zeros((len(means), (degree + 1) ** 2, 3))
    sh[:, 0] = codes.colour * (frame.steps.colour * factor) @ COLOUR / C0
    if len(frame.basis):
        parts = codes.rest * (frame.steps.sh * factor)
        sh[:, 1:] = (parts @ frame.basis).reshape(len(means), -1, 3) @ COLOUR
    log_scales = codes.scale * frame.steps.log_scale + MIN_LOG_SCALE
    return Rows(means, log_scales, quats, np.minimum(codes.opacity * frame.steps.opacity, 1.0), sh)


def components(sh: np.ndarray, frame: Frame) -> np.ndarray:
    """(N, J) view-dependent colour of ``sh`` (N, K, 3) in the frame's basis."""
    if not len(frame.basis):
        return np.zeros((len(sh), 0))
    return (sh[:, 1:] @ COLOUR.T).reshape(len(sh), -1) @ np.linalg.pinv(frame.basis.astype(np.float64))


def round_means(means: np.ndarray, scale_codes: np.ndarray, frame: Frame) -> np.ndarray:
    """Centres (N, 3) as a file has them where the octree is not finer than the Gaussians need."""
    cell = frame.side * 0.5 ** fine_bits(-np.sort(-scale_codes, 1), frame, 0, DEEPEST)[:, None]
    return (np.floor((means - frame.origin) / cell) + 0.5) * cell + frame.origin


# ---- steps that depend on the row, in integers ----


def _octaves(codes: np.ndarray, step: float) -> np.ndarray:
    """Codes of log scales as 1/256 of factors of two."""
    return (codes * int(round(step / np.log(2) * 65536))) >> 8


def fine_bits(scale_codes: np.ndarray, frame: Frame, depth: int, most: int = FINEST) -> np.ndarray:
    """(N,) plain bits per axis below the octree of ``depth`` levels."""
    cell = int(round(256 * (np.log2(frame.side / frame.steps.position) - MIN_LOG_SCALE / np.log(2)))) - 256 * depth
    middle = _octaves(scale_codes[:, 1], frame.steps.log_scale)
    return np.clip((cell - middle + 255) >> 8, 0, most)


def rotation_exponents(scale_codes: np.ndarray, frame: Frame) -> np.ndarray:
    """(N,) powers of two, −3 to 2, on the step of rotations."""
    ratio = _octaves(scale_codes[:, 0] - scale_codes[:, 2], frame.steps.log_scale) >> 8
    return np.clip(1 - ratio, -2, 2)


def visibility(scale_codes: np.ndarray, opacity: np.ndarray, steps: Steps) -> np.ndarray:
    """(N,) opacity times the largest face of a Gaussian, as 1/256 of factors of two."""
    seen = np.frexp((2 * opacity + 1).astype(np.float64))[1].astype(np.int64)
    return _octaves(scale_codes[:, 0] + scale_codes[:, 1], steps.log_scale) + 256 * seen


def colour_exponents(scale_codes: np.ndarray, opacity: np.ndarray, frame: Frame) -> np.ndarray:
    """(N,) powers of two, −3 to 3, on the steps of colours: half the visibility that lacks."""
    lack = frame.reference - visibility(scale_codes, opacity, frame.steps)
    return np.clip((lack + 256) >> 9, -3, 3)


def _size_groups(scale_codes: np.ndarray, frame: Frame) -> np.ndarray:
    """(N,) context of opacity: the size."""
    lack = frame.reference - _octaves(scale_codes[:, 0] + scale_codes[:, 1], frame.steps.log_scale)
    return np.clip((lack >> 9) + 1, 0, OPACITY_GROUPS - 1)


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


# ---- streams ----


def _write_tree(codes: np.ndarray) -> tuple[int, list[bytes]]:
    """Octree of sorted Morton codes, as deep as branches still join: depth, and its streams."""
    levels = [codes[:1] >> np.uint64(63)]
    for level in range(1, DEEPEST + 1):
        cells = codes >> np.uint64(3 * (DEEPEST - level))
        levels.append(cells[np.concatenate([[True], cells[1:] != cells[:-1]])])
        if len(levels[-1]) > 0.75 * len(codes):
            break
    depth = len(levels) - 1
    occupied = []
    for parents, children in zip(levels, levels[1:], strict=False):
        found = np.zeros(len(parents), np.int64)
        np.bitwise_or.at(
            found, np.searchsorted(parents, children >> np.uint64(3)), 1 << (children & np.uint64(7)).astype(np.int64)
        )
        occupied.append(found)
    heads = np.array([depth, *map(len, levels)], "<u4").tobytes()
    cells = codes >> np.uint64(3 * (DEEPEST - depth))
    extra = np.diff(np.append(np.flatnonzero(np.concatenate([[True], cells[1:] != cells[:-1]])), len(cells))) - 1
    deep = np.repeat(np.arange(depth), [len(level) for level in occupied])
    tree = entropy.encode(np.concatenate(occupied) if depth else np.zeros(0, np.int64), deep, max(depth, 1))
    return depth, [heads, tree, entropy.encode(extra)]


def _read_tree(given, count: int) -> tuple[np.ndarray, int]:
    """Cells (N, 3) and depth."""
    heads = np.frombuffer(next(given), "<u4").astype(np.int64)
    depth = int(heads[0]) if len(heads) else -1
    if not 0 <= depth <= DEEPEST or len(heads) != depth + 2 or heads[1] != 1 or (heads[1:] > count).any():
        raise Damaged("the octree's head is wrong")
    sizes = heads[1:-1]
    deep = np.repeat(np.arange(depth), sizes)
    occupied = entropy.decode(next(given), int(sizes.sum()), deep, max(depth, 1))
    cells, at = np.zeros((1, 3), np.int64), 0
    for level in range(depth):
        found = occupied[at : at + len(cells)]
        at += len(cells)
        parent, child = np.nonzero((found[:, None] >> np.arange(8)) & 1)
        cells = 2 * cells[parent] + ((child[:, None] >> np.arange(3)) & 1)
        if len(cells) != heads[level + 2]:
            raise Damaged("a level of the octree has a wrong size")
    times = entropy.decode(next(given), len(cells)) + 1
    if int(times.sum()) != count:
        raise Damaged("the octree holds another number of Gaussians")
    return np.repeat(cells, times, axis=0), depth


def _write_scales(codes: np.ndarray) -> list[bytes]:
    middle = codes[:, 0] - codes[:, 1]
    first = entropy.encode(codes[:, 0])
    second = entropy.encode(middle, np.minimum(codes[:, 0] >> 2, 63), 64)
    return [first, second, entropy.encode(codes[:, 1] - codes[:, 2], np.minimum(middle, 31), 32)]


def _read_scales(given, count: int) -> np.ndarray:
    largest = entropy.decode(next(given), count)
    middle = entropy.decode(next(given), count, np.minimum(largest >> 2, 63), 64)
    last = entropy.decode(next(given), count, np.minimum(middle, 31), 32)
    codes = np.stack([largest, largest - middle, largest - middle - last], 1)
    if (codes < 0).any():
        raise Damaged("a size is negative")
    return codes


def _write_columns(codes: np.ndarray, context: np.ndarray, contexts: int) -> bytes:
    """Signed codes (N, M), column after column."""
    sort, kinds = _column_contexts(context, contexts, codes.shape[1])
    return entropy.encode(entropy.zigzag(codes.T).reshape(-1), sort, kinds)


def _read_columns(data: bytes, count: int, context: np.ndarray, contexts: int, columns: int = 3) -> np.ndarray:
    sort, kinds = _column_contexts(context, contexts, columns)
    found = entropy.decode(data, count * columns, sort, kinds)
    return entropy.unzigzag(found).reshape(columns, count).T


def _column_contexts(context: np.ndarray, contexts: int, columns: int) -> tuple[np.ndarray, int]:
    """Context of each code, column after column, and how many there are; beyond four, columns share in fours."""
    group = np.arange(columns) >> (2 if columns > 4 else 0)
    return (context[None] + contexts * group[:, None]).reshape(-1), contexts * (int(group[-1]) + 1)


def _energy(codes: np.ndarray) -> np.ndarray:
    """(N,) 0 to 5: how much the components so far hold."""
    total = np.abs(codes).sum(1)
    return np.searchsorted([0, 1, 3, 7, 15], total, side="left")


def _write_rest(parts: np.ndarray, exponent: np.ndarray) -> list[bytes]:
    streams, context = [], exponent + 3
    for first, last in zip(RUNS, RUNS[1:], strict=False):
        if first < parts.shape[1]:
            streams.append(_write_columns(parts[:, first:last], context, 7))
            context = _energy(parts[:, :last])
    return streams


def _read_rest(given, count: int, components: int, exponent: np.ndarray) -> np.ndarray:
    parts, context = np.zeros((count, components), np.int64), exponent + 3
    for first, last in zip(RUNS, RUNS[1:], strict=False):
        if first < components:
            width = min(last, components) - first
            parts[:, first : first + width] = _read_columns(next(given), count, context, 7, width)
            context = _energy(parts[:, :last])
    return parts
