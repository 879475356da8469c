"""PlayCanvas' compressed `.ply`: 16 bytes a Gaussian (plus one per SH value), quantized within chunks of 256.

Layout (PlayCanvas developer manual, "Compressed PLY"; splat-transform 3.7): element `chunk` holds the float ranges of
position, ln-scale and colour; element `vertex` packs 11-10-11-bit position and scale, a 2+10+10+10-bit quaternion and
8-bit RGBA; element `sh` one byte per f_rest value. Same frame as the training cameras.
"""

from pathlib import Path

import numpy as np

from splat.cloud_arrays import GaussianArrays
from splat.coding.attributes import (
    SQRT2,
    alphas,
    byte_logits,
    fill_from_smallest_three,
    prepare,
    smallest_three,
    to_uint,
    unit_quats,
    without_zero_bands,
)
from splat.coding.morton import morton
from splat.coding.parallel import BLOCK, each, pieces
from splat.errors import InputError
from splat.files import atomic_path
from splat.formats.ply.header import Header, georeference_comments, georeference_of, read_header, read_rows
from splat.sh_basis import C0

ROWS = 256  # Gaussians per chunk
HALF = np.float32(0.5)
TIE = 2.0**-15  # of a step of SH: less is lost in rounding
RANGES = tuple(f"{end}_{axis}" for end in ("min", "max") for axis in "xyz")
SCALES = tuple(f"{end}_scale_{axis}" for end in ("min", "max") for axis in "xyz")
COLORS = tuple(f"{end}_{channel}" for end in ("min", "max") for channel in "rgb")
PACKED = ("packed_position", "packed_rotation", "packed_scale", "packed_color")
MAX_LOG_SCALE = 20.0  # the reference encoder's limit


def is_compressed(header: Header) -> bool:
    """Whether the PLY holds a cloud in this layout."""
    vertex = header.element("vertex")
    return header.element("chunk") is not None and vertex is not None and set(PACKED) <= set(vertex.names)


