"""The demo scene: a room with a round table, and what stands on it. Metres, z up."""

import numpy as np
from numpy.typing import NDArray

from splat.scene.demo import patterns
from splat.scene.demo.patterns import colour
from splat.scene.demo.shapes import (
    Gloss,
    Paint,
    Patch,
    box,
    closed_tube,
    disc,
    lathe,
    leaf,
    placed,
    rod,
    sphere,
    tube,
)

ROOM_RADIUS = 5.5
ROOM_HEIGHT = 4.8
PANEL_HEIGHT = 1.25
TABLE_RADIUS = 1.25
TABLE_HEIGHT = 0.34

CERAMIC = Gloss((0.045, 0.045, 0.045), 260.0)
POLISHED = Gloss((0.05, 0.05, 0.05), 500.0)
VARNISH = Gloss((0.025, 0.024, 0.022), 40.0)
LEAF_WAX = Gloss((0.02, 0.022, 0.018), 18.0)
GOLD = Gloss((1.0, 0.66, 0.25), 90.0, 0.9)
STEEL = Gloss((0.62, 0.64, 0.66), 110.0, 0.85)


def build(seed: int = 0) -> list[Patch]:
    """Every surface of the scene; ``seed`` shapes the plant and the noise-like details."""
    rng = np.random.default_rng(seed)
    return [
        *room(),
        *table(),
        *vase((-0.42, 0.36), rng),
        *knot((0.50, 0.40)),
        *marble_ball((0.18, -0.56)),
        *globe((-0.62, -0.40)),
        *books((0.68, -0.30)),
        *chair((0.02, 0.93), 12.0),
        *beads(),
    ]


def plain(code: str, grain: float = 0.12, frequency: float = 30.0, seed: int = 81) -> Paint:
    """One colour with slight mottling."""
    base = colour(code)

    def paint(points: NDArray, u: NDArray, v: NDArray) -> NDArray:
        return base * (1 - grain / 2 + grain * patterns.noise(points, frequency, 3, seed))[..., None]

    return paint


def room() -> list[Patch]:
    """Terrazzo floor, and a round wall with panelling and prints."""
    profile = np.stack([np.full(9, ROOM_RADIUS), np.linspace(ROOM_HEIGHT, 0, 9)], 1)

    def wall(points: NDArray, u: NDArray, v: NDArray) -> NDArray:
        z = points[..., 2]
        paint = patterns.plaster(points)
        for k in range(7):
            half = (0.62, 0.80) if k % 2 else (0.78, 0.60)
            a = ((u - (k + 0.5) / 7) * 2 * np.pi * ROOM_RADIUS) / half[0]
            b = (z - 2.25) / half[1]
            inside = (np.abs(a) < 1) & (np.abs(b) < 1)
            paint[inside] = patterns.poster(a[inside], b[inside], k, points[inside])
        low = z < PANEL_HEIGHT
        paint[low] = patterns.panelling(u[low], z[low], points[low], PANEL_HEIGHT, 150)
        return paint

    return [
        Patch(disc(ROOM_RADIUS, 0.0, 73), (1150, 1150), lambda p, u, v: patterns.terrazzo(p),
              light_step=3, casts_shadow=False, importance=0.10),
        Patch(lathe(profile, 145), (300, 2200), wall, light_step=4, casts_shadow=False, importance=0.07),
    ]  # fmt: skip


def table() -> list[Patch]:
    """A round oak top on a walnut drum with a brass ring."""
    top = disc(TABLE_RADIUS, TABLE_HEIGHT, 41)
    edge = np.array([[1.17, 0.262], [1.22, 0.268], [1.25, 0.285], [1.256, 0.31], [1.254, 0.332], [1.25, 0.34]])
    under = np.array([[1.05, 0.262], [1.17, 0.262]])
    drum = np.stack([1.05 + 0.02 * np.cos(np.linspace(0, np.pi, 6)), np.linspace(0.04, 0.262, 6)], 1)
    ring = np.array([[1.08, 0.0], [1.095, 0.012], [1.095, 0.04], [1.07, 0.045]])
    wood = lambda p, u, v: patterns.turned_wood(p)  # noqa: E731
    return [
        Patch(top, (420, 420), lambda p, u, v: patterns.planks(p), VARNISH, light_step=2, importance=0.7),
        Patch(
            lathe(edge, 121),
            (14, 900),
            lambda p, u, v: patterns.turned_wood(p, "#5a341c", "#a06a3a"),
            VARNISH,
            light_step=3,
        ),
        Patch(lathe(under, 61), (6, 300), wood),
        Patch(lathe(drum, 121), (30, 760), wood, VARNISH, light_step=3, importance=0.4),
        Patch(lathe(ring, 121), (8, 500), plain("#8a6a3a"), VARNISH),
    ]


