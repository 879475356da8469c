"""The page in headless Chromium: who may see it, two browsers, a server that comes back, and a run that goes on."""

import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from support.chromium import Tab, running
from support.patience import bound, wait_for
from support.tiny import tiny_cameras, tiny_cloud, write_scene
from support.viser_page import choose, served, shows

from splat import formats
from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.viewer import Look, first_view, picture

pytest.importorskip("viser", reason="the viewer's extra is not installed")


@pytest.fixture
def blobs(tmp_path: Path) -> Path:
    """Three big coloured blobs: red left, green right, blue above."""
    means = torch.tensor([[-1.0, 0.3, 0.0], [1.0, 0.3, 0.0], [0.0, -0.9, 0.0]])
    colours = torch.tensor([[1.0, 0.1, 0.1], [0.1, 1.0, 0.1], [0.1, 0.1, 1.0]])
    cloud = GaussianCloud(
        means,
        torch.full((3, 3), 0.35).log(),
        torch.tensor([[1.0, 0.0, 0.0, 0.0]]).repeat(3, 1),
        torch.full((3,), 4.0),
        ((colours - 0.5) / 0.28209479177387814)[:, None],
    )
    (tmp_path / "served").mkdir()
    formats.write(cloud, tmp_path / "served" / "blobs.ply")
    (tmp_path / "secret.txt").write_text("nobody may read this")
    return tmp_path / "served" / "blobs.ply"


def ask(port: int, path: str, *headers: str) -> bytes:
    """What the server answers to one request, written by hand: libraries would clean up the path."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        lines = [f"GET {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close", *headers]
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        answer = b""
        while part := connection.recv(65536):
            answer += part
    return answer


def test_two_browsers_and_a_server_that_comes_back(blobs: Path, tmp_path: Path) -> None:
    (tmp_path / "chromium").mkdir()
    cloud = formats.read(blobs)
    with running(tmp_path / "chromium") as open_tab:
        with served("view", blobs, "--port", "18200") as (url, process):
            assert url == "http://127.0.0.1:18200"
            for path in ("/../secret.txt", "/..%2fsecret.txt", "/%2e%2e/secret.txt", "/served/blobs.ply", "/blobs.ply"):
                assert ask(18200, path).startswith(b"HTTP/1.1 404"), path
            upgrade = ("Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Version: 13")
            key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
            assert ask(18200, "/", *upgrade, key, "Origin: http://evil.example").startswith(b"HTTP/1.1 403")
            first, second = open_tab(url), open_tab(url)
            wait_for(lambda: first.evaluate("innerWidth"))
            expected = picture(
                cloud, first_view(cloud, None, None).camera(*first.evaluate("[innerWidth, innerHeight]")), Look()
            )
            assert expected.max() > 200
            shows(first, expected)
            shows(second, expected)
            # Each browser has its own camera.
            second.mouse("mousePressed", 200, 400, button="left", clickCount=1)
            for x in range(200, 330, 10):
                second.mouse("mouseMoved", x, 400, button="left", buttons=1)
            second.mouse("mouseReleased", 330, 400, button="left", clickCount=1)
            wait_for(lambda: np.abs(second.picture().astype(float) - expected)[170:400, 20:420].mean() > 8)
            shows(first, expected)
            process.send_signal(signal.SIGINT)
            assert process.wait() == 0  # with browsers connected
        second.call("Page.close")
        first.call("Page.bringToFront")  # pages in the background do not hurry to reconnect
        green = cloud.select(torch.tensor([1]))
        formats.write(green, blobs)
        with served("view", blobs, "--port", "18200"):
            wait_for(lambda: "1 Gaussians" in first.text)
            first.click("First view")
            camera = first_view(green, None, None).camera(*first.evaluate("[innerWidth, innerHeight]"))
            shows(first, picture(green, camera, Look()))


def test_a_run_can_be_watched_paused_and_stopped(tmp_path: Path) -> None:
    scene, run = write_scene(tmp_path / "scene"), tmp_path / "run"
    (tmp_path / "chromium").mkdir()
    command = ("train", scene, "--out", run, "--view", "--port", "18210", "--steps", "200000", "--gaussians", "400")
    with served(*command) as (url, process), running(tmp_path / "chromium") as open_tab:
        tab = open_tab(url)
        wait_for(lambda: "steps/s" in tab.text and "PSNR" in tab.text)
        # Where a photo it trains on was taken, it shows that photo; from elsewhere seven photos say little.
        choose(tab, "Photo", "01.png")
        tab.click("Go to photo")
        truth = seen_from(tiny_cameras()[1], *tab.evaluate("[innerWidth, innerHeight]"))[60:, 200:420]
        wait_for(lambda: np.abs(tab.picture()[60:, 200:420] - truth).mean() < 0.3 * truth.mean())
        tab.click("Pause")
        wait_for(lambda: "Paused" in tab.text)
        wait_for(lambda: stands(tab))  # a step that had begun may still be told
        stood = step_of(tab.text)
        time.sleep(bound(1.5))
        assert step_of(tab.text) == stood
        tab.click("Go on")
        wait_for(lambda: step_of(tab.text) > stood)
        tab.click("Stop and save")
        said = process.stdout.read()
        assert process.wait() == 0
    assert "--resume" in said
    assert len(formats.read(run / "cloud.ply")) > 0
    assert "view-cloud" in (run / "report.html").read_text(encoding="utf-8")
    assert list((run / "checkpoints").glob("step_*.safetensors"))


def seen_from(camera: Camera, width: int, height: int) -> np.ndarray:
    """The scene's own Gaussians, drawn at the size of the page."""
    size = height / camera.height
    focal = {"fx": camera.fx * size, "fy": camera.fy * size}
    camera = camera.replace(width=width, height=height, cx=width / 2, cy=height / 2, **focal)
    return picture(tiny_cloud(), camera, Look()).astype(float)


def stands(tab: Tab) -> bool:
    """Whether two looks at the page find the same step."""
    before = step_of(tab.text)
    tab.settle()
    return step_of(tab.text) == before


def step_of(text: str) -> int:
    """The step that the page shows."""
    return int(text.split("step ")[1].split(" of")[0].replace(",", ""))
