"""The photos of the scene: small pictures, going to where one was taken, and comparing it with its render."""

import threading
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from splat.viewer import values
from splat.viewer.page import Comparison, Page, frustum

SMALL = 320  # pixels, longer side of the small picture in the panel
TINY = 96  # the same, of those on the cameras in the scene
MOST_PICTURED = 200  # cameras that get a small picture: each is a decoded photo


def add_photo_panel(page: Page, comparisons: Sequence[str]) -> None:
    """The photos' cameras: frusta, jumping to one, and comparing photo and picture."""
    gui, views = page.server.gui, page.scene.views
    names = tuple(view.name for view in views)
    start = names.index((page.scene.test_views or views)[0].name)
    with gui.add_folder("Photos"):
        choice = gui.add_dropdown("Photo", names, initial_value=names[start])
        small = gui.add_image(np.full((8, 12, 3), 24, np.uint8), label=None, format="jpeg")
        steps = gui.add_button_group("Photos", ("previous", "next"))
        jump = gui.add_button("Go to photo")
        how = gui.add_dropdown("Compare", comparisons, initial_value="off")
        fraction = gui.add_slider("Divide at", 0.0, 1.0, 0.01, 0.5)
        shown = gui.add_checkbox("Show cameras", False)
    nodes = [
        frustum(page, f"/cameras/{i}", view.camera, 0.05 * page.scene.extent, color=(255, 170, 60), visible=False)
        for i, view in enumerate(views)
    ]
    for number, node in enumerate(nodes):
        node.on_click(lambda event, number=number: (setattr(choice, "value", names[number]), go(event, number)))

    def chosen() -> int:
        return names.index(values.choice(choice, names))

    def go(event: Any, number: int) -> None:
        camera = page.scene.views[number].camera
        distance = float((page.scene.focus.double() - camera.position.double()) @ camera.forward.double())
        page.look_from(event.client, camera, max(distance, 1e-2 * page.scene.extent))

    jump.on_click(lambda event: go(event, chosen()))

    @steps.on_click
    def _(_: Any) -> None:
        forward = 1 if steps.value == "next" else -1
        choice.value = names[(chosen() + forward) % len(names)]

    def compared(_: Any) -> None:
        with page.lock:
            way, number = values.choice(how, comparisons), chosen()
            off = way == "off"
            small.image = shrunk(page.photo(number), SMALL)
            if not off or page.settings.comparison is not None:
                page.change(comparison=None if off else Comparison(way, values.number(fraction, 0, 1), view=number))

    for control in (choice, how, fraction):
        control.on_update(compared)

    filled = threading.Event()

    @shown.on_update
    def _(_: Any) -> None:
        for node in nodes:
            node.visible = shown.value
        if shown.value and not filled.is_set():
            filled.set()
            threading.Thread(target=fill, daemon=True, name="viewer photos").start()

    def fill() -> None:
        """Put the photos onto their cameras, one after the other."""
        for node, view in list(zip(nodes, views, strict=True))[:MOST_PICTURED]:
            node.image = shrunk(np.asarray(view.load().rgb), TINY)

    threading.Thread(target=compared, args=(None,), daemon=True, name="viewer photo").start()


def shrunk(image: np.ndarray, longer: int) -> np.ndarray:
    """``image`` (H, W, 3) uint8 with at most ``longer`` pixels on its longer side."""
    factor = min(1.0, longer / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
