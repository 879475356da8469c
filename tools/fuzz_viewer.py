"""Seeds and readers for fuzzing the messages that browsers send to the viewer: their cameras, and values of controls.

The panels are the viewer's own, on a stand-in for viser's server that casts values as viser does and calls back at
once, without network and threads. Left out are the photos' panel, which has threads of its own, and what takes long by
its nature: playing a path, its video, the snapshot.
"""

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import fuzz_formats

from splat.errors import InputError

POSE = {"wxyz": [1.0, 0.0, 0.0, 0.0], "position": [0.0, 1.0, 2.0], "fov": 0.8, "image_width": 64, "image_height": 48}
# Label of a control, and the value that the browser sends. Buttons take none.
EVENTS = [
    ["b", False], ["Compare", "slider"], ["Left", "1: a"], ["Right", "2: b"], ["Divide at", 0.3], ["Cloud", "2: b"],
    ["Position", [0.1, -2.0, 3.5]], ["Rotation, °", [10.0, 20.0, 30.0]], ["Scale", 2.5], ["Compare", "side by side"],
    ["Mode", "depth"], ["SH degree", 1], ["Background", [10, 20, 30]], ["Renderer", "browser"], ["Compare", "off"],
    ["Field of view, °", 70.0], ["First view", None], ["Min opacity", 0.2], ["Max size, %", 60.5], ["Crop box", True],
    ["Low corner", [-1.0, -1.0, -1.0]], ["High corner", [1.0, 1.5, 2.0]], ["Name", "edited.ply"], ["Save cloud", None],
    ["Add keyframe", None], ["First view", None], ["Add keyframe", None], ["Closed", True], ["Duration, s", 0.2],
    ["Frames/s", 24], ["Size", "640×360"], ["Video", "flight.mp4"], ["Save path", None], ["Remove last keyframe", None],
    ["Renderer", "server"], ["Clear path", None],
]  # fmt: skip
LONG = ("Play", "Save video", "Snapshot (PNG)")


# ---- cameras ----


def pose_message(folder: Path) -> list[Path]:
    """What a browser says of its camera."""
    (folder / "a.json").write_text(json.dumps(POSE))
    return [folder / "a.json"]


def read_pose_message(path: Path) -> None:
    """The camera that the viewer makes of a message."""
    from splat.viewer.page import pose_of

    value = _parsed(path)
    pose = pose_of(_client(value)) if isinstance(value, dict) else None
    if pose is None:
        return
    for longer, enlarge in ((1920, False), (1920, True), (160, False)):
        camera = pose.camera(longer, enlarge)
        assert camera.world_to_camera.isfinite().all() and max(camera.width, camera.height) <= 1920


def _parsed(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:  # viser's own parser comes first
        raise InputError(str(error).replace("\n", " ")[:200] or "deep") from error


def _client(camera: dict[str, Any]) -> Any:
    """A browser with this camera."""
    told = SimpleNamespace(**{str(key): each for key, each in camera.items()})
    return SimpleNamespace(
        client_id=1, camera=told, scene=_Anything(), atomic=_folder, add_notification=lambda *words, color: None
    )


# ---- controls ----


def control_messages(folder: Path) -> list[Path]:
    """A camera and changes of every control, in two orders."""
    for name, events in (("a", EVENTS), ("b", EVENTS[::-1])):
        (folder / f"{name}.json").write_text(json.dumps({"camera": POSE, "events": events}))
    return [folder / "a.json", folder / "b.json"]


def read_control_messages(path: Path) -> None:
    """The viewer's panels through all changes of the messages, and the picture that is drawn at the end."""
    from splat.viewer import path_panel
    from splat.viewer.initial_view import first_view
    from splat.viewer.page import Page, SceneCloud, pose_of
    from splat.viewer.panels import add_panels
    from splat.viewer.render_modes import Look

    value = _parsed(path)
    camera, events = (value.get("camera"), value.get("events")) if isinstance(value, dict) else (None, None)
    clouds = [fuzz_formats.sample_cloud(30, 1, seed) for seed in (0, 1)]
    client = _client(camera if isinstance(camera, dict) else POSE)
    server = _Server(client)
    # The longest path that the page lets one ask for has 72,000 cameras, which takes half a minute by its nature.
    with tempfile.TemporaryDirectory() as folder, patch.object(path_panel, "MOST_SECONDS", 2.0):
        named = [SceneCloud(name, cloud, 1000) for name, cloud in zip("ab", clouds, strict=True)]
        page = Page(server, named, first_view(clouds[0], None, None), Look(), None, Path(folder))
        page._poses[1] = pose_of(client)
        add_panels(page)
        for event in events if isinstance(events, list) else []:
            if isinstance(event, list) and len(event) == 2 and isinstance(event[0], str):
                server.gui.receive(*event)
        camera = page.pose(client).camera(48)
        drawn = page.draw(camera)
        assert drawn.shape == (camera.height, camera.width, 3) and str(drawn.dtype) == "uint8", drawn.shape


class _Anything:
    """Takes every call and attribute, such as those of what is shown in the scene."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *arguments, **more: _Anything()


class _Control:
    """A control of the page: a value, what else is set of it, and the functions that its changes call."""

    def __init__(self, value: Any) -> None:
        self.value, self.functions = value, []

    def on_update(self, function: Callable[[Any], None]) -> None:
        self.functions.append(function)

    on_click = on_update

    def receive(self, value: Any, client: Any) -> None:
        """As viser does: what cannot be cast to the type of the control is not taken."""
        try:
            if isinstance(self.value, tuple):
                value = tuple(type(self.value[0])(each) for each in value) if self.value else tuple(value)
            elif self.value is not None:
                value = type(self.value)(value)
        except (ValueError, TypeError, OverflowError):
            return
        self.value = value
        for function in self.functions:
            function(SimpleNamespace(client=client, target=self))


class _Gui:
    """Makes controls, and finds them by their labels."""

    def __init__(self, client: Any) -> None:
        self.client, self.controls = client, {}

    def add_folder(self, *_: Any, **__: Any) -> Any:
        return _folder()

    def configure_theme(self, **_: Any) -> None:
        pass

    def __getattr__(self, kind: str) -> Callable[..., _Control]:
        def add(label: str, *given: Any, **more: Any) -> _Control:
            at = {"add_slider": 3}.get(kind, 0)
            value = more.get("initial_value", given[at] if len(given) > at else None)
            control = self.controls[label] = _Control(value)
            return control

        return add

    def receive(self, label: str, value: Any) -> None:
        """A message of the browser about the control named ``label``."""
        if label in self.controls and label not in LONG:
            self.controls[label].receive(value, self.client)


class _Server(_Anything):
    """What `splat.viewer.page.Page` needs of viser's server, with one browser."""

    def __init__(self, client: Any) -> None:
        self.client, self.gui, self.scene, self.initial_camera = client, _Gui(client), _Anything(), SimpleNamespace()

    def get_clients(self) -> dict[int, Any]:
        return {1: self.client}


@contextmanager
def _folder() -> Iterator[None]:
    yield
