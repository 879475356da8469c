"""Every control of the page, used in headless Chromium, a test a panel; pictures against our own drawing."""

import dataclasses
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from support.chromium import running
from support.patience import wait_for
from support.tiny import tiny_cloud, write_scene
from support.viser_page import Controls, served, unfold

from splat import formats
from splat.cloud import GaussianCloud
from splat.scene import load_scene
from splat.viewer import Edits, Look, filters, first_view, picture, render_modes
from splat.viewer.page import rotation_xyz
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


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    """One server with two clouds and a scene, and one browser, for all tests of this file."""
    root = tmp_path_factory.mktemp("page")
    scene_folder, folder, profile = write_scene(root / "scene"), root / "served", root / "chromium"
    folder.mkdir()
    profile.mkdir()
    cloud = coloured()
    formats.write(cloud, folder / "a.ply")
    formats.write(cloud, folder / "b.spz")
    command = ("view", folder / "a.ply", folder / "b.spz", "--scene", scene_folder, "--port", "18100", "--token", TOKEN)
    with served(*command) as (url, _), running(profile) as open_tab:
        tab = open_tab(url)
        wait_for(lambda: tab.evaluate("innerWidth") and "Save cloud" in tab.text, what="the page")
        tab.call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(root))
        width, height = tab.evaluate("[innerWidth, innerHeight]")
        scene = load_scene(scene_folder)
        view = first_view(cloud, scene, None)
        yield SimpleNamespace(
            tab=tab, url=url, root=root, folder=folder, width=width, height=height, cloud=cloud, scene=scene, view=view,
            second=formats.read(folder / "b.spz"), camera=view.camera(width, height), look=Look(),
        )  # fmt: skip


@pytest.fixture
def page(shared: SimpleNamespace) -> Iterator[SimpleNamespace]:
    """The page as it is opened, only the first cloud shown; afterwards every control is put back."""
    tab = shared.tab
    tab.evaluate("window.before = true")
    tab.call("Page.reload")
    wait_for(
        lambda: not tab.evaluate("window.before") and tab.evaluate("innerWidth") and "Save cloud" in tab.text,
        what="the page, loaded again",
    )
    controls = Controls(tab)
    try:
        controls.tick("b.spz", False)
        yield SimpleNamespace(**vars(shared), controls=controls)
    finally:
        controls.restore()


def test_the_token_is_asked_for(shared) -> None:
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(shared.url.split("/?")[0])


def test_clouds_are_shown_together_and_alone(page) -> None:
    page.controls.shows(picture(page.cloud, page.camera, page.look))
    page.controls.tick("b.spz", True)
    page.controls.shows(picture(GaussianCloud.concat([page.cloud, page.second]), page.camera, page.look))


def test_render_modes(page) -> None:
    for mode in render_modes.MODES[1:]:
        page.controls.choose("Mode", mode)
        page.controls.shows(picture(page.cloud, page.camera, dataclasses.replace(page.look, mode=mode)))


def test_sh_degree_and_background(page) -> None:
    page.controls.enter("SH degree", 0)
    page.controls.shows(picture(page.cloud, page.camera, Look(sh_degree=0)))
    page.controls.enter("SH degree", 3)
    page.controls.enter("Background", "rgb(40, 90, 160)")
    page.controls.shows(picture(page.cloud, page.camera, Look(background=(40 / 255, 90 / 255, 160 / 255))))


def test_field_of_view_and_the_first_view(page) -> None:
    page.controls.enter("Field of view, °", 80)
    wide = dataclasses.replace(page.view, fov=80.0).camera(page.width, page.height)
    page.controls.shows(picture(page.cloud, wide, page.look))
    page.controls.click("First view")
    page.controls.shows(picture(page.cloud, page.camera, page.look))


def test_snapshot(page) -> None:
    page.controls.shows(picture(page.cloud, page.camera, page.look))
    page.controls.click("Snapshot (PNG)")
    file = page.controls.wrote(page.root / "snapshot.png")
    full = np.asarray(Image.open(io.BytesIO(file.read_bytes())))
    assert max(full.shape) == 1920
    assert np.abs(full.astype(float) - picture(page.cloud, page.view.camera(*full.shape[1::-1]), page.look)).mean() < 1


def test_transform(page) -> None:
    unfold(page.tab, "Transform")
    page.controls.enter("Position", 0.7)
    page.controls.enter("Rotation, °", 90, field=2)
    page.controls.enter("Scale", 1.5)
    placed = page.cloud.transform(rotation_xyz((0, 0, 90)), torch.tensor([0.7, 0.0, 0.0]), 1.5)
    page.controls.shows(picture(placed, page.camera, page.look))
    page.controls.enter("Position", 0)
    page.controls.enter("Rotation, °", 0, field=2)
    page.controls.enter("Scale", 1)
    page.controls.shows(picture(page.cloud, page.camera, page.look))


