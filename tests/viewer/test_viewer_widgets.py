"""The controls of each panel, used in headless Chromium; pictures against our own rendering."""

import dataclasses
import io
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.chromium import Tab, running
from support.patience import bound, wait_for
from support.tiny import tiny_cloud, write_scene
from support.viser_page import choose, enter, served, shows, tick, unfold

from splat import formats
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.scene import Scene, load_scene
from splat.viewer import Edits, FirstView, Look, filters, first_view, picture, render_modes
from splat.viewer.page import rotation_xyz
from splat.viewpoints import paths as camera_paths

pytest.importorskip("viser", reason="the viewer's extra is not installed")
TOKEN = "a secret & more"


@dataclass(frozen=True)
class Served:
    """A page with two clouds, a.ply (``cloud``) and b.spz (``second``), and the photos of ``scene``.

    Attributes:
        folder: what is served; ``downloads``: where the browser saves.
        view, camera: with which the page begins, of the browser's size.
    """

    tab: Tab
    address: str
    folder: Path
    downloads: Path
    cloud: GaussianCloud
    second: GaussianCloud
    scene: Scene
    view: FirstView
    camera: Camera

    @property
    def size(self) -> tuple[int, int]:
        return self.camera.width, self.camera.height

    def shows(self, look: Look = Look(), **other: object) -> None:  # noqa: B008
        """Wait until the page shows the first cloud from the first camera, or what ``other`` says."""
        limit = other.pop("limit", 4.0)
        shows(self.tab, picture(other.get("cloud", self.cloud), other.get("camera", self.camera), look), limit)

    def seen_from(self, camera: Camera) -> Camera:
        """``camera`` as the browser takes it over: its vertical field of view, the window's size."""
        width, height = self.size
        focal = camera.fy * height / camera.height
        return camera.replace(fx=focal, fy=focal, cx=width / 2, cy=height / 2, width=width, height=height)


