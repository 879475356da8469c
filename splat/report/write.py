"""`write_report`: from a run folder to one page."""

import datetime
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

from splat import machine
from splat.errors import InputError
from splat.files import write_text
from splat.report import sections
from splat.report.pictures import pair
from splat.report.run_folder import RunFolder, ViewFiles, read_run

if TYPE_CHECKING:
    from splat.scene import Scene

MOST_PICTURED = 24  # views with pictures: about 0.3 MB each


def write_report(run_dir: str | Path, scene: "Scene | None" = None) -> Path:
    """Write ``run_dir``/report.html and return its path.

    It shows what ``metrics.json``, ``config.toml``, ``cloud.ply`` and ``renders/<view>_{photo,render}.*`` hold, as
    one file without links to anything; what is missing there is named in the page.

    Args:
        scene: the cloud is first seen as in its first held-out photo; without, from outside the middle of the cloud.

    Raises InputError when the folder does not exist, holds broken files, or cannot be written.
    """
    run_dir = Path(run_dir)
    run = read_run(run_dir)
    path = run_dir / "report.html"
    write_text(path, page(run, scene))
    return path


def page(run: RunFolder, scene: "Scene | None" = None) -> str:
    """The whole HTML document of a training run."""
    shown = pictured(run.views)
    pairs = [pair(view.photo, view.render) for view in shown]
    protocol = dict(run.metrics.get("protocol") or {})
    here = run.metrics.get("machine") or machine.describe()
    body = [
        sections.headline(run),
        cloud_view(run, scene),
        sections.viewer(shown, pairs, run),
        sections.curves(run.metrics.get("history") or []),
        sections.table(run.views, shown),
        sections.settings(run.config, here, protocol),
        sections.missing(run),
    ]
    return document("training report", scene_name(run), subtitle(run), date(run), body)


def document(kind: str, name: str, lead: str, day: str, body: Sequence[str]) -> str:
    """A page in the look of all reports.

    Args:
        kind: what it reports on, such as "training report".
        name, lead, day: heading, the line beneath, and the date.
        body: sections as HTML; empty ones are left out.
    """
    folder = Path(__file__).parent
    return Template((folder / "report.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"{name} · splat {kind}"),
        kind=escape(kind),
        name=escape(name),
        subtitle=escape(lead),
        date=escape(day),
        style=(folder / "report.css").read_text(encoding="utf-8"),
        script=(folder / "report.js").read_text(encoding="utf-8"),
        body="\n".join(part for part in body if part),
    )


def cloud_view(run: RunFolder, scene: "Scene | None") -> str:
    """The run's cloud to turn; "" where there is none, or one that cannot be read or drawn."""
    from splat import formats
    from splat.errors import BackendError
    from splat.report.embed import embed_viewer
    from splat.viewer.initial_view import first_view

    file = run.path / "cloud.ply"
    if not file.is_file():
        return ""
    try:
        cloud = formats.read(file)
        view = first_view(cloud, scene, None) if len(cloud) else None
        background = tuple(run.config.get("background") or (0.0, 0.0, 0.0))
        return embed_viewer(cloud, view, antialiased=bool(run.config.get("antialiased")), background=background)
    except (InputError, BackendError) as error:
        return (
            f'<aside class="missing"><h2>The cloud is not shown</h2><p class="quiet">{escape(str(error))}</p></aside>'
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
