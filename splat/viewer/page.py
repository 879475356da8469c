"""The page: clouds, what each browser sees of them, and how the panels' settings reach the pictures."""

import contextlib
import io
import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from splat.camera import Camera
from splat.cloud import GaussianCloud, matrix_to_quaternion
from splat.scene import Scene
from splat.sh import C0
from splat.text import amount
from splat.viewer import filters as editing
from splat.viewer.initial_view import FirstView
from splat.viewer.render_modes import Look, compare, labelled, letterbox, picture
from splat.viewer.render_worker import LARGEST, TARGET, Pose, RenderWorker
from splat.viewer.values import camera_numbers

T = TypeVar("T")


@dataclass
class SceneCloud:
    """One cloud of the page.

    Attributes:
        name, nbytes: of its file.
        cloud: the Gaussians as they were read.
        shown: whether it is rendered.
        position, degrees, scale: its transform: scale, rotation about x, then y, then z of the world, translation.
    """

    name: str
    cloud: GaussianCloud
    nbytes: int
    shown: bool = True
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    degrees: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: float = 1.0

    def transformed(self) -> GaussianCloud:
        """The Gaussians with position, rotation and scale applied."""
        if (self.position, self.degrees, self.scale) == ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0), 1.0):
            return self.cloud
        return self.cloud.transform(rotation_xyz(self.degrees), torch.tensor(self.position), self.scale)

    @property
    def size(self) -> str:
        """Number of Gaussians and size of the file, in words."""
        return f"{len(self.cloud):,} Gaussians · {amount(self.nbytes)}"


def rotation_xyz(degrees: tuple[float, float, float]) -> torch.Tensor:
    """(3, 3) float64 rotation about x, then y, then z of the world."""
    matrix = torch.eye(3, dtype=torch.float64)
    for axis, angle in enumerate(degrees):
        sine, cosine = math.sin(math.radians(angle)), math.cos(math.radians(angle))
        turn = torch.eye(3, dtype=torch.float64)
        i, j = (axis + 1) % 3, (axis + 2) % 3
        turn[i, i] = turn[j, j] = cosine
        turn[i, j], turn[j, i] = -sine, sine
        matrix = turn @ matrix
    return matrix


@dataclass(frozen=True)
class Comparison:
    """Two pictures in one: ``how`` as `render_modes.compare` has it, photo ``view`` and its render or two clouds."""

    how: str
    fraction: float = 0.5
    view: int | None = None
    pair: tuple[int, int] | None = None


@dataclass
class Settings:
    """What the panels set; the same for every browser."""

    look: Look
    edits: editing.Edits = editing.Edits()
    renderer: str = "server"
    comparison: Comparison | None = None


