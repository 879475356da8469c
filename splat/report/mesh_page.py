"""A page about a mesh: its shape and its colours beside photos that no training saw, and what it is made of."""

import datetime
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from splat import machine
from splat.camera import Camera
from splat.files import write_text
from splat.report.pictures import data_url, difference_map
from splat.report.sections import tile
from splat.report.write import document
from splat.scene.scene import Scene
from splat.surface.mesh.draw import coloured, draw, shaded
from splat.surface.pipeline import MeshResult

PICTURED = 6  # views
WIDTH = 640  # pixels
STYLE = """
.row { display: grid; grid-template-columns: repeat(auto-fit, minmax(240px, 1fr)); gap: 12px; margin-top: 16px; }
.row figure { background: var(--card); border: 1px solid var(--line); border-radius: var(--radius); padding: 8px; }
.row img { width: 100%; display: block; border-radius: 6px; }
.row figcaption { font-size: 12px; color: var(--quiet); padding: 6px 4px 0; }
"""


def write_mesh_page(
    path: Path,
    result: MeshResult,
    scene: Scene | None,
    facts: dict[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Write the page on ``result`` to ``path``: held-out views of ``scene``, or cameras the mesh was made from.

    Args:
        facts: what `splat mesh` says about the mesh.
    """
    rows = []
    views = _views(result, scene)
    for number, (name, camera, photo) in enumerate(views):
        rows.append(_row(name, camera, photo, result))
        progress(number + 1, len(views))
    today = datetime.date.today()
    body = [
        f"<style>{STYLE}</style>{_tiles(facts)}",
        f"<section><header><h2>Beside the photos</h2></header>{''.join(rows)}</section>",
        _machine(facts),
    ]
    lead = f"{facts['method']} depth from {facts['views']} views"
    write_text(path, document("mesh", Path(facts["out"]).name, lead, f"{today.day} {today:%B %Y}", body))


def _views(result: MeshResult, scene: Scene | None) -> list[tuple[str, Camera, np.ndarray | None]]:
    """Names, cameras of pictures no wider than `WIDTH`, and photos of that size."""
    if scene is None:
        cameras = result.maps.cameras
        chosen = [(f"camera {i}", cameras[i], None) for i in range(0, len(cameras), max(1, len(cameras) // PICTURED))]
    else:
        views = scene.test_views or scene.views
        chosen = [(view.name, view.camera, view) for view in views[:: max(1, len(views) // PICTURED)]]
    pictured = []
    for name, camera, view in chosen[:PICTURED]:
        factor = min(1.0, WIDTH / camera.width)
        size = (max(1, round(camera.width * factor)), max(1, round(camera.height * factor)))
        photo = None
        if view is not None:
            photo = np.asarray(Image.fromarray(view.load().rgb.numpy()).resize(size, Image.Resampling.BOX))
        pictured.append((name, camera.resized(*size), photo))
    return pictured


def _row(name: str, camera: Camera, photo: np.ndarray | None, result: MeshResult) -> str:
    drawn = draw(result.mesh, camera)
    colours = coloured(result.mesh, camera, drawn)
    pictures = [("shape", shaded(result.mesh, camera, drawn)), ("colours", colours)]
    if photo is not None:
        error = difference_map(photo.astype(np.float32) / 255, colours.astype(np.float32) / 255)
        error[drawn.face < 0] = 128
        pictures = [(name, photo), *pictures, ("difference of colours; grey where there is no mesh", error)]
    figures = "".join(
        f'<figure><img alt="{escape(text)}" src="{data_url(Image.fromarray(each), 85)}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
        for text, each in pictures
    )
    return f'<div class="row">{figures}</div>'


def _tiles(facts: dict[str, Any]) -> str:
    tiles = [
        tile("Faces", f"{facts['faces']:,}", "", f"{facts['vertices']:,} vertices"),
        tile("Voxel", f"{facts['voxel']:.3g}", "", "world units, in focus"),
        tile("Closed", "yes" if facts["watertight"] else "no", "", "open where no view sees"),
        tile("Pieces dropped", f"{facts['pieces_dropped']:,}", "", "too small to be believed"),
        tile("Time", f"{facts['seconds']:.0f}", "s", ", ".join(f"{k} {v:.0f}" for k, v in facts["stages"].items())),
    ]
    return f'<dl class="tiles">{"".join(tiles)}</dl>'


def _machine(facts: dict[str, Any]) -> str:
    rows = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in machine.describe().items()
    )
    notes = "".join(f"<p>{escape(note)}</p>" for note in facts["notes"])
    return f'<section><header><h2>Where</h2></header>{notes}<dl class="facts card">{rows}</dl></section>'
