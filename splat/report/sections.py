"""The parts of the page, each a function from data to HTML."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from splat import text as wording
from splat.report import charts
from splat.report.charts import Axis, Curve
from splat.report.pictures import ERROR_LIMIT, Pair
from splat.report.run_folder import RunFolder, ViewFiles


def tile(label: str, value: str, unit: str = "", note: str = "") -> str:
    """One headline number."""
    unit = f"<small>{escape(unit)}</small>" if unit else ""
    return f'<div class="tile"><dt>{escape(label)}</dt><dd>{escape(value)}{unit}</dd><p>{escape(note)}</p></div>'


def headline(run: RunFolder) -> str:
    """PSNR, SSIM, LPIPS, Gaussians, file size, time, memory: those that are known."""
    m = run.metrics
    views = f"{len(run.views)} held-out view{'s' * (len(run.views) != 1)}"
    tiles = []
    if m.get("psnr") is not None:
        tiles.append(tile("PSNR", wording.score(m["psnr"], 2), "dB", f"mean of {views}"))
    if m.get("ssim") is not None:
        tiles.append(tile("SSIM", wording.score(m["ssim"], 4), "", "1 is identical"))
    if m.get("lpips") is not None:
        tiles.append(tile("LPIPS", wording.score(m["lpips"], 4), "", "0 is identical"))
    if m.get("gaussians") is not None:
        tiles.append(tile("Gaussians", wording.count(m["gaussians"]), "", "in the final cloud"))
    if run.cloud_bytes is not None:
        tiles.append(tile("Size", *wording.size(run.cloud_bytes), "cloud.ply, uncompressed"))
    if m.get("seconds") is not None:
        steps = f"{wording.count(m['steps'])} steps" if m.get("steps") is not None else ""
        tiles.append(tile("Training time", wording.duration(m["seconds"]), "", steps))
    if m.get("peak_memory_bytes") is not None:
        tiles.append(tile("Peak memory", *wording.size(m["peak_memory_bytes"]), "of the whole process"))
    return f'<dl class="tiles">{"".join(tiles)}</dl>' if tiles else ""


def missing(run: RunFolder) -> str:
    """What this report had to do without."""
    if not run.missing:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in run.missing)
    return f'<aside class="missing"><h2>Not in this report</h2><ul>{items}</ul></aside>'


# ---- curves ----


def curves(history: Sequence[dict[str, Any]]) -> str:
    """PSNR, loss and count over steps and over time; the page shows one of the two."""
    figures = [
        figure("PSNR on held-out views", "dB", history, "psnr", lambda v: f"{v:.4g}", marked=True),
        figure("Training loss", "", history, "loss", lambda v: f"{v:.3g}", log=True),
        figure("Gaussians", "", history, "gaussians", wording.short),
    ]
    figures = [f for f in figures if f]
    if not figures:
        return ""
    switch = (
        '<div class="switch" role="group" aria-label="Horizontal axis">'
        '<button type="button" data-axis="steps" aria-pressed="true">Steps</button>'
        '<button type="button" data-axis="seconds" aria-pressed="false">Time</button></div>'
    )
    return (
        f'<section id="curves" data-axis="steps"><header><h2>How it learned</h2>{switch}</header>'
        f'<div class="figures">{"".join(figures)}</div></section>'
    )


def figure(
    title: str,
    unit: str,
    history: Sequence[dict[str, Any]],
    key: str,
    write: Any,
    log: bool = False,
    marked: bool = False,
) -> str:
    """One quantity, once over steps and once over seconds; empty where fewer than two values are known."""
    entries = [e for e in history if e.get(key) is not None and "step" in e and "seconds" in e]
    entries = [e for e in entries if math.isfinite(e[key]) and (e[key] > 0 or not log)]
    if len(entries) < 2:
        return ""
    values = [float(e[key]) for e in entries]
    low, high = min(values), max(values)
    y = charts.log_axis(low, high) if log else charts.linear_axis(0.0 if key == "gaussians" else low, high)
    svgs = []
    for axis in ("step", "seconds"):
        last = float(max(e[axis] for e in entries))
        x = charts.time_axis(last) if axis == "seconds" else step_axis(last)
        points = [(float(e[axis]), v) for e, v in zip(entries, values, strict=True)]
        write_x = wording.clock if axis == "seconds" else wording.short
        svg = charts.chart(f"{title} over {axis}", unit, Curve(points, marked), x, y, write_x, write)
        svgs.append(f'<div class="over-{"steps" if axis == "step" else "seconds"}">{svg}</div>')
    final = f"{write(values[-1])}{unit and ' ' + unit}"
    return f"<figure><figcaption>{escape(title)}<output>{escape(final)}</output></figcaption>{''.join(svgs)}</figure>"


def step_axis(last: float) -> Axis:
    """Steps from 0 to exactly the last one, ticks at round numbers."""
    axis = charts.linear_axis(0.0, max(last, 1.0), about=5)
    return Axis(0.0, max(last, 1.0), tuple(t for t in axis.ticks if t <= last * 1.0001))


# ---- views ----


def viewer(views: Sequence[ViewFiles], pairs: Sequence[Pair], run: RunFolder) -> str:
    """Photo against render with a slider, and the map of their difference; one view at a time, chosen below."""
    if not pairs:
        return ""
    places = ranks(run.views)
    pictured = list(enumerate(zip(views, pairs, strict=True)))
    stages = "".join(stage(i, view, pair, places.get(view.name, "")) for i, (view, pair) in pictured)
    left_out = len(run.views) - len(pairs)
    buttons = "".join(
        f'<button type="button" data-view="{i}" title="{escape(view.name)}">'
        f'<img src="{pair.thumbnail}" alt=""><span>{wording.score(view.psnr, 1)}</span></button>'
        for i, (view, pair) in pictured
    )
    note = f'<p class="quiet">{left_out} more without pictures here: see the table.</p>' if left_out else ""
    strip = f'<div class="strip" role="group" aria-label="Held-out views">{buttons}</div>' if len(pairs) > 1 else ""
    return (
        '<section id="views"><header><h2>Views it has never seen</h2>'
        '<p class="quiet">Drag to compare the photo with the render.</p></header>'
        f"{stages}{strip}{note}</section>"
    )


def stage(index: int, view: ViewFiles, pair: Pair, rank: str) -> str:
    """One view at full size."""
    shape = f"--w:{pair.width};--h:{pair.height}"
    difference = (
        f'<figure class="frame" style="{shape}"><img src="{pair.difference}" alt="Difference map"></figure>'
        f'<p class="scale"><span>0</span><i></i><span>{round(100 * ERROR_LIMIT)} % difference</span></p>'
        if pair.difference
        else '<p class="quiet">Photo and render have different sizes, so there is no difference map.</p>'
    )
    scores = {
        "PSNR": view.psnr is not None and f"{wording.score(view.psnr, 2)} dB",
        "SSIM": view.ssim is not None and wording.score(view.ssim, 4),
        "LPIPS": view.lpips is not None and wording.score(view.lpips, 4),
        "Rank": rank,
    }
    rows = "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in scores.items() if v)
    return (
        f'<article class="stage" data-view="{index}"><h3>{escape(view.name)}</h3>'
        f'<div class="pair"><div class="frame slider" style="{shape};--cut:50%">'
        f'<img src="{pair.render}" alt="Render of {escape(view.name)}">'
        f'<img class="photo" src="{pair.photo}" alt="Photo {escape(view.name)}">'
        '<b class="tag left">Photo</b><b class="tag right">Render</b><div class="handle">'
        '<svg viewBox="0 0 40 40" aria-hidden="true"><path d="M16 14l-6 6 6 6M24 14l6 6-6 6"/></svg></div>'
        '<input type="range" min="0" max="100" step="0.1" value="50" aria-label="Share of the photo that is shown">'
        f'</div><div class="difference" style="{shape}">{difference}<dl class="facts">{rows}</dl></div></div></article>'
    )


def ranks(views: Sequence[ViewFiles]) -> dict[str, str]:
    """Each view's place by PSNR, in words."""
    ranked = sorted((v for v in views if v.psnr is not None), key=lambda v: -v.psnr)
    last = len(ranked) - 1
    words = {0: "best of", last: "worst of"} if last > 0 else {}
    return {view.name: f"{words.get(i, f'{i + 1} of')} {len(ranked)}" for i, view in enumerate(ranked)}