def vase(at: tuple[float, float], rng: np.random.Generator) -> list[Patch]:
    """Painted porcelain with a palm in it."""
    t = np.linspace(0, 1, 33)
    knots = np.array([0.0, 0.08, 0.25, 0.45, 0.65, 0.80, 0.92, 1.0])
    radii = np.array([0.098, 0.112, 0.168, 0.198, 0.172, 0.112, 0.088, 0.108])
    radius = smooth(t, knots, radii)
    foot = (at[0], at[1], TABLE_HEIGHT)
    inner = np.stack([radius[:-14:-1] - 0.012, 0.52 * t[:-14:-1]], 1)
    lip = np.array([[radius[-1], 0.52], [radius[-1] - 0.006, 0.524], [radius[-1] - 0.012, 0.52]])
    soil = np.array([[0.092, 0.455], [0.05, 0.462], [0.001, 0.466]])
    patches = [
        Patch(
            lathe(np.stack([radius, 0.52 * t], 1), 73, foot),
            (200, 420),
            patterns.porcelain,
            CERAMIC,
            light_step=3,
            importance=3,
        ),
        Patch(lathe(lip, 49, foot), (4, 160), plain("#1d3f8f"), CERAMIC),
        Patch(lathe(inner, 49, foot), (30, 80), plain("#e6e8e8"), CERAMIC),
        Patch(lathe(soil, 25, foot), (16, 60), plain("#3a2a1e", 0.9, 60.0)),
    ]
    for k in range(11):
        direction = 2 * np.pi * (k + 0.5 * rng.random()) / 11
        patches += frond(np.array([at[0], at[1], TABLE_HEIGHT + 0.42]), direction, 0.55 + 0.3 * rng.random(), rng)
    return patches


def smooth(t: NDArray, knots: NDArray, values: NDArray) -> NDArray:
    """Catmull-Rom through (knots, values), clamped at both ends."""
    slope = np.gradient(values, knots)
    i = np.clip(np.searchsorted(knots, t, "right") - 1, 0, len(knots) - 2)
    h = knots[i + 1] - knots[i]
    s = (t - knots[i]) / h
    return (
        values[i] * (1 + 2 * s) * (1 - s) ** 2 + slope[i] * h * s * (1 - s) ** 2
        + values[i + 1] * s * s * (3 - 2 * s) + slope[i + 1] * h * s * s * (s - 1)
    )  # fmt: skip


def frond(root: NDArray, direction: float, length: float, rng: np.random.Generator) -> list[Patch]:
    """An arching palm leaf: a stem with two rows of leaflets."""
    t = np.linspace(0, 1, 19)
    out = np.array([np.cos(direction), np.sin(direction), 0.0])
    rise, droop = length * (0.95 + 0.3 * rng.random()), 0.25 + 0.2 * rng.random()
    stem = root + np.outer(length * (0.12 * t + 0.62 * t**1.8), out)
    stem[:, 2] += rise * t - droop * t**3 * length * 1.6
    green = mix_code("#2f6434", "#64843a", rng.random())
    patches = [Patch(tube(stem, 0.0075 - 0.0045 * t, 6), (4, 60), plain("#6a7d3a"), importance=3)]
    side = np.array([-out[1], out[0], 0.0])
    for i in range(5, 19):
        tangent = stem[min(i + 1, 18)] - stem[i - 1]
        tangent /= np.linalg.norm(tangent)
        reach = length * 0.42 * np.sin(np.pi * (0.18 + 0.80 * (i - 4) / 15)) ** 0.8
        for sign in (-1, 1):
            s = np.linspace(0, 1, 6)
            heading = sign * side * 0.85 + tangent * 0.62 + [0, 0, 0.12]
            blade = stem[i] + np.outer(s * reach, heading) - np.outer(s**2 * reach * 0.35, [0, 0, 1])
            width = 0.030 * np.sin(np.pi * np.clip(0.06 + 0.90 * s, 0, 1)) ** 0.7
            patches.append(
                Patch(leaf(blade, width, tangent), (3, 14), leaf_paint(green), LEAF_WAX, two_sided=True, importance=3)
            )
    return patches


