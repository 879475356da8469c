"""Procedural materials: value noise, and stone, wood, marble, porcelain, cloth made of it. Colours are linear RGB."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

LATTICE = 32  # side of the repeating cube of random numbers behind the noise


def colour(code: str) -> NDArray[np.float32]:
    """Linear RGB (3,) of an sRGB colour written '#rrggbb'."""
    value = np.array([int(code[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


@cache
def _lattice(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).random(LATTICE**3, dtype=np.float32)


def noise(points: NDArray, frequency: float, octaves: int = 1, seed: int = 0) -> NDArray[np.float32]:
    """Smooth noise in [0, 1] at points (..., 3): value noise, each octave twice as fine and half as strong."""
    total = np.zeros(points.shape[:-1], np.float32)
    strength = 0.0
    for octave in range(octaves):
        total += (
            _value_noise(points.astype(np.float32) * np.float32(frequency * 2**octave), seed + octave) * 0.5**octave
        )
        strength += 0.5**octave
    return total / np.float32(strength)


def _value_noise(points: NDArray, seed: int) -> NDArray[np.float32]:
    table = _lattice(seed)
    base = np.floor(points)
    part = points - base
    part = part * part * (3 - 2 * part)
    cell = base.astype(np.int32)
    low = [(cell[..., a] % LATTICE) * LATTICE**a for a in range(3)]
    high = [((cell[..., a] + 1) % LATTICE) * LATTICE**a for a in range(3)]
    x, y, z = part[..., 0], part[..., 1], part[..., 2]

    def edge(y_index: NDArray, z_index: NDArray) -> NDArray:
        a, b = table[low[0] + y_index + z_index], table[high[0] + y_index + z_index]
        return a + (b - a) * x

    def face(z_index: NDArray) -> NDArray:
        a, b = edge(low[1], z_index), edge(high[1], z_index)
        return a + (b - a) * y

    front, back = face(low[2]), face(high[2])
    return front + (back - front) * z


def mix(a: NDArray, b: NDArray, fraction: NDArray) -> NDArray[np.float32]:
    """Colours between ``a`` (at 0) and ``b`` (at 1), each (3,) or (..., 3); ``fraction`` (...)."""
    fraction = np.asarray(fraction, np.float32)[..., None]
    return a * (1 - fraction) + b * fraction


def step(value: NDArray, edge: float, width: float) -> NDArray[np.float32]:
    """0 below ``edge``, 1 above, smooth over ``width``."""
    t = np.clip((np.asarray(value, np.float32) - edge) / width + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def band(value: NDArray, low: float, high: float, width: float) -> NDArray[np.float32]:
    """1 between ``low`` and ``high``, smooth over ``width``."""
    return step(value, low, width) * (1 - step(value, high, width))


def chips(xy: NDArray, size: float, seed: int) -> tuple[NDArray, NDArray]:
    """Pebbles strewn over the plane, one per cell of ``size``.

    Returns how deep inside its pebble each point lies (negative outside), and a random number per pebble.
    """
    table = _lattice(seed).reshape(-1, 4)
    scaled = xy.astype(np.float32) / np.float32(size)
    cell = np.floor(scaled).astype(np.int32)
    depth, which = np.full(xy.shape[:-1], -1.0, np.float32), np.zeros(xy.shape[:-1], np.float32)
    for dx in (-1, 0, 1):
        for dy in (-1, 0, 1):
            x, y = cell[..., 0] + dx, cell[..., 1] + dy
            random = table[((x * 92837 + y * 689287) & 0x7FFFFFFF) % len(table)]
            ox, oy = scaled[..., 0] - x - random[..., 0], scaled[..., 1] - y - random[..., 1]
            angle = random[..., 2] * 6.2832
            c, s = np.cos(angle), np.sin(angle)
            # A rounded lozenge of random direction and size.
            reach = np.abs(c * ox + s * oy) * 1.5 + np.abs(c * oy - s * ox)
            inside = 0.15 + 0.45 * random[..., 3] - reach
            better = inside > depth
            depth, which = np.where(better, inside, depth), np.where(better, random[..., 2], which)
    return depth, which


def terrazzo(points: NDArray, tile: float = 0.7, seed: int = 3) -> NDArray:
    """Floor tiles laid diagonally, pale ones with stone chips and plain dark ones, separated by thin joints."""
    x, y = points[..., 0], points[..., 1]
    a, b = (x + y) / np.sqrt(2) / tile, (x - y) / np.sqrt(2) / tile
    dark = (np.floor(a) + np.floor(b)) % 2
    ground = mix(colour("#d6cbb9"), colour("#93a09b"), dark)
    shade = np.stack([np.floor(a), np.floor(b), 0 * a], -1) * 0.37 + 0.19
    ground = ground * (0.9 + 0.2 * noise(shade, 1.0, seed=seed))[..., None]
    ground = ground * (0.86 + 0.28 * noise(points, 3.0, 4, seed))[..., None]
    codes = ("#c08a72", "#7d8a8c", "#cdb07a", "#f3efe6", "#8d9c8b", "#a8917c", "#d3cabb", "#5d6a6e", "#b9b2a6")
    palette = np.stack([colour(c) for c in codes])
    depth, which = chips(points[..., :2], 0.12, seed + 1)
    chip = palette[(which * len(palette)).astype(int) % len(palette)]
    ground = mix(ground, chip, 0.6 * (1 - dark) * step(depth, 0.0, 0.2))
    joint = np.minimum(np.abs(a - np.round(a)), np.abs(b - np.round(b))) * tile
    return mix(colour("#7a7266"), ground, step(joint, 0.008, 0.01))


def planks(points: NDArray, width: float = 0.21, seed: int = 11) -> NDArray:
    """Oiled oak boards along x."""
    row = np.floor(points[..., 1] / width)
    x = points[..., 0] + row * 1.71
    grain_place = np.stack([x * 1.1, points[..., 1] * 9, row * 3.3], -1)
    swirl = noise(grain_place, 1.0, 3, seed)
    rings = 0.5 + 0.5 * np.sin(34 * swirl + 5 * noise(grain_place, 0.5, 1, seed + 5))
    fibres = noise(np.stack([x * 5, points[..., 1] * 120, row], -1), 1.0, 2, seed + 7)
    wood = mix(colour("#7a4a26"), colour("#c08a52"), 0.25 + 0.5 * rings + 0.35 * (fibres - 0.5))
    tone = 0.8 + 0.4 * noise(np.stack([row * 0.77, row * 0.31, np.floor(x / 0.9)], -1), 1.0, seed=seed + 9)
    gap = np.abs(points[..., 1] / width - np.round(points[..., 1] / width)) * width
    return mix(colour("#2b1a10"), wood * tone[..., None], step(gap, 0.004, 0.006))


def turned_wood(points: NDArray, dark: str = "#3e2214", light: str = "#7d4a28", seed: int = 21) -> NDArray:
    """Walnut with grain along z."""
    scaled = points * np.array([7, 7, 1.2], np.float32)
    rings = 0.5 + 0.5 * np.sin(16 * noise(scaled, 0.8, 3, seed))
    return mix(colour(dark), colour(light), 0.3 + 0.5 * rings + 0.3 * (noise(scaled, 9.0, 2, seed + 3) - 0.5))


def marble(points: NDArray, seed: int = 31) -> NDArray:
    """White marble, grey veins and a little gold."""
    warp = points + 0.25 * np.stack([noise(points, 5.0, 3, seed + k) for k in (0, 5, 9)], -1)
    vein = 1 - np.abs(2 * noise(warp, 5.0, 4, seed + 11) - 1)
    gold = 1 - np.abs(2 * noise(warp + 3.7, 4.0, 3, seed + 17) - 1)
    stone = mix(colour("#f4f1ec"), colour("#c9c8c9"), noise(points, 4.0, 4, seed + 2))
    stone = mix(stone, colour("#4c5158"), 0.9 * step(vein, 0.945, 0.09))
    return mix(stone, colour("#b98a3e"), 0.8 * step(gold, 0.975, 0.03))


def porcelain(points: NDArray, u: NDArray, v: NDArray, seed: int = 41) -> NDArray:
    """Blue painting on white: rings, a row of scales, a row of arches; u runs around, v up."""
    white, blue = colour("#eef1f2"), colour("#1d3f8f")
    paint = np.zeros_like(u, np.float32)
    for low, high in (
        (0.06, 0.075),
        (0.10, 0.13),
        (0.44, 0.452),
        (0.465, 0.49),
        (0.80, 0.812),
        (0.83, 0.85),
        (0.955, 1.0),
    ):
        paint = np.maximum(paint, band(v, low, high, 0.006))
    angle = u * 18
    lift = np.floor(v * 30) % 2 * 0.5
    across, along = (angle + lift) % 1 - 0.5, (v * 30) % 1
    ring = np.abs(np.hypot(across * 1.15, along) - 0.62)
    paint = np.maximum(paint, band(v, 0.15, 0.42, 0.006) * (1 - step(ring, 0.10, 0.08)) * 0.9)
    arch = np.hypot((u * 9 % 1 - 0.5) * 1.6, (v - 0.52) / 0.23)
    arches = np.maximum(1 - step(np.abs(arch - 0.72), 0.05, 0.05), 1 - step(arch, 0.36, 0.05))
    arches = np.maximum(arches, 0.8 * (1 - step(np.abs(arch - 0.54), 0.025, 0.04)))
    paint = np.maximum(paint, arches * band(v, 0.52, 0.79, 0.006))
    paint = paint * (0.72 + 0.4 * noise(points, 24.0, 3, seed))
    return mix(white, blue, np.clip(paint, 0, 1)) * (0.94 + 0.1 * noise(points, 9.0, 2, seed + 3))[..., None]


def cloth(points: NDArray, u: NDArray, v: NDArray, base: str, thread: str, count: int, seed: int) -> NDArray:
    """A woven cover with stripes across u."""
    weave = 0.5 + 0.25 * np.sin(u * count * 6.2832) + 0.25 * np.sin(v * count * 6.2832)
    body = colour(base) * (0.75 + 0.3 * weave + 0.25 * (noise(points, 60.0, 2, seed) - 0.5))[..., None]
    stripes = np.maximum(band(u, 0.10, 0.13, 0.01), np.maximum(band(u, 0.15, 0.16, 0.01), band(u, 0.87, 0.90, 0.01)))
    return mix(body, colour(thread), 0.9 * stripes)


def paper_edges(points: NDArray, v: NDArray, seed: int) -> NDArray:
    """The cut edges of a book's pages, one above the other along v."""
    lines = noise(np.stack([0 * v, v * 34, 0 * v], -1), 1.0, 2, seed)
    return mix(colour("#b9a988"), colour("#f1e8d4"), lines) * (0.92 + 0.16 * noise(points, 40.0, 2, seed))[..., None]


