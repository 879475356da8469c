"""`embed_viewer`: a cloud that turns under the reader's mouse, inside a page that opens from disk without network.

The page carries the cloud as SPZ, Spark and three.js (see tools/web_viewer/), and one picture drawn by us, which stays
where a browser has no WebGL. Licences of what is carried: web/LICENSES.txt.
"""

import base64
import io
import json
from html import escape
from pathlib import Path

import numpy as np

from splat import text as wording
from splat.cloud import GaussianCloud
from splat.cloud_arrays import GaussianArrays
from splat.formats.spz import spz
from splat.viewer.filters import thin
from splat.viewer.initial_view import FirstView, first_view
from splat.viewer.render_modes import Look, picture

MOST = 300_000  # Gaussians of an embedded cloud; a page of more takes seconds to open
MOST_BANDED = 100_000  # above this number only the first SH band travels along: it is what fills the file
PICTURE = (1280, 720)  # pixels of the picture beneath
WEB = Path(__file__).parent / "web"


def embed_viewer(
    cloud: GaussianCloud,
    view: FirstView | None = None,
    *,
    antialiased: bool = False,
    background: tuple[float, float, float] = (0.0, 0.0, 0.0),
    title: str = "The cloud",
    script: bool = True,
) -> str:
    """One HTML section with ``cloud``; "" for an empty one.

    Args:
        view: where it is first seen from; by default from outside its middle.
        antialiased: how the cloud was trained.
        background: RGB from 0 to 1.
        title: its heading.
        script: carry the viewer's program (0.35 MB); a page with several clouds needs it once, in the first section.
    """
    if len(cloud) == 0:
        return ""
    view = view or first_view(cloud, None, None)
    look = Look(background=background, antialiased=antialiased)
    shown = thin(cloud, MOST).to("cpu")
    if len(shown) > MOST_BANDED:
        shown = shown.with_sh_degree(min(1, shown.sh_degree))
    packed = spz.encode(
        GaussianArrays.of(shown), Path("cloud.spz"), version=spz.DEFAULT_VERSION, antialiased=antialiased, frame="RDF",
        reorder=True,
    )  # fmt: skip
    settings = {
        "position": view.position.tolist(), "target": view.target.tolist(), "up": view.up.tolist(), "fov": view.fov,
        "background": list(background), "antialiased": antialiased,
    }  # fmt: skip
    program = _data((WEB / "viewer.js.gz").read_bytes(), "view-program") if script else ""
    boot = f"<script>\n{(WEB / 'boot.js').read_text(encoding='utf-8')}</script>" if script else ""
    return (
        f'<section class="view3d" data-view3d="{escape(json.dumps(settings))}">'
        f'<header><h2>{escape(title)}</h2><p class="quiet">{escape(_caption(cloud, shown, len(packed)))}</p></header>'
        f'<div class="stage3d"><img src="{_poster(cloud, view, look)}" alt="The cloud from its first view">'
        f"<canvas></canvas></div>{_data(packed, 'view-cloud')}</section>{program}{boot}"
    )


def _caption(cloud: GaussianCloud, shown: GaussianCloud, nbytes: int) -> str:
    number, unit = wording.size(nbytes)
    words = f"{wording.count(len(shown))} Gaussians, {number} {unit} in this page"
    if len(shown) < len(cloud):
        words = f"{wording.count(len(shown))} of {wording.count(len(cloud))} Gaussians, {number} {unit} in this page"
    return f"Drag to turn, right-drag to move, scroll to come nearer, double-click to return. {words}."


def _data(content: bytes, kind: str) -> str:
    """Bytes as a block that browsers keep and do not run."""
    return f'<script type="application/octet-stream" class="{kind}">{base64.b64encode(content).decode()}</script>'


def _poster(cloud: GaussianCloud, view: FirstView, look: Look) -> str:
    from PIL import Image

    data = io.BytesIO()
    drawn: np.ndarray = picture(cloud, view.camera(*PICTURE), look)
    Image.fromarray(drawn).save(data, "JPEG", quality=88)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