def mix_code(a: str, b: str, fraction: float) -> NDArray:
    """A linear colour between two written ones."""
    return patterns.mix(colour(a), colour(b), np.float32(fraction))


def leaf_paint(green: NDArray) -> Paint:
    """Darker along the middle, paler at the tip."""

    def paint(points: NDArray, u: NDArray, v: NDArray) -> NDArray:
        rib = np.exp(-(((v - 0.5) / 0.2) ** 2))
        return green * (0.75 + 0.3 * u - 0.2 * rib + 0.4 * (patterns.noise(points, 25.0, 2, 91) - 0.5))[..., None]

    return paint


def knot(at: tuple[float, float]) -> list[Patch]:
    """A golden trefoil knot on a slate foot."""
    t = np.linspace(0, 2 * np.pi, 241)[:-1]
    axis = np.stack([np.sin(t) + 2 * np.sin(2 * t), np.cos(t) - 2 * np.cos(2 * t), -np.sin(3 * t)], 1) * 0.105
    upright = placed(closed_tube(axis, 0.050, 20), (at[0], at[1], TABLE_HEIGHT + 0.405), turn=35.0, tilt=78.0)
    foot = np.array([[0.17, 0.0], [0.17, 0.035], [0.16, 0.045], [0.001, 0.045]])

    def brushed(points: NDArray, u: NDArray, v: NDArray) -> NDArray:
        streaks = patterns.noise(np.stack([u * 90, v * 8, 0 * u], -1), 1.0, 3, 101)
        return colour("#d8a04a") * (0.8 + 0.5 * (streaks - 0.5))[..., None]

    return [
        Patch(upright, (64, 900), brushed, GOLD, light_step=3, importance=3),
        Patch(lathe(foot, 61, (*at, TABLE_HEIGHT)), (40, 240), plain("#3b4046", 0.7, 22.0), VARNISH),
    ]


def marble_ball(at: tuple[float, float]) -> list[Patch]:
    """A polished ball."""
    radius = 0.20
    centre = (at[0], at[1], TABLE_HEIGHT + radius)
    veined = lambda p, u, v: patterns.marble(p)  # noqa: E731
    return [Patch(sphere(centre, radius, 41, 81), (200, 400), veined, POLISHED, light_step=4, importance=3)]


def globe(at: tuple[float, float]) -> list[Patch]:
    """A cage of wire triangles around a coral ball, on a wire stand."""
    centre = np.array([at[0], at[1], TABLE_HEIGHT + 0.33])
    nodes, edges = icosphere()
    patches = [
        Patch(
            rod(centre + 0.26 * nodes[a], centre + 0.26 * nodes[b], 0.0055),
            (9, 12),
            plain("#30343a"),
            STEEL,
            importance=3,
        )
        for a, b in edges
    ]
    patches += [
        Patch(sphere(tuple(centre + 0.26 * node), 0.0125, 7, 11), (8, 12), plain("#b8863c"), GOLD, importance=3)
        for node in nodes
    ]
    ring = np.array([[0.13, 0.0], [0.14, 0.008], [0.13, 0.016], [0.12, 0.008], [0.13, 0.0]])
    patches.append(Patch(lathe(ring, 49, (*at, TABLE_HEIGHT)), (8, 120), plain("#30343a"), STEEL))
    for k in range(3):
        angle = 2 * np.pi * k / 3 + 0.4
        foot = np.array([at[0] + 0.13 * np.cos(angle), at[1] + 0.13 * np.sin(angle), TABLE_HEIGHT + 0.008])
        touch = centre + 0.26 * np.array([0.42 * np.cos(angle), 0.42 * np.sin(angle), -0.9])
        patches.append(Patch(rod(foot, touch, 0.006), (9, 12), plain("#30343a"), STEEL))

    def coral(points: NDArray, u: NDArray, v: NDArray) -> NDArray:
        swirl = patterns.noise(points, 26.0, 3, 111)
        return patterns.mix(colour("#c24a35"), colour("#f0b27a"), patterns.step(swirl, 0.52, 0.16))

    return [
        *patches,
        Patch(sphere(tuple(centre), 0.13, 29, 57), (120, 240), coral, VARNISH, light_step=3, importance=3),
    ]


