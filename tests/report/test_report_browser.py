"""The view inside a report, opened from disk in headless Chromium, against our own drawing of the same cloud."""

import base64
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.chromium import running
from support.patience import wait_for

from splat.cloud import GaussianCloud
from splat.report.embed import WEB, embed_viewer
from splat.viewer import Look, first_view, picture


def blobs(n: int = 300) -> GaussianCloud:
    """Flat and long Gaussians of many colours, some see-through, with view-dependent colour."""
    made = torch.Generator().manual_seed(5)
    return GaussianCloud(
        torch.randn(n, 3, generator=made) * torch.tensor([1.2, 0.7, 0.9]),
        torch.randn(n, 3, generator=made) * 0.5 - 1.7,
        torch.randn(n, 4, generator=made),
        torch.randn(n, generator=made) * 2 + 1,
        torch.cat([torch.randn(n, 1, 3, generator=made), torch.randn(n, 8, 3, generator=made) * 0.2], 1),
    )


def test_the_programs_bytes_are_those_that_were_built() -> None:
    expected, name = (WEB / "SHA256SUM").read_text().split()
    assert hashlib.sha256((WEB / name).read_bytes()).hexdigest() == expected
    for word in ("spark", "three", "fflate", "MIT License"):
        assert word in (WEB / "LICENSES.txt").read_text()


@pytest.mark.parametrize("antialiased", [False, True])
def test_view_from_disk_shows_what_we_draw(tmp_path: Path, antialiased: bool) -> None:
    cloud, background = blobs(), (0.2, 0.3, 0.4)
    page = embed_viewer(cloud, antialiased=antialiased, background=background, title="A <b> title")
    assert "http://" not in page.replace("http://www.w3.org", "") and "A &lt;b&gt; title" in page
    style = "<style>body { margin: 0 } .stage3d { width: 640px; height: 360px } canvas { width: 100%; height: 100% }"
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><meta charset=utf-8>{style} img {{ display: none }}</style>{page}")
    with running(tmp_path) as open_tab:
        tab = open_tab(file.as_uri())
        wait_for(lambda: tab.evaluate("!!document.querySelector('.view3d.live')"))
        shape = tab.evaluate("(c => [c.clientWidth, c.clientHeight])(document.querySelector('canvas'))")
        expected = picture(
            cloud, first_view(cloud, None, None).camera(*shape), Look("colour", 3, background, antialiased)
        )

        def near() -> bool:
            url = tab.evaluate("document.querySelector('canvas').toDataURL()")
            shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"))
            if folder := os.environ.get("VIEWER_SHOTS"):
                Image.fromarray(shown).save(Path(folder) / "embedded.png")
                Image.fromarray(expected).save(Path(folder) / "embedded_expected.png")
            if shown.shape != expected.shape:
                return False
            error = np.abs(shown.astype(float) - expected)
            print("mean difference", error.mean())
            return error.mean() < 3.0

        assert np.abs(expected.astype(float) - np.array(background) * 255).mean() > 10
        wait_for(near)


def test_empty_cloud_and_second_section() -> None:
    assert embed_viewer(GaussianCloud.empty()) == ""
    page = embed_viewer(blobs(20), script=False)
    assert "view-program" not in page and "view-cloud" in page
