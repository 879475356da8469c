"""The report of `splat compress`: where the bytes go, quality against size beside other formats, pictures."""

import base64
import datetime
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from splat import text as wording
from splat.report.charts import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, linear_axis, log_axis
from splat.report.pictures import ERROR_LIMIT, difference_map
from splat.report.sections import tile
from splat.report.write import document

COLOURS = ("var(--accent)", "var(--warm)", "#e0a63a", "#7a6cc4", "#6b8f3c")
HIGHEST = 100.0  # dB drawn; equal pictures have no finite PSNR
ARROWS = (
    '<svg viewBox="0 0 40 40" aria-hidden="true"><path d="M16 14l-6 6 6 6M24 14l6 6-6 6"/></svg>'
    '</div><input type="range" min="0" max="100" step="0.1" value="50" aria-label="Share of the first picture">'
)


@dataclass(frozen=True)
class Comparison:
    """One view: its name, pictures (H, W, 3) in [0, 1] before and after, and their PSNR in dB."""

    name: str
    before: NDArray[np.float32]
    after: NDArray[np.float32]
    psnr: float


def page(
    name: str,
    facts: Sequence[tuple[str, str, str]],
    parts: Mapping[str, int],
    curves: Mapping[str, Sequence[tuple[int, float]]],
    trials: Sequence[Mapping],
    views: Sequence[Comparison],
) -> str:
    """The whole HTML document.

    Args:
        name: heading. facts: label, value and unit of the tiles.
        parts: bytes by attribute. curves: (bytes, dB) by format.
        trials: what was tried, as `splat.compression.Compressed.trials`.
    """
    tiles = "".join(tile(*fact) for fact in facts)
    body = [f'<dl class="tiles">{tiles}</dl>', _curves(curves), _parts(parts), _views(views), _trials(trials)]
    today = datetime.date.today()
    return document("compression report", name, "quality against size", f"{today.day} {today:%B %Y}", body)


def _curves(curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    points = [(size, min(psnr, HIGHEST)) for curve in curves.values() for size, psnr in curve if size > 0]
    if not points:
        return ""
    x = log_axis(min(size for size, _ in points), max(size for size, _ in points))
    y = linear_axis(min(psnr for _, psnr in points), max(psnr for _, psnr in points))
    marks, names = [], []
    for tick in y.ticks:
        py = HEIGHT - BOTTOM - y.to_fraction(tick) * (HEIGHT - TOP - BOTTOM)
        marks.append(f'<g class="grid"><line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{py:.1f}" y2="{py:.1f}"/></g>')
        marks.append(f'<text x="{LEFT - 7}" y="{py + 3.5:.1f}" text-anchor="end">{tick:g}</text>')
    for tick in x.ticks:
        px = LEFT + x.to_fraction(tick) * (WIDTH - LEFT - RIGHT)
        anchor = "end" if px > WIDTH - RIGHT - 8 else "middle"
        marks.append(
            f'<text x="{px:.1f}" y="{HEIGHT - 10}" text-anchor="{anchor}">{" ".join(wording.size(tick))}</text>'
        )
    for colour, (title, curve) in zip(COLOURS * 9, curves.items(), strict=False):
        places = [
            (LEFT + x.to_fraction(size) * (WIDTH - LEFT - RIGHT),
             HEIGHT - BOTTOM - y.to_fraction(min(psnr, HIGHEST)) * (HEIGHT - TOP - BOTTOM), size, psnr)
            for size, psnr in sorted(curve) if size > 0
        ]  # fmt: skip
        if len(places) > 1:
            path = "L".join(f"{px:.1f} {py:.1f}" for px, py, _, _ in places)
            marks.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        for px, py, size, psnr in places:
            hint = f"{title}: {psnr:.2f} dB in {size:,} bytes"
            marks.append(
                f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.4" fill="{colour}"><title>{escape(hint)}</title></circle>'
            )
        names.append(f'<span style="color:{colour}">● {escape(title)}</span>')
    return (
        '<section id="rate"><header><h2>Quality against size</h2><p class="quiet">PSNR in dB; sizes on a logarithmic '
        'scale. Up and left is better.</p></header><div class="figures"><figure style="max-width:720px">'
        f"<figcaption>{' '.join(names)}</figcaption>"
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Quality against size">'
        f"{''.join(marks)}</svg></figure></div></section>"
    )


def _parts(parts: Mapping[str, int]) -> str:
    total = sum(parts.values())
    if not total:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{escape(name)}</th><td>{" ".join(wording.size(size))}</td>'
        f"<td>{100 * size / total:.1f} %</td>"
        f'<td class="bar"><i style="width:{100 * size / max(parts.values()):.0f}%"></i></td></tr>'
        for name, size in parts.items()
    )
    return (
        '<section id="parts"><header><h2>Where the bytes go</h2></header><div class="scroll"><table><thead><tr>'
        f"<th>Attribute</th><th>size</th><th>fraction</th><td></td></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _views(views: Sequence[Comparison]) -> str:
    stages = []
    for index, view in enumerate(views):
        shape = f"--w:{view.before.shape[1]};--h:{view.before.shape[0]}"
        error = _url((difference_map(view.before, view.after) / 255).astype(np.float32))
        stages.append(
            f'<article class="stage" data-view="{index}"><h3>{escape(view.name)}<span>{view.psnr:.2f} dB</span></h3>'
            f'<div class="pair"><div class="frame slider" style="{shape};--cut:50%">'
            f'<img src="{_url(view.after)}" alt="After">'
            f'<img class="photo" src="{_url(view.before)}" alt="Before"><b class="tag left">Before</b>'
            f'<b class="tag right">After</b><div class="handle">{ARROWS}</div><div class="difference" style="{shape}">'
            f'<figure class="frame" style="{shape}"><img src="{error}" alt="Difference map"></figure>'
            f'<p class="scale"><span>0</span><i></i><span>{round(100 * ERROR_LIMIT)} % difference</span></p>'
            "</div></div></article>"
        )
    buttons = "".join(
        f'<button type="button" data-view="{i}"><img src="{_url(view.after)}" alt="">'
        f"<span>{view.psnr:.1f}</span></button>"
        for i, view in enumerate(views)
    )
    strip = f'<div class="strip" role="group" aria-label="Views">{buttons}</div>' if len(views) > 1 else ""
    head = '<header><h2>Before and after</h2><p class="quiet">Drag to compare the input with the file.</p></header>'
    return f'<section id="views">{head}{"".join(stages)}{strip}</section>' if views else ""


def _trials(trials: Sequence[Mapping]) -> str:
    rows = "".join(
        f"<tr><th scope='row'>{trial['gaussians']:,}</th><td>{trial['sh_degree']}</td>"
        f"<td>{'–' if trial['quality'] is None else format(trial['quality'], '.1f')}</td><td>{trial['size']:,}</td>"
        f"<td>{'∞' if math.isinf(trial['psnr']) else format(trial['psnr'], '.2f')}</td></tr>"
        for trial in trials
    )
    heads = "".join(f"<th>{name}</th>" for name in ("Gaussians", "SH degree", "quality", "bytes", "PSNR / dB"))
    return (
        '<section id="trials"><header><h2>What was tried</h2></header><div class="scroll"><table><thead><tr>'
        f"{heads}</tr></thead><tbody>{rows}</tbody></table></div></section>"
    )


def _url(picture: NDArray[np.float32]) -> str:
    """A picture as a JPEG inside the page."""
    buffer = io.BytesIO()
    pixels = (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
    Image.fromarray(pixels).save(buffer, "JPEG", quality=90, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