def icosphere() -> tuple[NDArray, list[tuple[int, int]]]:
    """Unit nodes (42, 3) and edges (120) of an icosahedron with every triangle split in four."""
    g = (1 + 5**0.5) / 2
    corners = np.array([[s * 1, t * g, 0] for s in (-1, 1) for t in (-1, 1)])
    nodes = np.concatenate([np.roll(corners, k, 1) for k in range(3)])
    near = np.linalg.norm(nodes[:, None] - nodes, axis=-1)
    long_edges = [(i, j) for i in range(12) for j in range(i) if near[i, j] < 2.1]
    middles = np.array([(nodes[i] + nodes[j]) / 2 for i, j in long_edges])
    nodes = np.concatenate([nodes, middles])
    nodes /= np.linalg.norm(nodes, axis=1, keepdims=True)
    near = np.linalg.norm(nodes[:, None] - nodes, axis=-1)
    return nodes, [(i, j) for i in range(len(nodes)) for j in range(i) if near[i, j] < 0.65]


def books(at: tuple[float, float]) -> list[Patch]:
    """Three cloth-bound books, and a colour chart leaning on them."""
    patches = []
    height = TABLE_HEIGHT
    stack = (
        ((0.46, 0.34, 0.075), 24.0, "#1f5b62", "#e0a63a"),
        ((0.42, 0.30, 0.055), 8.0, "#b5523b", "#f3e9dc"),
        ((0.34, 0.25, 0.065), 38.0, "#c9b48a", "#22303c"),
    )
    for k, (size, turn, base, thread) in enumerate(stack):
        for side, grid in enumerate(box(size)):
            grid = placed(grid, (at[0], at[1], height + size[2] / 2), turn)
            patches.append(
                Patch(grid, book_texels(side), book_paint(side, base, thread, 120 + k), VARNISH, light_step=3)
            )
        height += size[2]
    # The chart stands on the table, leans on the stack and looks outwards.
    card = np.array([[[0.0, -0.14, 0.0], [0.0, 0.14, 0.0]], [[-0.11, -0.14, 0.195], [-0.11, 0.14, 0.195]]])
    card = placed(card, (at[0] + 0.335, at[1] - 0.06, TABLE_HEIGHT), -16.0)
    patches.append(Patch(card, (72, 104), lambda p, u, v: chart(u, v), two_sided=True, importance=3))
    return patches


def book_texels(side: int) -> tuple[int, int]:
    """More texels for the covers than for the edges."""
    return (150, 150) if side >= 4 else (40, 120)


def book_paint(side: int, base: str, thread: str, seed: int) -> Paint:
    """Cloth on the covers and the spine (−x), paper on the other edges."""

    def paint(points: NDArray, u: NDArray, v: NDArray) -> NDArray:
        if side >= 4 or side == 0:
            return patterns.cloth(points, u, v, base, thread, 40, seed)
        across = u if side == 2 else v
        page = patterns.paper_edges(points, across, seed)
        return patterns.mix(page, colour(base), 1 - patterns.band(across, 0.09, 0.91, 0.02))

    return paint


