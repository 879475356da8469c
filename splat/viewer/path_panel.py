"""The editor of camera paths: keyframes at the present camera, a spline through them, playing, and a video."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from splat.camera import Camera
from splat.errors import InputError
from splat.viewer import filters as editing
from splat.viewer import values
from splat.viewer.page import Page, frustum
from splat.viewer.render_modes import picture
from splat.viewpoints import paths as camera_paths

SIZES = {"640×360": (640, 360), "1280×720": (1280, 720), "1920×1080": (1920, 1080)}
MOST_SECONDS = 600.0
PLAYED = 20  # pictures a second while playing in the page


class CameraPath:
    """The keyframes of one path, and what is shown of them in the scene."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.keys: list[Camera] = []
        self.nodes: list[Any] = []

    def draw(self, closed: bool) -> None:
        """Show the keyframes and the line through them anew."""
        for node in self.nodes:
            node.remove()
        arm = float((self.page.first.target - self.page.first.position).norm())
        self.nodes = [
            frustum(self.page, f"/path/{i}", key, 0.06 * arm, color=(90, 200, 250)) for i, key in enumerate(self.keys)
        ]
        if len(self.keys) > 1:
            line = [camera.position.numpy() for camera in camera_paths.through(self.keys, 24 * len(self.keys), closed)]
            if closed:
                line.append(line[0])
            points = np.stack([line[:-1], line[1:]], 1).astype(np.float32)
            colour = np.array((90, 200, 250), np.uint8)
            self.nodes.append(self.page.server.scene.add_line_segments("/path/line", points, colour, line_width=2.0))


def add_path_panel(page: Page) -> None:
    """Keyframes, playing, saving the path and a video of it."""
    gui, path = page.server.gui, CameraPath(page)
    with gui.add_folder("Camera path", expand_by_default=False):
        note = gui.add_markdown("Move the camera and add keyframes; the path goes through them.")
        add = gui.add_button("Add keyframe")
        back = gui.add_button("Remove last keyframe")
        clear = gui.add_button("Clear path")
        closed = gui.add_checkbox("Closed", False, hint="Go on from the last keyframe to the first.")
        seconds = gui.add_number("Duration, s", 8.0, min=0.1, max=MOST_SECONDS, step=0.5)
        fps = gui.add_number("Frames/s", 30, min=1, max=120, step=1)
        size = gui.add_dropdown("Size", tuple(SIZES), initial_value="1280×720")
        play = gui.add_button("Play")
        name = gui.add_text("Video", "flight.mp4")
        video = gui.add_button("Save video", hint=f"MP4, into {page.folder.name}/")
        save = gui.add_button("Save path", hint="JSON for splat render --along, under the video's name")
        bar = gui.add_progress_bar(0.0, visible=False)
        cancel = gui.add_button("Stop video", visible=False)
    stopped, busy = threading.Event(), threading.Lock()

    def change(keys: Callable[[list[Camera]], list[Camera]] = lambda keys: keys) -> None:
        with page.lock:
            path.keys = keys(path.keys)
            path.draw(closed.value)
            note.content = f"{len(path.keys)} keyframe{'s' * (len(path.keys) != 1)}"

    def length() -> float:
        return values.number(seconds, 0.1, MOST_SECONDS)

    def rate() -> float:
        return values.number(fps, 1, 120)

    def frames() -> list[Camera]:
        width, height = SIZES[values.choice(size, tuple(SIZES))]
        keys = [fitted(key, width, height) for key in path.keys]
        return camera_paths.through(keys, max(2, round(length() * rate())), closed.value)

    @add.on_click
    def _(event: Any) -> None:
        key = page.pose(event.client).camera(1_000_000)
        change(lambda keys: [*keys, key])

    @back.on_click
    def _(_: Any) -> None:
        change(lambda keys: keys[:-1])

    clear.on_click(lambda _: change(lambda keys: []))
    closed.on_update(lambda _: change())

    @play.on_click
    def _(event: Any) -> None:
        if len(path.keys) < 2:
            event.client.add_notification("No path", "Add at least two keyframes.", color="red")
            return
        arm = float((page.first.target - page.first.position).norm())
        cameras, duration = frames(), length()
        began = time.monotonic()
        while (fraction := (time.monotonic() - began) / duration) < 1:
            page.look_from(event.client, cameras[int(fraction * len(cameras))], arm)
            time.sleep(1 / PLAYED)
        page.look_from(event.client, cameras[-1], arm)  # however slow the browser was, the flight ends at its end

    @save.on_click
    def _(event: Any) -> None:
        try:
            target = editing.new_file(page.folder, name.value.removesuffix(".mp4") + ".json")
            camera_paths.write(target, frames(), rate(), page.cloud().georeference)
        except InputError as error:
            event.client.add_notification("Not saved", str(error), color="red")
            return
        event.client.add_notification("Saved", target.name, color="green")

    cancel.on_click(lambda _: stopped.set())

    @video.on_click
    def _(event: Any) -> None:
        from splat.video import write_video

        if not busy.acquire(blocking=False):
            event.client.add_notification("Not saved", "A video is being made already.", color="red")
            return
        stopped.clear()
        bar.value, bar.visible, cancel.visible = 0.0, True, True
        try:
            if not name.value.endswith(".mp4"):
                raise InputError(f"'{name.value}' does not end in .mp4; choose such a name")
            target, cameras = editing.new_file(page.folder, name.value), frames()
            write_video(target, pictures(cameras), rate())
        except InputError as error:
            event.client.add_notification("Not saved", str(error), color="red")
        except Stopped:
            event.client.add_notification("Stopped", "There is no video.", color="yellow")
        else:
            event.client.add_notification("Saved", f"{target.name}: {len(cameras)} frames", color="green")
        finally:
            bar.visible = cancel.visible = False
            busy.release()

    def pictures(cameras: list[Camera]) -> Iterator[np.ndarray]:
        cloud, look = page.cloud(), page.settings.look
        for number, camera in enumerate(cameras):
            if stopped.is_set():
                raise Stopped
            yield page.run_render(lambda camera=camera: picture(cloud, camera, look))
            bar.value = 100 * (number + 1) / len(cameras)


class Stopped(Exception):
    """The user stopped the video."""


def fitted(camera: Camera, width: int, height: int) -> Camera:
    """``camera`` with another size, its vertical field of view kept."""
    focal = camera.fy * height / camera.height
    return Camera(focal, focal, width / 2, height / 2, width, height, camera.world_to_camera)