def plaster(points: NDArray, seed: int = 51) -> NDArray:
    """Troweled lime wash."""
    cloud = noise(points, 0.9, 5, seed)
    scratches = noise(points * np.array([1, 1, 3.0], np.float32), 9.0, 3, seed + 7)
    return mix(colour("#cfa98c"), colour("#ecd9c3"), 0.15 + 0.75 * cloud + 0.5 * (scratches - 0.5))


def panelling(u: NDArray, z: NDArray, points: NDArray, height: float, count: int, seed: int = 61) -> NDArray:
    """Painted boards with rounded joints under a rail; u runs around the room."""
    across = np.abs((u * count) % 1 - 0.5)
    shade = 1 - 0.45 * step(across, 0.47, 0.05) + 0.10 * band(across, 0.41, 0.45, 0.03)
    paint = mix(colour("#1f4b50"), colour("#2f6a6b"), noise(points, 3.0, 4, seed)) * shade[..., None]
    rail = band(z, height - 0.09, height, 0.02)
    skirting = 1 - step(z, 0.16, 0.02)
    paint = mix(
        paint, colour("#173a3f") * (0.8 + 0.4 * noise(points, 12.0, 2, seed))[..., None], np.maximum(rail, skirting)
    )
    return mix(paint, colour("#c79a4b"), band(z, height - 0.118, height - 0.10, 0.012))


