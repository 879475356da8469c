"""`write_report`: from a run folder to one page."""

import datetime
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from splat.files import write_text
from splat.report import machine, sections
from splat.report.pictures import pair
from splat.report.run_folder import RunFolder, ViewFiles, read_run

MOST_PICTURED = 24  # views with pictures: about 0.3 MB each


def write_report(run_dir: str | Path) -> Path:
    """Write ``run_dir``/report.html and return its path.

    It shows what ``metrics.json``, ``config.toml``, ``cloud.ply`` and ``renders/<view>_{photo,render}.*`` hold, as
    one file without links to anything; what is missing there is named in the page.

    Raises InputError when the folder does not exist, holds broken files, or cannot be written.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    path = run_dir / "report.html"
    write_text(path, page(run))
    return path


def page(run: RunFolder) -> str:
    """The whole HTML document."""
    shown = pictured(run.views)
    pairs = [pair(view.photo, view.render) for view in shown]
    protocol = dict(run.metrics.get("protocol") or {})
    here = run.metrics.get("machine") or machine.describe()
    name = scene_name(run)
    body = [
        sections.headline(run),
        sections.viewer(shown, pairs, run),
        sections.curves(run.metrics.get("history") or []),
        sections.table(run.views, shown),
        sections.settings(run.config, here, protocol),
        sections.missing(run),
    ]
    folder = Path(__file__).parent
    return Template((folder / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{name} · splat report"),
        name=escape(name),
        subtitle=escape(subtitle(run)),
        date=date(run),
        style=(folder / "report.css").read_text(encoding="utf-8"),
        script=(folder / "report.js").read_text(encoding="utf-8"),
        body="\n".join(part for part in body if part),
    )


def pictured(views: Sequence[ViewFiles]) -> list[ViewFiles]:
    """The views shown with pictures: all, or an even choice that keeps the first, the best and the worst."""
    able = [view for view in views if view.photo is not None and view.render is not None]
    if len(able) <= MOST_PICTURED:
        return able
    ranked = sorted((view for view in able if view.psnr is not None), key=lambda view: view.psnr)
    chosen = {view.name for view in (*ranked[:1], *ranked[-1:])}
    even = [able[i * len(able) // MOST_PICTURED] for i in range(MOST_PICTURED)]
    for view in even:
        if len(chosen) < MOST_PICTURED:
            chosen.add(view.name)
    return [view for view in able if view.name in chosen]


def scene_name(run: RunFolder) -> str:
    """The scene's name, or the folder's."""
    name = (run.metrics.get("protocol") or {}).get("scene")
    return str(name or run.path.resolve().name)


def subtitle(run: RunFolder) -> str:
    """How many photos it was trained on, and by which method."""
    protocol = run.metrics.get("protocol") or {}
    photos, words = protocol.get("photos") or {}, []
    if photos.get("training"):
        words.append(f"{photos['training']} photos for training, {photos.get('held_out', 0)} held out")
    if protocol.get("strategy"):
        words.append(str(protocol["strategy"]).upper())
    if protocol.get("backend"):
        words.append(f"{protocol['backend']} backend")
    return " · ".join(words)


def date(run: RunFolder) -> str:
    """When the run ended: the day its metrics, or its folder, were written."""
    metrics = run.path / "metrics.json"
    day = datetime.date.fromtimestamp((metrics if metrics.exists() else run.path).stat().st_mtime)
    return f"{day.day} {day:%B %Y}"
