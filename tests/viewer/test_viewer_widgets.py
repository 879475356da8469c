"""Every control of the page, used in headless Chromium; pictures against our own drawing."""

import dataclasses
import io
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.chromium import running
from support.patience import bound, wait_for
from support.tiny import tiny_cloud, write_scene
from support.viser_page import choose, enter, served, shows, tick, unfold

from splat import formats
from splat.cloud import GaussianCloud
from splat.scene import load_scene
from splat.viewer import Edits, Look, filters, first_view, picture, render_modes
from splat.viewer.page import turned
from splat.viewpoints import paths as camera_paths

pytest.importorskip("viser", reason="the viewer's extra is not installed")
TOKEN = "a secret & more"


def coloured() -> GaussianCloud:
    """Blobs that are no balls, of many opacities, whose colour depends on the direction."""
    cloud, made = tiny_cloud(), torch.Generator().manual_seed(2)
    return cloud.replace(
        log_scales=cloud.log_scales + 0.5 * torch.randn(60, 3, generator=made),
        quats=torch.randn(60, 4, generator=made),
        logit_opacities=torch.randn(60, generator=made) * 2,
        sh=torch.cat([cloud.sh, 0.7 * torch.randn(60, 3, 3, generator=made)], 1),
    )


def test_every_control(tmp_path: Path) -> None:
    pytest.importorskip("av")
    scene_folder, folder = write_scene(tmp_path / "scene"), tmp_path / "served"
    folder.mkdir()
    cloud = coloured()
    formats.write(cloud, folder / "a.ply")
    formats.write(cloud, folder / "b.spz")
    second = formats.read(folder / "b.spz")
    (tmp_path / "chromium").mkdir()
    command = ("view", folder / "a.ply", folder / "b.spz", "--scene", scene_folder, "--port", "18100", "--token", TOKEN)
    with served(*command) as (url, _), running(tmp_path / "chromium") as open_tab:
        address = url.split("/?")[0]
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(address)
        tab = open_tab(url)
        wait_for(lambda: tab.evaluate("innerWidth") and "Save cloud" in tab.text)
        tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tmp_path))
        width, height = tab.evaluate("[innerWidth, innerHeight]")
        scene = load_scene(scene_folder)
        view = first_view(cloud, scene, None)
        camera, look = view.camera(width, height), Look()

        # Clouds: both, then one.
        shows(tab, picture(GaussianCloud.concat([cloud, second]), camera, look))
        tick(tab, "b.spz")
        shows(tab, picture(cloud, camera, look))

        # Picture.
        for mode in render_modes.MODES[1:]:
            choose(tab, "Mode", mode)
            shows(tab, picture(cloud, camera, dataclasses.replace(look, mode=mode)))
        choose(tab, "Mode", "colour")
        enter(tab, "SH degree", 0)
        shows(tab, picture(cloud, camera, Look(sh_degree=0)))
        enter(tab, "SH degree", 3)
        enter(tab, "Background", "rgb(40, 90, 160)")
        look = Look(background=(40 / 255, 90 / 255, 160 / 255))
        shows(tab, picture(cloud, camera, look))
        enter(tab, "Field of view", 80)
        wide = dataclasses.replace(view, fov=80.0).camera(width, height)
        shows(tab, picture(cloud, wide, look))
        tab.click("First view")
        shows(tab, picture(cloud, camera, look))
        tab.click("Snapshot (PNG)")
        wait_for((tmp_path / "snapshot.png").exists)
        full = np.asarray(Image.open(io.BytesIO((tmp_path / "snapshot.png").read_bytes())))
        assert max(full.shape) == 1920
        assert np.abs(full.astype(float) - picture(cloud, view.camera(*full.shape[1::-1]), look)).mean() < 1

        # Place.
        unfold(tab, "Place")
        enter(tab, "Position", 0.7)
        enter(tab, "Turn, °", 90, field=2)
        enter(tab, "Scale", 1.5)
        placed = cloud.transform(turned((0, 0, 90)), torch.tensor([0.7, 0.0, 0.0]), 1.5)
        shows(tab, picture(placed, camera, look))
        enter(tab, "Position", 0)
        enter(tab, "Turn, °", 0, field=2)
        enter(tab, "Scale", 1)
        shows(tab, picture(cloud, camera, look))

        # Filters; then what is left is saved.
        unfold(tab, "Filter and crop")
        enter(tab, "Min opacity", 0.5)
        enter(tab, "Max size, %", 80)
        scales = torch.cat([cloud.scales.amax(1), second.scales.amax(1)]).sort().values
        limit = float(scales[int(0.8 * (len(scales) - 1))])
        shows(tab, picture(filters.apply(cloud, Edits(0.5, limit)), camera, look))
        tick(tab, "Crop box")
        enter(tab, "Low corner", 0)
        wait_for(lambda: float(filters.apply(cloud, Edits(0.5, limit)).means[:, 0].min()) < 0)
        left = filters.apply(cloud, Edits(0.5, limit))
        left = left.select(left.means[:, 0] >= 0)
        shows(tab, picture(left, camera, look))
        assert f"{len(left)} Gaussians left" in tab.text
        tab.click("Save cloud")
        wait_for((folder / "edited.ply").exists)
        wait_for(lambda: len(formats.read(folder / "edited.ply")) == len(left))
        for name in ("../stolen.ply", str(tmp_path / "stolen.ply"), "edited.ply"):
            enter(tab, "Name", name)
            tab.click("Save cloud")
            wait_for(lambda: "Not saved" in tab.text)
        assert not (tmp_path / "stolen.ply").exists()
        tick(tab, "Crop box")
        enter(tab, "Min opacity", 0)
        enter(tab, "Max size, %", 100)
        shows(tab, picture(cloud, camera, look))

        # Two clouds in one picture, and their sizes.
        choose(tab, "Compare", "slider")
        halves = np.concatenate([picture(c, camera, look)[:, i] for c, i in _halves(cloud, second, width)], 1)
        shows(tab, halves)
        enter(tab, "Divide at", 0.2)
        ratio = (folder / "a.ply").stat().st_size / (folder / "b.spz").stat().st_size
        wait_for(lambda: f"{ratio:.1f} times" in tab.text)
        choose(tab, "Compare", "difference")
        pair = [picture(c, camera, look) for c in (cloud, second)]
        shows(tab, render_modes.compare(*pair, "difference", 0.5))
        choose(tab, "Compare", "off")

        # Photos.
        target = scene.views[3]
        choose(tab, "Photo", target.name)
        tab.click("Go to photo")
        there = _seen_from(target.camera, width, height)
        shows(tab, picture(cloud, there, look))
        choose(tab, "Compare", "side by side", nth=1)
        both = render_modes.compare(
            np.asarray(target.load().rgb), picture(cloud, target.camera, look), "side by side", 0.5
        )
        boxed = Image.fromarray(render_modes.letterbox(both, width / height)).resize(
            (width, height), Image.Resampling.BILINEAR
        )
        shows(tab, np.asarray(boxed), limit=12)
        choose(tab, "Compare", "off", nth=1)
        shows(tab, picture(cloud, there, look))

        # Camera path: two keys, a file for `splat render --along`, a video.
        unfold(tab, "Camera path")
        tab.click("Add key")
        wait_for(lambda: "1 key" in tab.text)
        tab.click("next")
        wait_for(lambda: tab.evaluate("[...document.querySelectorAll('input')].some(i => i.value === '04.png')"))
        tab.click("Go to photo")
        there = _seen_from(scene.views[4].camera, width, height)
        shows(tab, picture(cloud, there, look), limit=8)  # the first key's frustum is in it
        tab.click("Add key")
        wait_for(lambda: "2 keys" in tab.text)
        enter(tab, "Seconds", 0.4)
        choose(tab, "Size", "640×360")
        tab.click("Save path")
        wait_for((folder / "flight.json").exists)
        cameras, fps = camera_paths.read(folder / "flight.json")
        assert (len(cameras), fps) == (12, 30.0)
        assert torch.allclose(cameras[0].position, scene.views[3].camera.position.double(), atol=1e-3)
        assert torch.allclose(cameras[-1].position, scene.views[4].camera.position.double(), atol=1e-3)
        tab.click("Save video")
        wait_for((folder / "flight.mp4").exists)
        _check_video(folder / "flight.mp4", [picture(cloud, frame, look) for frame in cameras])
        tab.click("First view")
        enter(tab, "Seconds", 1)
        tab.click("Play")
        shows(tab, picture(cloud, there, look), limit=8)  # where the path ends
        time.sleep(bound(1))
        tab.click("Clear path")
        wait_for(lambda: "0 keys" in tab.text)

        # The browser's own renderer: the same scene, without view dependence.
        tab.click("First view")
        enter(tab, "SH degree", 0)
        choose(tab, "Renderer", "browser")
        shows(tab, picture(cloud, camera, Look(sh_degree=0, background=look.background)), limit=8)
        choose(tab, "Renderer", "server")
        shows(tab, picture(cloud, camera, Look(sh_degree=0, background=look.background)))


def _halves(a: GaussianCloud, b: GaussianCloud, width: int):
    column = round(0.5 * width)
    return (a, slice(0, column)), (b, slice(column, width))


def _seen_from(camera, width: int, height: int):
    focal = camera.fy * height / camera.height
    return camera.replace(fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)


def _check_video(file: Path, expected: list[np.ndarray]) -> None:
    import av

    with av.open(str(file)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == len(expected)
    for frame, wanted in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(float) - wanted).mean() < 5
