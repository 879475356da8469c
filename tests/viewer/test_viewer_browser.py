"""The page in headless Chromium, driven through its debugging protocol."""

import base64
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from splat import formats
from splat.cloud import GaussianCloud
from splat.viewer import Look, first_view, picture

pytest.importorskip("viser", reason="the viewer's extra is not installed")
client = pytest.importorskip("websockets.sync.client")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")

FLAGS = (
    "--headless --no-sandbox --disable-gpu --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --hide-scrollbars --window-size=800,500 --remote-debugging-port=0"
).split()


class Tab:
    """One tab of Chromium."""

    def __init__(self, address: str) -> None:
        self.socket = client.connect(address, max_size=None, compression=None)
        self.numbers = itertools.count(1)

    def call(self, method: str, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv(timeout=30))
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, script: str):
        return self.call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def picture(self) -> np.ndarray:
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def click(self, text: str) -> None:
        found = self.evaluate(
            f"(() => {{ const b = [...document.querySelectorAll('button')].find(b => b.innerText.includes('{text}'));"
            " if (b) b.click(); return !!b })()"
        )
        assert found, f"no button says {text}"


@pytest.fixture(scope="module")
def cloud_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    file = tmp_path_factory.mktemp("served") / "blobs.ply"
    formats.write(cloud, file)
    return file


@pytest.fixture(scope="module")
def server(cloud_file: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    """``splat view`` as its users start it."""
    command = [sys.executable, "-m", "splat", "view", str(cloud_file), "--port", "18080"]
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        # A test run in the background of a shell ignores Ctrl-C, and so would the server.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    url = next((word for line in process.stdout for word in line.split() if word.startswith("http://")), None)
    assert url, "no address was printed"
    yield url, process
    process.kill()
    process.wait()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a Chromium's debugging protocol."""
    profile = tmp_path_factory.mktemp("chromium")
    log = open(profile / "log.txt", "w")
    process = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={profile}", "about:blank"], stdout=log, stderr=log)
    port = profile / "DevToolsActivePort"
    wait_for(lambda: port.exists() and port.read_text().strip(), 30)
    yield f"127.0.0.1:{port.read_text().split()[0]}"
    process.kill()
    process.wait()
    log.close()


def open_tab(chromium: str, url: str) -> Tab:
    request = urllib.request.Request(f"http://{chromium}/json/new?{url}", method="PUT")
    with urllib.request.urlopen(request, timeout=30) as answer:
        return Tab(json.load(answer)["webSocketDebuggerUrl"])


def wait_for(condition, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.25)


def scene_pixels(shot: np.ndarray) -> np.ndarray:
    """The lower left part, which neither panels nor notices cover."""
    return shot[160:, :420].astype(float)


def same(shot: np.ndarray, expected: np.ndarray) -> bool:
    return shot.shape == expected.shape and np.abs(scene_pixels(shot) - scene_pixels(expected)).mean() < 6


def test_page(server: tuple[str, subprocess.Popen], chromium: str, cloud_file: Path) -> None:
    url, process = server
    assert "127.0.0.1" in url
    tab = open_tab(chromium, url)
    width, height = tab.evaluate("[innerWidth, innerHeight]")
    cloud = formats.read(cloud_file)
    camera = first_view(cloud, None, None).camera(width, height)
    expected = picture(cloud, camera, Look())
    assert expected.max() > 200

    shots = []

    def shows_it() -> bool:
        shots.append(tab.picture())
        if os.environ.get("VIEWER_SHOTS"):
            Image.fromarray(shots[-1]).save(Path(os.environ["VIEWER_SHOTS"]) / "page.png")
            Image.fromarray(expected).save(Path(os.environ["VIEWER_SHOTS"]) / "expected.png")
        return same(shots[-1], expected)

    wait_for(shows_it, 60)

    # A second browser sees the same.
    other = open_tab(chromium, url)
    wait_for(lambda: same(other.picture(), expected), 60)

    # A button does what it says.
    wait_for(lambda: "Save cloud" in tab.evaluate("document.body.innerText"), 20)
    tab.click("Save cloud")
    saved = cloud_file.parent / "edited.ply"
    wait_for(saved.exists, 20)
    assert torch.equal(formats.read(saved).means, cloud.means)

    # Ctrl-C ends it with browsers connected.
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 0
