"""The page: clouds, what each browser sees of them, and how the panels' settings reach the pictures."""

import contextlib
import io
import logging
import socket
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.camera import Camera
from splat.cloud import GaussianCloud
from splat.errors import InputError
from splat.scene import Scene
from splat.sh import C0
from splat.viewer import edits as editing
from splat.viewer.drawing import Look, compare, letterbox, picture
from splat.viewer.first_view import FirstView
from splat.viewer.worker import LARGEST, Pose, Worker

TRIES = 100  # ports looked at when the wanted one is taken


@dataclass
class Entry:
    """One cloud of the page: its name, Gaussians, file size in bytes, and whether it is shown."""

    name: str
    cloud: GaussianCloud
    nbytes: int
    shown: bool = True


@dataclass
class Settings:
    """What the panels set; the same for every browser."""

    look: Look
    edits: editing.Edits = editing.Edits()
    renderer: str = "server"
    view: int | None = None  # of the scene, for comparing
    compare: str = "off"
    share: float = 0.5


class Page:
    """The clouds on one address. Made by `open_page`; ``close`` ends it."""

    def __init__(
        self, server: Any, entries: Sequence[Entry], first: FirstView, look: Look, scene: Scene | None, folder: Path
    ) -> None:
        self.server, self.entries, self.scene, self.folder = server, list(entries), scene, folder
        self.first = first
        self.settings = Settings(look)
        self._lock = threading.RLock()
        self._workers: dict[int, Worker] = {}
        self._cloud: GaussianCloud | None = None
        self._photos: dict[int, np.ndarray] = {}
        self._browser_nodes: list[Any] = []
        start = server.initial_camera
        start.position, start.look_at = tuple(first.position.tolist()), tuple(first.target.tolist())
        start.fov = float(np.radians(first.fov))
        server.scene.set_up_direction(tuple(first.up.tolist()))
        server.on_client_connect(self._connect)
        server.on_client_disconnect(self._disconnect)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{self.server.get_host()}:{self.server.get_port()}"

    def close(self) -> None:
        """End every worker and the server."""
        with self._lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.close()
        with contextlib.redirect_stdout(io.StringIO()):  # viser would say it too
            self.server.stop()

    # ---- settings ----

    def change(self, **settings: Any) -> None:
        """Set fields of `Settings` and draw again."""
        with self._lock:
            for name, value in settings.items():
                setattr(self.settings, name, value)
            if "edits" in settings:
                self._cloud = None
            if {"edits", "renderer"} & set(settings):
                self._fill_browser()
            self._refresh()

    def show_entry(self, entry: Entry, shown: bool) -> None:
        """Show or hide one cloud."""
        with self._lock:
            entry.shown, self._cloud = shown, None
            self._fill_browser()
            self._refresh()

    def cloud(self) -> GaussianCloud:
        """The shown clouds as one, filtered and cropped."""
        with self._lock:
            if self._cloud is None:
                parts = [editing.apply(entry.cloud, self.settings.edits) for entry in self.entries if entry.shown]
                empty = GaussianCloud.empty(device=self.entries[0].cloud.device)
                self._cloud = GaussianCloud.concat(parts) if len(parts) > 1 else parts[0] if parts else empty
            return self._cloud

    # ---- pictures ----

    def draw(self, camera: Camera, aspect: float | None = None) -> np.ndarray:
        """The picture (H, W, 3) uint8 of ``camera`` with the settings, or the comparison that is switched on."""
        with self._lock:
            cloud, settings = self.cloud(), self.settings
            view, how, share, look = settings.view, settings.compare, settings.share, settings.look
        if self.scene is None or view is None or how == "off":
            return picture(cloud, camera, look)
        photo = self._photo(view)
        drawn = picture(cloud, self.scene.views[view].camera, look)
        return letterbox(compare(photo, drawn, how, share), aspect or camera.width / camera.height)

    def _photo(self, view: int) -> np.ndarray:
        """The photo of a view, (H, W, 3) uint8; the last one is kept."""
        with self._lock:
            if view not in self._photos:
                self._photos = {view: np.asarray(self.scene.views[view].load().rgb)}
            return self._photos[view]

    def snapshot(self, client: Any) -> bytes:
        """The picture of a browser's camera in full size, as PNG."""
        from PIL import Image

        data = io.BytesIO()
        Image.fromarray(self.draw(pose_of(client).camera(LARGEST))).save(data, "png")
        return data.getvalue()

    def _connect(self, client: Any) -> None:
        def show(image: np.ndarray, full: bool) -> None:
            if self.settings.renderer == "server" or self.settings.compare != "off":
                client.scene.set_background_image(image, format="jpeg", jpeg_quality=92 if full else 70)

        def failed(error: Exception) -> None:
            client.add_notification("No picture", str(error), color="red")

        worker = Worker(self.draw, show, failed)
        with self._lock:
            self._workers[client.client_id] = worker
        client.camera.on_update(lambda _: worker.move(pose_of(client)))
        if client.camera.image_width:
            worker.move(pose_of(client))

    def _disconnect(self, client: Any) -> None:
        with self._lock:
            worker = self._workers.pop(client.client_id, None)
        if worker is not None:
            worker.close()

    def _refresh(self) -> None:
        if self.settings.renderer == "browser" and self.settings.compare == "off":
            # A plain picture, not None: after None, viser's page shows no further pictures.
            colour = np.array(self.settings.look.background) * 255 + 0.5
            plain = np.full((2, 2, 3), colour.astype(np.uint8), np.uint8)
            for client in self.server.get_clients().values():
                client.scene.set_background_image(plain, format="png")
            return
        for worker in self._workers.values():
            worker.refresh()

    def _fill_browser(self) -> None:
        """Give the browser's own renderer the shown Gaussians, or take them away."""
        for node in self._browser_nodes:
            node.remove()
        self._browser_nodes = []
        if self.settings.renderer != "browser":
            return
        cloud = editing.thin(self.cloud()).to("cpu")
        if len(cloud) == 0:
            return
        node = self.server.scene.add_gaussian_splats(
            "/cloud",
            centers=cloud.means.numpy(),
            covariances=cloud.covariances.numpy(),
            rgbs=(0.5 + C0 * cloud.sh[:, 0]).clamp(0, 1).numpy(),
            opacities=cloud.opacities[:, None].numpy(),
        )
        self._browser_nodes.append(node)