def coloured() -> GaussianCloud:
    """Blobs that are no balls, of many opacities, whose colour depends on the direction."""
    cloud, made = tiny_cloud(), torch.Generator().manual_seed(2)
    return cloud.replace(
        log_scales=cloud.log_scales + 0.5 * torch.randn(60, 3, generator=made),
        quats=torch.randn(60, 4, generator=made),
        logit_opacities=torch.randn(60, generator=made) * 2,
        sh=torch.cat([cloud.sh, 0.7 * torch.randn(60, 3, 3, generator=made)], 1),
    )


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server and one tab for all panels, the second cloud switched off; each test puts back what it changes."""
    pytest.importorskip("av")
    base = tmp_path_factory.mktemp("viewer")
    scene_folder, folder = write_scene(base / "scene"), base / "served"
    folder.mkdir()
    cloud = coloured()
    formats.write(cloud, folder / "a.ply")
    formats.write(cloud, folder / "b.spz")
    second = formats.read(folder / "b.spz")
    (base / "chromium").mkdir()
    command = ("view", folder / "a.ply", folder / "b.spz", "--scene", scene_folder, "--port", "18100", "--token", TOKEN)
    with served(*command) as (url, _), running(base / "chromium") as open_tab:
        tab = open_tab(url)
        wait_for(lambda: tab.evaluate("innerWidth") and "Save cloud" in tab.text)
        tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(base))
        scene = load_scene(scene_folder)
        view = first_view(cloud, scene, None)
        camera = view.camera(*tab.evaluate("[innerWidth, innerHeight]"))
        shows(tab, picture(GaussianCloud.concat([cloud, second]), camera, Look()))
        tick(tab, "b.spz")
        for folded in ("Transform", "Filter and crop", "Camera path"):
            unfold(tab, folded)
        yield Served(tab, url.split("/?")[0], folder, base, cloud, second, scene, view, camera)


def test_the_token_is_asked_for(page: Served) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(page.address)


def test_clouds(page: Served) -> None:
    page.shows()
    tick(page.tab, "b.spz")
    page.shows(cloud=GaussianCloud.concat([page.cloud, page.second]))
    tick(page.tab, "b.spz")
    page.shows()


def test_render_mode_sh_degree_background_and_field_of_view(page: Served) -> None:
    tab = page.tab
    for mode in render_modes.MODES[1:]:
        choose(tab, "Mode", mode)
        page.shows(Look(mode=mode))
    choose(tab, "Mode", "colour")
    enter(tab, "SH degree", 0)
    page.shows(Look(sh_degree=0))
    enter(tab, "SH degree", 3)
    enter(tab, "Background", "rgb(40, 90, 160)")
    page.shows(Look(background=(40 / 255, 90 / 255, 160 / 255)))
    enter(tab, "Background", "rgb(0, 0, 0)")
    enter(tab, "Field of view", 80)
    page.shows(camera=dataclasses.replace(page.view, fov=80.0).camera(*page.size))
    tab.click("First view")
    page.shows()


def test_snapshot(page: Served) -> None:
    page.tab.click("Snapshot (PNG)")
    wait_for((page.downloads / "snapshot.png").exists)
    full = np.asarray(Image.open(io.BytesIO((page.downloads / "snapshot.png").read_bytes())))
    assert max(full.shape) == 1920
    expected = picture(page.cloud, page.view.camera(*full.shape[1::-1]), Look())
    assert np.abs(full.astype(float) - expected).mean() < 1


def test_transform(page: Served) -> None:
    enter(page.tab, "Position", 0.7)
    enter(page.tab, "Rotation, °", 90, field=2)
    enter(page.tab, "Scale", 1.5)
    page.shows(cloud=page.cloud.transform(rotation_xyz((0, 0, 90)), torch.tensor([0.7, 0.0, 0.0]), 1.5))
    enter(page.tab, "Position", 0)
    enter(page.tab, "Rotation, °", 0, field=2)
    enter(page.tab, "Scale", 1)
    page.shows()


def test_filters_and_saving_what_is_left(page: Served) -> None:
    tab = page.tab
    enter(tab, "Min opacity", 0.5)
    enter(tab, "Max size, %", 80)
    scales = torch.cat([page.cloud.scales.amax(1), page.second.scales.amax(1)]).sort().values
    limit = float(scales[int(0.8 * (len(scales) - 1))])
    filtered = filters.apply(page.cloud, Edits(0.5, limit))
    page.shows(cloud=filtered)
    tick(tab, "Crop box")
    enter(tab, "Low corner", 0)
    assert float(filtered.means[:, 0].min()) < 0
    left = filtered.select(filtered.means[:, 0] >= 0)
    page.shows(cloud=left)
    assert f"{len(left)} Gaussians left" in tab.text
    tab.click("Save cloud")
    wait_for((page.folder / "edited.ply").exists)
    wait_for(lambda: len(formats.read(page.folder / "edited.ply")) == len(left))
    for name in ("../stolen.ply", str(page.downloads / "stolen.ply"), "edited.ply"):
        enter(tab, "Name", name)
        tab.click("Save cloud")
        wait_for(lambda: "Not saved" in tab.text)
    assert not (page.downloads / "stolen.ply").exists()
    tick(tab, "Crop box")
    enter(tab, "Min opacity", 0)
    enter(tab, "Max size, %", 100)
    page.shows()


def test_two_clouds_in_one_picture(page: Served) -> None:
    tab, column = page.tab, round(0.5 * page.size[0])
    pair = [picture(cloud, page.camera, Look()) for cloud in (page.cloud, page.second)]
    choose(tab, "Compare", "slider")
    shows(tab, np.concatenate([pair[0][:, :column], pair[1][:, column:]], 1))
    enter(tab, "Divide at", 0.2)
    ratio = (page.folder / "a.ply").stat().st_size / (page.folder / "b.spz").stat().st_size
    wait_for(lambda: f"{ratio:.1f} times" in tab.text)
    choose(tab, "Compare", "difference")
    shows(tab, render_modes.compare(*pair, "difference", 0.5))
    choose(tab, "Compare", "off")
    page.shows()


def test_photos(page: Served) -> None:
    tab, target = page.tab, page.scene.views[3]
    choose(tab, "Photo", target.name)
    tab.click("Go to photo")
    there = page.seen_from(target.camera)
    page.shows(camera=there)
    choose(tab, "Compare", "side by side", nth=1)
    both = render_modes.compare(
        np.asarray(target.load().rgb), picture(page.cloud, target.camera, Look()), "side by side", 0.5
    )
    boxed = Image.fromarray(render_modes.letterbox(both, page.size[0] / page.size[1]))
    shows(tab, np.asarray(boxed.resize(page.size, Image.Resampling.BILINEAR)), limit=12)
    choose(tab, "Compare", "off", nth=1)
    page.shows(camera=there)
    tab.click("First view")
    page.shows()


def test_camera_path(page: Served) -> None:
    """Two keyframes, a file for `splat render --along`, a video, and playing up to the end."""
    tab, views = page.tab, page.scene.views
    choose(tab, "Photo", views[3].name)
    tab.click("Go to photo")
    page.shows(camera=page.seen_from(views[3].camera))
    tab.click("Add keyframe")
    wait_for(lambda: "1 keyframe" in tab.text)
    tab.click("next")
    wait_for(lambda: tab.evaluate("[...document.querySelectorAll('input')].some(i => i.value === '04.png')"))
    tab.click("Go to photo")
    there = page.seen_from(views[4].camera)
    page.shows(camera=there, limit=8)  # the first keyframe's frustum is in it
    tab.click("Add keyframe")
    wait_for(lambda: "2 keyframes" in tab.text)
    enter(tab, "Seconds", 0.4)
    choose(tab, "Size", "640×360")
    tab.click("Save path")
    wait_for((page.folder / "flight.json").exists)
    cameras, fps = camera_paths.read(page.folder / "flight.json")
    assert (len(cameras), fps) == (12, 30.0)
    assert torch.allclose(cameras[0].position, views[3].camera.position.double(), atol=1e-3)
    assert torch.allclose(cameras[-1].position, views[4].camera.position.double(), atol=1e-3)
    tab.click("Save video")
    wait_for((page.folder / "flight.mp4").exists)
    _check_video(page.folder / "flight.mp4", [picture(page.cloud, frame, Look()) for frame in cameras])
    tab.click("First view")
    enter(tab, "Seconds", 1)
    tab.click("Play")
    page.shows(camera=there, limit=8)  # where the path ends
    time.sleep(bound(1))
    tab.click("Clear path")
    wait_for(lambda: "0 keyframes" in tab.text)
    tab.click("First view")
    page.shows()


def test_the_browsers_own_renderer(page: Served) -> None:
    """The same scene, without view dependence."""
    enter(page.tab, "SH degree", 0)
    choose(page.tab, "Renderer", "browser")
    page.shows(Look(sh_degree=0), limit=8)
    choose(page.tab, "Renderer", "server")
    page.shows(Look(sh_degree=0))
    enter(page.tab, "SH degree", 3)
    page.shows()


def _check_video(file: Path, expected: list[np.ndarray]) -> None:
    import av

    with av.open(str(file)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == len(expected)
    for frame, wanted in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(float) - wanted).mean() < 5