def chart(u: NDArray, v: NDArray) -> NDArray:
    """Six by four colour fields on black card; corners of the sRGB cube, skin, foliage and a grey ramp among them."""
    codes = (
        "#f2f2f0", "#c8c8c8", "#a0a0a0", "#7a7a79", "#555555", "#343434",
        "#383d96", "#469449", "#af363c", "#e7c71f", "#bb5695", "#0885a1",
        "#d67e2c", "#505ba6", "#c15a63", "#5e3c6c", "#9dbc40", "#e0a32e",
        "#735244", "#c29682", "#627a9d", "#576c43", "#8580b1", "#67bdaa",
    )  # fmt: skip
    fields = np.stack([colour(code) for code in codes])
    a, b = (u - 0.04) / 0.92 * 6, (v - 0.05) / 0.90 * 4
    index = np.clip(np.floor(b), 0, 3).astype(int) * 6 + np.clip(np.floor(a), 0, 5).astype(int)
    inside = patterns.band(a % 1, 0.08, 0.92, 0.06) * patterns.band(b % 1, 0.08, 0.92, 0.06)
    inside = inside * ((u > 0.04) & (u < 0.96) & (v > 0.05) & (v < 0.95))
    return patterns.mix(colour("#141414"), fields[index], inside)


def chair(at: tuple[float, float], turn: float) -> list[Patch]:
    """A doll's chair: turned legs, a hoop and spindles."""
    walnut = lambda p, u, v: patterns.turned_wood(p, "#6b2f1c", "#b4653a", 131)  # noqa: E731
    seat_profile = np.array([[0.001, 0.0], [0.105, 0.0], [0.118, 0.008], [0.118, 0.02], [0.108, 0.026], [0.001, 0.020]])
    seat_height = 0.24
    parts = [lathe(seat_profile, 41, (0, 0, seat_height))]
    for x, y in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        foot, top = np.array([0.115 * x, 0.115 * y, 0.0]), np.array([0.075 * x, 0.075 * y, seat_height + 0.004])
        s = np.linspace(0, 1, 15)
        swell = 0.0075 + 0.0045 * np.sin(np.pi * s) ** 2 + 0.002 * (np.abs(s - 0.62) < 0.05)
        parts.append(tube(foot + np.outer(s, top - foot), swell, 10))
    parts += [rod(np.array([0.095 * x, -0.095, 0.115]), np.array([0.095 * x, 0.095, 0.115]), 0.006) for x in (-1, 1)]
    parts.append(rod(np.array([-0.095, 0.0, 0.115]), np.array([0.095, 0.0, 0.115]), 0.006))
    angle = np.linspace(-0.08, np.pi + 0.08, 33)
    hoop = np.stack([0.104 * np.cos(angle), np.zeros(33), 0.09 + 0.21 * np.sin(angle)], 1)
    hoop[:, 1] = 0.082 + 0.22 * np.maximum(hoop[:, 2], 0)
    hoop[:, 2] += seat_height - 0.06
    parts.append(tube(hoop, 0.0085, 10))
    for k in range(-3, 4):
        x = 0.024 * k
        tall = 0.09 + 0.21 * np.sqrt(max(1 - (x * 1.12 / 0.104) ** 2, 0.0))
        foot = np.array([x, 0.088, seat_height + 0.015])
        top = np.array([x * 1.12, 0.082 + 0.22 * tall, seat_height - 0.06 + tall])
        parts.append(rod(foot, top, 0.0045))
    return [
        Patch(
            placed(part, (*at, TABLE_HEIGHT), turn),
            (12 if part is not parts[0] else 40, 60),
            walnut,
            VARNISH,
            importance=3,
        )
        for part in parts
    ]


def beads() -> list[Patch]:
    """Five glazed balls."""
    spots = (
        ((-0.16, -0.86), 0.062, "#c8553d"), ((0.02, -0.98), 0.045, "#e0a63a"), ((-0.02, -0.12), 0.052, "#1f6f78"),
        ((0.93, 0.18), 0.070, "#22303c"), ((-0.96, 0.16), 0.058, "#e5b8a0"),
    )  # fmt: skip
    return [
        Patch(
            sphere((*at, TABLE_HEIGHT + radius), radius, 21, 41),
            (40, 80),
            plain(code, 0.35, 40.0),
            CERAMIC,
            importance=3,
        )
        for at, radius, code in spots
    ]