def table(views: Sequence[ViewFiles], shown: Sequence[ViewFiles]) -> str:
    """Scores of every view; a click on a heading sorts, a click on a row shows the view."""
    if not views:
        return ""
    columns = [("psnr", "PSNR / dB", 2)] + [(k, k.upper(), 4) for k in ("ssim", "lpips")]
    columns = [c for c in columns if any(getattr(view, c[0]) is not None for view in views)]
    if not columns:
        return ""
    known = [view.psnr for view in views if view.psnr is not None and math.isfinite(view.psnr)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    rows = []
    for view in views:
        target = f' data-view="{shown.index(view)}" tabindex="0"' if view in shown else ""
        cells = "".join(
            f"<td data-value={getattr(view, k) or 0:.6f}>{wording.score(getattr(view, k), d)}</td>"
            for k, _, d in columns
        )
        width = 100 if high <= low or view.psnr is None else 12 + 88 * (min(view.psnr, high) - low) / (high - low)
        bar = f'<td class="bar"><i style="width:{width if known else 0:.0f}%"></i></td>'
        rows.append(f'<tr{target}><th scope="row">{escape(view.name)}</th>{cells}{bar}</tr>')
    heads = "".join(f'<th scope="col"><button type="button">{label}</button></th>' for _, label, _ in columns)
    return (
        '<section id="table"><header><h2>Every held-out view</h2></header><div class="scroll"><table>'
        f'<thead><tr><th scope="col"><button type="button">View</button></th>{heads}<td></td></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


# ---- facts ----

ACRONYMS = {
    "mcmc": "MCMC",
    "adc": "ADC",
    "dc": "DC",
    "psnr": "PSNR",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "sh": "SH",
    "lr": "learning rate",
}


def facts(title: str, values: dict[str, Any]) -> str:
    """A card of names and values."""
    rows = "".join(f"<div><dt>{escape(heading(k))}</dt><dd>{escape(plain(v))}</dd></div>" for k, v in values.items())
    return f'<div class="card"><h3>{escape(title)}</h3><dl class="facts">{rows}</dl></div>' if rows else ""


def settings(config: dict[str, Any], machine: dict[str, str], protocol: dict[str, Any]) -> str:
    """Machine, protocol and configuration."""
    top = {k: v for k, v in config.items() if not isinstance(v, dict)}
    groups = [facts("General", top)] + [facts(heading(k), v) for k, v in config.items() if isinstance(v, dict)]
    here = (
        '<section id="facts"><header><h2>Where and how</h2></header>'
        f'<div class="cards">{facts("Machine", machine)}{facts("Protocol", protocol)}</div></section>'
    )
    if not any(groups):
        return here
    return (
        f'{here}<section id="config"><details open><summary><h2>Configuration</h2></summary>'
        f'<div class="cards">{"".join(groups)}</div></details></section>'
    )


def heading(key: str) -> str:
    """'sh_degree' → 'SH degree'; words that are not all lower case stay as they are."""
    words = [ACRONYMS.get(word, word) for word in key.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:] if "_" in key or key.islower() and key != "splat" else text


def plain(value: Any) -> str:
    """A setting without programmer's punctuation."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return wording.count(value) if abs(value) >= 10000 else str(value)
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, dict):
        return ", ".join(f"{k.replace('_', ' ')} {plain(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        whole = len(value) == 2 and all(isinstance(v, int) for v in value)
        return (" × " if whole else ", ").join(plain(v) for v in value)
    return str(value)