class Page:
    """The clouds on one address. Made by `open_page`; ``close`` ends it.

    ``run_render`` calls a function that renders, and returns its result: at once, unless somebody who needs the
    processor for other work (training) sets it to something that waits. ``target``: seconds that a picture may take
    while the camera moves. ``lock``: held while controls are read and settings changed from them: callbacks run side by
    side, and the one that read first must not write last.
    """

    def __init__(
        self, server: Any, clouds: Sequence[SceneCloud], first: FirstView, look: Look, scene: Scene | None, folder: Path
    ) -> None:
        self.server, self.clouds, self.scene, self.folder = server, list(clouds), scene, folder
        self.first = first
        self.settings = Settings(look)
        self.run_render: Callable[[Callable[[], T]], T] = lambda job: job()
        self.target = TARGET
        self.lock = threading.RLock()
        self._workers_lock = threading.Lock()  # held for a moment only: the server's loop waits for it
        self._poses: dict[int, Pose | None] = {}
        self._closed = False
        self._workers: dict[int, RenderWorker] = {}
        self._parts: dict[int, GaussianCloud] = {}
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

    @property
    def watched(self) -> bool:
        """Whether a browser is connected."""
        return bool(self._workers)

    def close(self) -> None:
        """End every worker and the server; once more does nothing."""
        with self.lock:
            if self._closed:
                return
            self._closed = True
        with self._workers_lock:
            workers, self._workers = list(self._workers.values()), {}
        for worker in workers:
            worker.close()
        with contextlib.redirect_stdout(io.StringIO()):  # viser would say it too
            self.server.stop()

    # ---- settings ----

    def change(self, **settings: Any) -> None:
        """Set fields of `Settings` and draw again."""
        with self.lock:
            for name, value in settings.items():
                setattr(self.settings, name, value)
            if "edits" in settings:
                self._forget()
            if {"edits", "renderer", "comparison"} & set(settings):
                self._fill_browser()
            self.refresh()

    def change_cloud(self, cloud: SceneCloud, **fields: Any) -> None:
        """Set fields of one cloud and render again."""
        with self.lock:
            for name, value in fields.items():
                setattr(cloud, name, value)
            self._forget()
            self._fill_browser()
            self.refresh()

    def _forget(self) -> None:
        self._parts, self._cloud = {}, None

    def part(self, index: int) -> GaussianCloud:
        """One cloud, transformed, filtered and cropped."""
        with self.lock:
            if index not in self._parts:
                self._parts[index] = editing.apply(self.clouds[index].transformed(), self.settings.edits)
            return self._parts[index]

    def cloud(self) -> GaussianCloud:
        """The shown clouds as one, transformed, filtered and cropped."""
        with self.lock:
            if self._cloud is None:
                parts = [self.part(index) for index, cloud in enumerate(self.clouds) if cloud.shown]
                empty = GaussianCloud.empty(device=self.clouds[0].cloud.device)
                self._cloud = GaussianCloud.concat(parts) if len(parts) > 1 else parts[0] if parts else empty
            return self._cloud

    # ---- pictures ----

    def draw(self, camera: Camera) -> np.ndarray:
        """The picture (H, W, 3) uint8 of ``camera`` with the settings, or the comparison that is switched on."""
        with self.lock:
            look, comparison = self.settings.look, self.settings.comparison
            pair = None if comparison is None else comparison.pair
            clouds = [self.cloud()] if pair is None else [self.part(index) for index in pair]
        if comparison is None:
            return picture(clouds[0], camera, look)
        how, fraction = comparison.how, comparison.fraction
        if pair is None:
            photo = self.photo(comparison.view)
            drawn = picture(clouds[0], self.scene.views[comparison.view].camera, look)
            return letterbox(compare(photo, drawn, how, fraction), camera.width / camera.height)
        if how == "side by side":
            half = max(1, camera.width // 2)
            camera = camera.replace(width=half, cx=camera.cx - (camera.width - half) / 2)
        drawn = [picture(cloud, camera, look) for cloud in clouds]
        result = compare(drawn[0], drawn[1], how, fraction)
        names = [f"{cloud.name} {amount(cloud.nbytes)}" for cloud in (self.clouds[index] for index in pair)]
        return labelled(result, *names)

    def photo(self, view: int) -> np.ndarray:
        """The photo of a view, (H, W, 3) uint8; the last one is kept."""
        with self.lock:
            if view not in self._photos:
                self._photos = {view: np.asarray(self.scene.views[view].load().rgb)}
            return self._photos[view]

    def snapshot(self, client: Any) -> bytes:
        """The picture of a browser's camera in full size, as PNG."""
        from PIL import Image

        data = io.BytesIO()
        Image.fromarray(self.run_render(lambda: self.draw(self.pose(client).camera(LARGEST, enlarge=True)))).save(
            data, "png"
        )
        return data.getvalue()

    def look_from(self, client: Any, camera: Camera, distance: float) -> None:
        """Put a browser's camera where ``camera`` is, turning about the point ``distance`` ahead."""
        position = camera.position.double()
        with client.atomic():
            client.camera.position = position.numpy()
            client.camera.look_at = (position + distance * camera.forward.double()).numpy()
            client.camera.up_direction = -camera.world_to_camera[1, :3].double().numpy()
            client.camera.fov = 2 * float(np.arctan(0.5 * camera.height / camera.fy))

    async def _connect(self, client: Any) -> None:
        def show(image: np.ndarray, full: bool) -> None:
            with self.lock:  # or a picture begun before the switch to the browser's renderer would come after it
                if client.client_id not in self._workers:
                    return  # it left while its picture was made
                if self.settings.renderer == "server" or self.settings.comparison is not None:
                    client.scene.set_background_image(image, format="jpeg", jpeg_quality=92 if full else 70)

        def failed(error: Exception) -> None:
            client.add_notification("No picture", str(error), color="red")

        worker = RenderWorker(self.draw, show, failed, lambda render: self.run_render(render), self.target)
        with self._workers_lock:
            self._workers[client.client_id] = worker
        self._poses[client.client_id] = pose_of(client)

        # In the server's own loop, as it is soon done: a pool of threads would grow with the messages.
        async def moved(_: Any) -> None:
            pose = pose_of(client)
            if pose is not None:
                self._poses[client.client_id] = pose
                worker.move(pose)

        client.camera.on_update(moved)
        if client.camera.image_width:
            await moved(None)

    def pose(self, client: Any) -> Pose:
        """The camera of a browser: the last possible one that it told, or the first picture's."""
        pose = self._poses.get(client.client_id)
        if pose is not None:
            return pose
        matrix = self.first.camera(640, 360).camera_to_world.double()
        wxyz, position = matrix_to_quaternion(matrix[:3, :3]), matrix[:3, 3]
        return Pose(tuple(wxyz.tolist()), tuple(position.tolist()), math.radians(self.first.fov), 640, 360)

    async def _disconnect(self, client: Any) -> None:
        with self._workers_lock:
            worker = self._workers.pop(client.client_id, None)
            self._poses.pop(client.client_id, None)
        if worker is not None:
            worker.close(wait=False)

    def refresh(self, forget: bool = False) -> None:
        """Draw again for every browser; ``forget`` when the clouds themselves are others now."""
        if forget:
            with self.lock:
                self._forget()
        if self.settings.renderer == "browser" and self.settings.comparison is None:
            # A plain picture, not None: after None, viser's page shows no further pictures.
            colour = np.array(self.settings.look.background) * 255 + 0.5
            plain = np.full((2, 2, 3), colour.astype(np.uint8), np.uint8)
            with self.lock:
                for client in self.server.get_clients().values():
                    client.scene.set_background_image(plain, format="png")
            return
        with self._workers_lock:
            workers = list(self._workers.values())
        for worker in workers:
            worker.refresh()

    def _fill_browser(self) -> None:
        """Give the browser's own renderer the shown Gaussians, or take them away."""
        for node in self._browser_nodes:
            node.remove()
        self._browser_nodes = []
        if self.settings.renderer != "browser" or self.settings.comparison is not None:
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


def pose_of(client: Any) -> Pose | None:
    """What a browser says of its camera; None if it cannot be."""
    numbers = camera_numbers(client.camera)
    return None if numbers is None else Pose(*numbers)


def frustum(page: Page, name: str, camera: Camera, scale: float, **more: Any) -> Any:
    """A camera drawn into the scene."""
    pose = camera.camera_to_world.double()
    return page.server.scene.add_camera_frustum(
        name,
        fov=2 * float(np.arctan(0.5 * camera.height / camera.fy)),
        aspect=camera.width / camera.height,
        scale=scale,
        wxyz=matrix_to_quaternion(pose[:3, :3]).numpy(),
        position=pose[:3, 3].numpy(),
        **more,
    )