def poster(a: NDArray, b: NDArray, which: int, points: NDArray) -> NDArray:
    """A framed abstract print; a, b in [−1, 1] across and up."""
    sky, low, sun, third = [
        ("#f1e4d0", "#c8553d", "#e0a63a", "#22303c"),
        ("#e5b8a0", "#1f5b62", "#f3e9dc", "#c8553d"),
        ("#dfe6e0", "#8da290", "#22303c", "#e0a63a"),
        ("#22303c", "#e0a63a", "#e5b8a0", "#8da290"),
        ("#f3e9dc", "#3f6a8a", "#c8553d", "#22303c"),
    ][which % 5]
    picture = mix(colour(sky), colour(sky) * 0.75, step(b, 0.2, 1.6))
    x, y = a - (0.25 if which % 2 else -0.2), b - 0.28
    distance = np.hypot(x, y * 1.3)
    picture = mix(picture, colour(sun), 1 - step(distance, 0.42, 0.03))
    for k in range(4):
        ridge = -0.15 - 0.24 * k + 0.16 * np.sin(a * (2.1 + k) + which * 1.7 + k * 2.3)
        tint = mix(colour(low), colour(third), k / 3.5)
        picture = mix(picture, tint, 1 - step(b, ridge, 0.03))
    rays = np.maximum(1 - step(np.abs(distance - 0.55), 0.012, 0.02), 1 - step(np.abs(distance - 0.66), 0.008, 0.02))
    picture = mix(picture, colour(third), rays * step(b, -0.1, 0.05))
    picture = picture * (0.9 + 0.2 * noise(points, 26.0, 2, 71))[..., None]
    edge = np.maximum(np.abs(a), np.abs(b))
    picture = mix(picture, colour("#f6f2ea"), step(edge, 0.80, 0.02))
    return mix(picture, colour("#2a1d14"), step(edge, 0.95, 0.02))