def pose_of(client: Any) -> Pose:
    """The camera of a browser."""
    camera = client.camera
    wxyz, position = tuple(map(float, camera.wxyz)), tuple(map(float, camera.position))
    return Pose(wxyz, position, float(camera.fov), max(1, camera.image_width), max(1, camera.image_height))


def open_page(
    entries: Sequence[Entry],
    first: FirstView,
    look: Look,
    scene: Scene | None = None,
    folder: Path = Path(),
    host: str = "127.0.0.1",
    port: int = 8080,
) -> Page:
    """Serve ``entries`` and return at once.

    Args:
        folder: where the page may save files.
        port: the next free one is taken where this one is not.
    Raises InputError when viser is not installed or no port is free.
    """
    try:
        import viser
    except ImportError as error:
        raise InputError("the viewer needs viser, which is not installed: pip install viser") from error
    from splat.viewer.panels import add_panels

    # Browsers open connections that they never use; that is no news for the terminal.
    logging.getLogger("websockets.server").setLevel(logging.CRITICAL)
    with contextlib.redirect_stdout(io.StringIO()):
        server = viser.ViserServer(host=host, port=free_port(host, port), label="splat", verbose=False)
    page = Page(server, entries, first, look, scene, folder)
    add_panels(page)
    return page


def free_port(host: str, port: int) -> int:
    """``port``, or the next one on which ``host`` does not listen yet. Raises InputError when none is free."""
    for candidate in range(port, min(port + TRIES, 65536)):
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, candidate))
            except OSError:
                continue
            return candidate
    raise InputError(f"no port from {port} on is free on {host}; choose one with --port, or the address with --host")