def test_filters_and_crop_box_and_what_is_left_is_saved(page) -> None:
    unfold(page.tab, "Filter and crop")
    page.controls.enter("Min opacity", 0.5)
    page.controls.enter("Max size, %", 80)
    scales = torch.cat([page.cloud.scales.amax(1), page.second.scales.amax(1)]).sort().values
    left = filters.apply(page.cloud, Edits(0.5, float(scales[int(0.8 * (len(scales) - 1))])))
    page.controls.shows(picture(left, page.camera, page.look))
    assert float(left.means[:, 0].min()) < 0
    page.controls.tick("Crop box", True)
    page.controls.enter("Low corner", 0)
    left = left.select(left.means[:, 0] >= 0)
    page.controls.shows(picture(left, page.camera, page.look))
    page.controls.says(f"{len(left)} Gaussians left")
    page.controls.click("Save cloud")
    saved = page.controls.wrote(page.folder / "edited.ply")
    assert len(formats.read(saved)) == len(left)
    for name in ("../stolen.ply", str(page.root / "stolen.ply"), "edited.ply"):
        page.controls.enter("Name", name)
        page.controls.click("Save cloud")
        page.controls.says("Not saved")
    assert not (page.root / "stolen.ply").exists()


def test_two_clouds_are_compared(page) -> None:
    page.controls.choose("Compare", "slider")
    a, b = (picture(cloud, page.camera, page.look) for cloud in (page.cloud, page.second))
    column = round(0.5 * page.width)
    page.controls.shows(np.concatenate([a[:, :column], b[:, column:]], 1))
    page.controls.enter("Divide at", 0.2)
    ratio = (page.folder / "a.ply").stat().st_size / (page.folder / "b.spz").stat().st_size
    page.controls.says(f"{ratio:.1f} times")
    page.controls.choose("Compare", "difference")
    page.controls.shows(render_modes.compare(a, b, "difference", 0.5))


def test_photos(page) -> None:
    target = page.scene.views[3]
    page.controls.choose("Photo", target.name)
    page.controls.click("Go to photo")
    there = picture(page.cloud, seen_from(target.camera, page), page.look)
    page.controls.shows(there)
    page.controls.choose("Compare", "side by side", nth=1)
    both = render_modes.compare(
        np.asarray(target.load().rgb), picture(page.cloud, target.camera, page.look), "side by side", 0.5
    )
    boxed = Image.fromarray(render_modes.letterbox(both, page.width / page.height))
    page.controls.shows(np.asarray(boxed.resize((page.width, page.height), Image.Resampling.BILINEAR)), limit=12)
    page.controls.choose("Compare", "off", nth=1)
    page.controls.shows(there)
    page.controls.click("next", after="previous")
    value = "[...document.querySelectorAll('input')].some(i => i.value === '04.png')"
    wait_for(lambda: page.tab.evaluate(value), what="the next photo's name")


def keys_at_two_photos(page) -> np.ndarray:
    """Add a key at photos 3 and 4; the picture of the second."""
    unfold(page.tab, "Camera path")
    for number, words in ((3, "1 keyframe"), (4, "2 keyframes")):
        page.controls.choose("Photo", page.scene.views[number].name)
        page.controls.click("Go to photo")
        there = picture(page.cloud, seen_from(page.scene.views[number].camera, page), page.look)
        page.controls.shows(there, limit=8)  # the first key's frustum is in it
        page.controls.click("Add keyframe", after="Clear path")
        page.controls.says(words)
    return there


def test_camera_path_is_saved_as_a_file_and_as_a_video(page) -> None:
    pytest.importorskip("av")
    keys_at_two_photos(page)
    page.controls.enter("Duration, s", 0.4)
    page.controls.choose("Size", "640×360")
    page.controls.click("Save path")
    cameras, fps = camera_paths.read(page.controls.wrote(page.folder / "flight.json"))
    assert (len(cameras), fps) == (12, 30.0)
    for camera, number in ((cameras[0], 3), (cameras[-1], 4)):
        assert torch.allclose(camera.position, page.scene.views[number].camera.position.double(), atol=1e-3)
    page.controls.click("Save video")
    video = page.controls.wrote(page.folder / "flight.mp4")
    check_video(video, [picture(page.cloud, frame, page.look) for frame in cameras])


def test_camera_path_plays_to_its_last_camera(page) -> None:
    there = keys_at_two_photos(page)
    page.controls.click("First view")
    page.controls.shows(picture(page.cloud, page.camera, page.look), limit=8)
    page.controls.enter("Duration, s", 1)
    page.controls.click("Play")
    page.controls.shows(there, limit=8)
    page.controls.click("Clear path")
    page.controls.says("0 keyframes")
    page.controls.shows(there)


def test_the_browsers_own_renderer(page) -> None:
    page.controls.enter("SH degree", 0)
    page.controls.choose("Renderer", "browser")
    page.controls.shows(picture(page.cloud, page.camera, Look(sh_degree=0)), limit=8)
    page.controls.choose("Renderer", "server")
    page.controls.shows(picture(page.cloud, page.camera, Look(sh_degree=0)))


def seen_from(camera, page):
    """The camera of a photo at the size of the page."""
    focal = camera.fy * page.height / camera.height
    return camera.replace(
        fx=focal, fy=focal, cx=page.width / 2, cy=page.height / 2, width=page.width, height=page.height
    )


def check_video(file: Path, expected: list[np.ndarray]) -> None:
    import av

    with av.open(str(file)) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == len(expected)
    for frame, wanted in zip(frames, expected, strict=True):
        assert np.abs(frame.astype(float) - wanted).mean() < 5
