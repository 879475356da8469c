"""Headless Chromium, driven through its debugging protocol: a browser for the tests of pages."""

import base64
import io
import itertools
import json
import shutil
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.patience import wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --use-gl=angle --use-angle=swiftshader --enable-unsafe-swiftshader "
    "--disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync "
    "--disable-dev-shm-usage --hide-scrollbars --remote-debugging-port=0"
).split()


class Tab:
    """One tab of Chromium."""

    def __init__(self, address: str) -> None:
        from websockets.sync import client

        self.socket = client.connect(address, max_size=None, compression=None)
        self.numbers = itertools.count(1)

    def call(self, method: str, **parameters):
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    def evaluate(self, script: str):
        """The value of ``script``, awaited if it is a promise."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    @property
    def text(self) -> str:
        """What the page says."""
        return self.evaluate("document.body?.innerText ?? ''")

    def picture(self) -> np.ndarray:
        """The page as it looks, (H, W, 3) uint8."""
        data = base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))

    def click(self, text: str) -> None:
        """Press the button that says ``text``."""
        script = (
            "(() => { const all = [...document.querySelectorAll('button')], text = %s;"
            " const b = all.find(b => b.innerText.trim() === text) || all.find(b => b.innerText.includes(text));"
            " if (b) b.click(); return !!b })()"
        )
        wait_for(lambda: self.evaluate(script % json.dumps(text)), what=f"the button '{text}'")

    def settle(self) -> None:
        """Come back when the page has sent what was set: of several quick changes it sends only the last.

        Timers of one page fire in the order of their times, however late: those of earlier changes before this one.
        """
        self.evaluate("new Promise(done => setTimeout(() => setTimeout(done, 200), 100))")

    def mouse(self, kind: str, x: float, y: float, **more) -> None:
        """One mouse event: "mousePressed", "mouseMoved", "mouseReleased"."""
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)


@contextmanager
def running(profile: Path, width: int = 800, height: int = 500) -> Iterator[Callable[[str], Tab]]:
    """A Chromium with windows of that size; the function that it yields opens a tab at a URL."""
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    pytest.importorskip("websockets.sync.client")
    log = open(profile / "log.txt", "w")
    command = [CHROMIUM, *FLAGS, f"--window-size={width},{height}", f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(command, stdout=log, stderr=log)
    port = profile / "DevToolsActivePort"

    def open_tab(url: str) -> Tab:
        address = f"http://127.0.0.1:{port.read_text().split()[0]}/json/new?about:blank"
        with urllib.request.urlopen(urllib.request.Request(address, method="PUT")) as answer:
            tab = Tab(json.load(answer)["webSocketDebuggerUrl"])
        tab.call("Page.navigate", url=url)
        wait_for(lambda: tab.evaluate("location.href") != "about:blank" and tab.evaluate("!!document.body"))
        return tab

    try:
        wait_for(lambda: port.exists() and port.read_text().strip())
        yield open_tab
    finally:
        process.kill()
        process.wait()
        log.close()
