"""Line charts as inline SVG; the script of the page adds the values under the pointer."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 400, 240
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 14, 30


@dataclass(frozen=True)
class Axis:
    """How values become places: ``low``..``high`` over the length, on a logarithmic scale if ``log``."""

    low: float
    high: float
    ticks: tuple[float, ...]
    log: bool = False

    def to_fraction(self, value: float) -> float:
        """0 at ``low``, 1 at ``high``."""
        low, high, value = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)


def linear_axis(low: float, high: float, steps: Sequence[float] = (1, 2, 2.5, 5, 10), about: int = 4) -> Axis:
    """An axis with round ticks that spans at least ``low``..``high``."""
    if high <= low:
        low, high = low - 0.5 * abs(low) - 0.5, high + 0.5 * abs(high) + 0.5
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(s * power for s in steps if s * power >= rough * 0.999)
    return _stepped(low, high, step)


def time_axis(high: float) -> Axis:
    """Seconds from 0, with ticks at round seconds, minutes or hours."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)
    step = next((s for s in steps if high / s <= 5), high / 4)
    return Axis(0.0, max(high, 1e-9), tuple(step * i for i in range(int(high / step + 1e-9) + 1)))


def log_axis(low: float, high: float) -> Axis:
    """Ticks at 1, 2 and 5 times powers of ten; the axis begins and ends at one."""
    powers = range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 2)
    marks = [m * 10.0**p for p in powers for m in (1, 2, 5)]
    first = max(m for m in marks if m <= low * 1.0001)
    last = min(m for m in marks if m >= high * 0.9999 and m > first)
    return Axis(first, last, tuple(m for m in marks if first <= m <= last), log=True)


def _stepped(low: float, high: float, step: float) -> Axis:
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return Axis(first * step, last * step, tuple(i * step for i in range(first, last + 1)))


@dataclass(frozen=True)
class Curve:
    """One line: its colour class, its points (x, y), and whether they are marked."""

    points: Sequence[tuple[float, float]]
    marked: bool = False


def chart(
    title: str,
    unit: str,
    curve: Curve,
    x: Axis,
    y: Axis,
    write_x: Callable[[float], str],
    write_y: Callable[[float], str],
) -> str:
    """A `<figure>` with one curve; ``write_*`` make the labels of ticks and of the value under the pointer."""

    def at(px: float, py: float) -> tuple[float, float]:
        across = LEFT + x.to_fraction(px) * (WIDTH - LEFT - RIGHT)
        return round(across, 1), round(HEIGHT - BOTTOM - y.to_fraction(py) * (HEIGHT - TOP - BOTTOM), 1)

    places = [at(*point) for point in curve.points]
    labels = [f"{write_y(py)}{unit and ' ' + unit} · {write_x(px)}" for px, py in curve.points]
    path = "M" + "L".join(f"{px} {py}" for px, py in places)
    floor = HEIGHT - BOTTOM
    area = f"{path}L{places[-1][0]} {floor}L{places[0][0]} {floor}Z"
    grid, texts = [], []
    for tick in y.ticks:
        _, py = at(x.low, tick)
        grid.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py}" y2="{py}"/>')
        texts.append(f'<text x="{LEFT - 7}" y="{py + 3.5}" text-anchor="end">{escape(write_y(tick))}</text>')
    for tick in x.ticks:
        px, _ = at(tick, y.low)
        anchor = "end" if px > WIDTH - RIGHT - 8 else "middle"
        texts.append(f'<text x="{px}" y="{HEIGHT - 10}" text-anchor="{anchor}">{escape(write_x(tick))}</text>')
    dots = "".join(f'<circle cx="{px}" cy="{py}" r="2.6"/>' for px, py in places) if curve.marked else ""
    data = escape(json.dumps([[px, py, label] for (px, py), label in zip(places, labels, strict=True)]))
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'data-points="{data}">'
        f'<g class="grid">{"".join(grid)}</g><g class="ticks">{"".join(texts)}</g>'
        f'<path class="area" d="{area}"/><path class="line" d="{path}"/><g class="dots">{dots}</g>'
        f'<g class="cursor"><line y1="{TOP}" y2="{floor}"/><circle r="4"/></g></svg>'
    )