def read(path: Path, max_degree: int = 4) -> GaussianArrays:
    """Read ``path`` with SH up to ``max_degree``. The older layout without colour ranges is read too."""
    header = read_header(path)
    if not is_compressed(header):
        raise InputError(
            f"{path}: the PLY has no chunks of packed Gaussians; it is no compressed .ply, read it as plain .ply"
        )
    types = dict(header.element("chunk").properties + header.element("vertex").properties)
    # Narrower types, which nobody writes, would make a small file a large cloud.
    wrong = [name for name in RANGES + SCALES + COLORS if types.get(name, "f4") != "f4"]
    wrong += [name for name in PACKED if types[name] != "u4"]
    if wrong:
        raise InputError(f"{path}: {wrong[0]} is of another type than this layout has; make the file again")
    low, span = _read_ranges(path, header)
    n = header.element("vertex").count
    if low.shape[1] * ROWS < n:
        raise InputError(
            f"{path}: {low.shape[1]:,} chunks cannot serve {n:,} Gaussians; the file is damaged, make it again"
        )
    sh = _read_sh(path, header, n, max_degree)
    means, log_scales = np.empty((n, 3), np.float32), np.empty((n, 3), np.float32)
    quats, logit = np.empty((n, 4), np.float32), np.empty(n, np.float32)
    opacities = byte_logits(np.arange(256))

    @np.errstate(over="ignore", invalid="ignore")  # ranges of a damaged file
    def decode(rows: slice, block: np.ndarray) -> None:
        for start in range(0, len(block), BLOCK):
            some = block[start : start + BLOCK]
            here = slice(rows.start + start, rows.start + start + len(some))
            chunks = slice(here.start // ROWS, -(-here.stop // ROWS))
            lows, spans = (np.repeat(ends[:, chunks], ROWS, axis=1)[:, : len(some)] for ends in (low, span))
            position, rotation, scale, color = (some[name].astype(np.uint32) for name in PACKED)
            for axis, (shift, top) in enumerate(((21, 2047), (11, 1023), (0, 2047))):
                means[here, axis] = lows[axis] + _part(position, shift, top) * spans[axis]
                log_scales[here, axis] = lows[3 + axis] + _part(scale, shift, top) * spans[3 + axis]
                rgb = lows[6 + axis] + _part(color, 24 - 8 * axis, 255) * spans[6 + axis]
                sh[here, 0, axis] = (rgb - HALF) * np.float32(1 / C0)
            three = ((_part(rotation, shift, 1023) - HALF) * np.float32(SQRT2) for shift in (20, 10, 0))
            fill_from_smallest_three(quats[here], rotation >> np.uint32(30), *three)
            logit[here] = opacities[color & np.uint32(255)]

    read_rows(path, header, "vertex", decode)
    return GaussianArrays(means, log_scales, quats, logit, sh, georeference=georeference_of(header))


def _read_ranges(path: Path, header: Header) -> tuple[np.ndarray, np.ndarray]:
    """Lows and spans (9, chunks) of position, ln-scale and colour."""
    chunk = header.element("chunk")
    if not set(RANGES + SCALES) <= set(chunk.names):
        raise InputError(f"{path}: the chunks lack position or scale ranges; the file is damaged, make it again")
    low, high = np.zeros((9, chunk.count), np.float32), np.ones((9, chunk.count), np.float32)
    groups = (RANGES, SCALES, COLORS) if set(COLORS) <= set(chunk.names) else (RANGES, SCALES)

    def take(rows: slice, block: np.ndarray) -> None:
        for i, group in enumerate(groups):
            for axis in range(3):
                low[3 * i + axis, rows], high[3 * i + axis, rows] = block[group[axis]], block[group[3 + axis]]

    read_rows(path, header, "chunk", take)
    with np.errstate(over="ignore", invalid="ignore"):
        return low, high - low


def _read_sh(path: Path, header: Header, n: int, max_degree: int) -> np.ndarray:
    """(N, K, 3) SH up to ``max_degree`` with the DC still to be filled in."""
    element = header.element("sh")
    rest = len(element.properties) if element else 0
    if rest not in (0, 9, 24, 45) or (rest and element.count != n):
        raise InputError(
            f"{path}: element 'sh' has {rest} values for {element.count:,} of {n:,} Gaussians; make the file again"
        )
    coefficients = min(1 + rest // 3, (max_degree + 1) ** 2)
    sh = np.empty((n, coefficients, 3), np.float32)
    if coefficients > 1:
        names = [f"f_rest_{i}" if f"f_rest_{i}" in element.names else element.names[i] for i in range(rest)]
        plain = all(kind == "u1" for _, kind in element.properties) and names == list(element.names)

        def decode(rows: slice, block: np.ndarray) -> None:
            codes = block.view(np.uint8) if plain else np.stack([block[name].astype(np.uint8) for name in names], 1)
            codes = codes.reshape(len(block), 3, -1)[:, :, : coefficients - 1]
            for start in range(0, len(block), BLOCK):
                some = codes[start : start + BLOCK]
                _decode_sh(some, sh[rows][start : start + BLOCK])

        read_rows(path, header, "sh", decode)
    return sh


def _decode_sh(codes: np.ndarray, sh: np.ndarray) -> None:
    """Bytes (N, 3, K-1) → ``sh`` (N, K, 3), all but the DC: 0 and 255 are the ends of ±4, the others mid-bin."""
    turned = np.empty(sh.shape, np.uint8)
    turned[:, 0] = 1
    for channel in range(3):
        turned[:, 1:, channel] = codes[:, channel]
    np.multiply(turned, np.float32(8 / 256), out=sh)
    sh += np.float32(8 / 512 - 4)
    if codes.min() == 0:
        sh[turned == 0] = -4
    if codes.max() == 255:
        sh[turned == 255] = 4


def _part(code: np.ndarray, shift: int, top: int) -> np.ndarray:
    """(N,) the bit field of ``code`` whose largest value is ``top``, as parts of 1."""
    return (code >> np.uint32(shift) & np.uint32(top)) * np.float32(1 / top)


def write(table: GaussianArrays, path: Path, *, reorder: bool = True) -> None:
    """Write ``table`` (SH up to degree 3).

    Args:
        reorder: sort along a space-filling curve first, which makes chunks small and the ranges tight; the quality of
            an unsorted file is poor.
    """
    table = without_zero_bands(prepare(table, path, max_degree=3))
    n, rest = len(table), 3 * (table.sh.shape[1] - 1)
    order = morton(table.means) if reorder else np.arange(n)
    lines = ["ply", "format binary_little_endian 1.0", "comment generated by splat"]
    lines += [f"comment {comment}" for comment in georeference_comments(table.georeference)]
    lines.append(f"element chunk {-(-n // ROWS)}")
    lines += [f"property float {name}" for name in RANGES + SCALES + COLORS]
    lines += [f"element vertex {n}", *(f"property uint {name}" for name in PACKED)]
    if rest:
        lines += [f"element sh {n}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    ranges, words, codes = np.empty((-(-n // ROWS), 18), "<f4"), np.empty((n, 4), "<u4"), np.empty((n, rest), np.uint8)

    def encode(rows: slice) -> None:
        chunks = slice(rows.start // ROWS, -(-rows.stop // ROWS))
        ranges[chunks], words[rows], codes[rows] = _encode(table.select(order[rows]))

    each(encode, pieces(n))
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write("\n".join([*lines, "end_header", ""]).encode())
        for part in (ranges, words, codes):
            part.tofile(file)


def _encode(table: GaussianArrays) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chunk ranges (C, 18) float32, packed words (N, 4) uint32 and SH bytes (N, 3(K-1)) of whole chunks."""
    n = len(table)
    log_scales = np.clip(table.log_scales, -MAX_LOG_SCALE, MAX_LOG_SCALE)
    values = np.concatenate([table.means, log_scales, table.sh[:, 0] * np.float32(C0) + np.float32(0.5)], 1)
    chunks = np.pad(values, ((0, -n % ROWS), (0, 0)), mode="edge").reshape(-1, ROWS, 9)
    low, high = chunks.min(1), chunks.max(1)
    span = high.astype(np.float64) - low
    part = ((chunks - low[:, None]) * (1 / np.where(span > 0, span, 1))[:, None]).reshape(-1, 9)[:n]
    index, three = smallest_three(unit_quats(table))
    words = np.empty((n, 4), "<u4")
    words[:, 0] = _pack_11_10_11(part[:, 0:3])
    quat = to_uint((three * np.float32(1 / SQRT2) + np.float32(0.5)) * np.float32(1023), 1023, np.uint32)
    words[:, 1] = index.astype(np.uint32) << 30 | quat[:, 0] << 20 | quat[:, 1] << 10 | quat[:, 2]
    words[:, 2] = _pack_11_10_11(part[:, 3:6])
    rgb, alpha = to_uint(part[:, 6:9] * 255, 255, np.uint32), to_uint(alphas(table) * np.float32(255), 255, np.uint32)
    words[:, 3] = rgb[:, 0] << 24 | rgb[:, 1] << 16 | rgb[:, 2] << 8 | alpha
    # Readers decode to the middle of the bin, so that rounding down (of numbers above 0) is rounding to the nearest.
    # Values on the border, as all zeros are, go up and down in turn: one way would tint the whole cloud.
    codes = table.sh[:, 1:] * np.float32(32) + np.float32(128)
    down = np.indices((2, *codes.shape[1:])).sum(0) % 2 * np.float32(TIE)
    for first in (0, 1):
        codes[first::2] -= down[first]
    codes = np.clip(codes, 0, 255).astype(np.uint8)
    ranges = np.concatenate([low[:, :3], high[:, :3], low[:, 3:6], high[:, 3:6], low[:, 6:], high[:, 6:]], 1)
    return ranges, words, codes.transpose(0, 2, 1).reshape(n, -1)


def _pack_11_10_11(part: np.ndarray) -> np.ndarray:
    code = [to_uint(part[:, i] * top, top, np.uint32) for i, top in enumerate((2047, 1023, 2047))]
    return code[0] << 21 | code[1] << 11 | code[2]


def antialiased(path: Path) -> bool:
    """The format has no such mark."""
    return False
