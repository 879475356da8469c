"""The panels beside the picture: clouds, picture, filters, files. Photos and camera paths have files of their own."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from splat.errors import InputError
from splat.text import amount
from splat.viewer import filters as editing
from splat.viewer import values
from splat.viewer.page import Comparison, Page, SceneCloud
from splat.viewer.path_panel import add_path_panel
from splat.viewer.photo_panel import add_photo_panel
from splat.viewer.render_modes import MODES

RENDERERS = ("server", "browser")
COMPARISONS = ("off", "slider", "blend", "side by side", "difference")


def add_panels(page: Page) -> None:
    """Add every panel to ``page``."""
    set_theme(page)
    add_cloud_panel(page)
    add_render_panel(page)
    if page.scene is not None:
        add_photo_panel(page, COMPARISONS)
    add_filter_panel(page)
    add_path_panel(page)
    add_save_panel(page)


def set_theme(page: Page) -> None:
    """The look of all panels."""
    page.server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, control_width="medium")


def add_cloud_panel(page: Page) -> None:
    """Names, sizes, a check box and a transform for each cloud, and two of them in one picture."""
    gui = page.server.gui

    def switched(box: Any, cloud: SceneCloud) -> None:
        with page.lock:
            page.change_cloud(cloud, shown=box.value)

    with gui.add_folder("Clouds"):
        for cloud in page.clouds:
            box = gui.add_checkbox(cloud.name, cloud.shown, hint=cloud.size)
            gui.add_markdown(cloud.size)
            box.on_update(lambda event, cloud=cloud: switched(event.target, cloud))
        if len(page.clouds) > 1:
            _pair(page)
        with gui.add_folder("Transform", expand_by_default=False):
            _transform_panel(page)


def _pair(page: Page) -> None:
    """Two clouds beside each other, such as an original and what compressing made of it."""
    gui = page.server.gui
    names = [f"{number}: {cloud.name}" for number, cloud in enumerate(page.clouds, 1)]
    how = gui.add_dropdown("Compare", COMPARISONS, initial_value="off")
    left = gui.add_dropdown("Left", names, initial_value=names[0])
    right = gui.add_dropdown("Right", names, initial_value=names[1])
    fraction = gui.add_slider("Divide at", 0.0, 1.0, 0.01, 0.5)
    facts = gui.add_markdown("")

    def changed(_: Any) -> None:
        with page.lock:
            pair = names.index(values.choice(left, names)), names.index(values.choice(right, names))
            way = values.choice(how, COMPARISONS)
            a, b = (page.clouds[index] for index in pair)
            times = a.nbytes / max(b.nbytes, 1)
            facts.content = f"{amount(a.nbytes)} → {amount(b.nbytes)}: {times:.1f} times smaller"
            page.change(comparison=None if way == "off" else Comparison(way, values.number(fraction, 0, 1), pair=pair))

    for control in (how, left, right, fraction):
        control.on_update(changed)


def _transform_panel(page: Page) -> None:
    """Position, rotation and scale of one cloud among the others."""
    gui = page.server.gui
    names = [f"{number}: {cloud.name}" for number, cloud in enumerate(page.clouds, 1)]
    which = gui.add_dropdown("Cloud", names, initial_value=names[0]) if len(names) > 1 else None
    position = gui.add_vector3("Position", (0.0, 0.0, 0.0), step=0.01)
    degrees = gui.add_vector3("Rotation, °", (0.0, 0.0, 0.0), step=1.0)
    scale = gui.add_number("Scale", 1.0, min=0.001, max=1000.0, step=0.01)
    filling = False

    def cloud() -> Any:
        return page.clouds[names.index(values.choice(which, names)) if which else 0]

    def transformed(_: Any) -> None:
        with page.lock:
            if filling:
                return
            turned, size = values.vector(degrees), values.number(scale, 0.001, 1000)
            page.change_cloud(cloud(), position=values.vector(position), degrees=turned, scale=size)

    for control in (position, degrees, scale):
        control.on_update(transformed)

    def chosen(_: Any) -> None:
        nonlocal filling
        with page.lock:
            filling = True  # these changes come from the cloud; they must not go back to it one by one
            position.value, degrees.value, scale.value = cloud().position, cloud().degrees, cloud().scale
            filling = False

    if which is not None:
        which.on_update(chosen)


def add_render_panel(page: Page) -> None:
    """Renderer, mode, SH degree, background and field of view."""
    gui, look = page.server.gui, page.settings.look
    with gui.add_folder("Rendering"):
        renderer = gui.add_dropdown("Renderer", RENDERERS, initial_value=page.settings.renderer)
        note = gui.add_markdown("", visible=False)
        mode = gui.add_dropdown("Mode", MODES, initial_value=look.mode)
        degree = gui.add_slider("SH degree", 0, 4, 1, look.sh_degree)
        background = gui.add_rgb("Background", tuple(round(255 * channel) for channel in look.background))
        fov = gui.add_slider("Field of view, °", 10.0, 120.0, 1.0, min(max(round(page.first.fov), 10), 120))
        reset = gui.add_button("First view")
        snapshot = gui.add_button("Snapshot (PNG)")

    @renderer.on_update
    def _(_: Any) -> None:
        with page.lock:
            page.change(renderer=values.choice(renderer, RENDERERS))
            count = len(page.cloud())
            note.visible = renderer.value == "browser"
            note.content = "The browser shows colour without view dependence." + (
                f" Of {count:,} Gaussians it gets the {editing.BROWSER_LIMIT:,} that matter most."
                if count > editing.BROWSER_LIMIT
                else ""
            )

    def redraw(_: Any) -> None:
        with page.lock:
            colour, bands = values.colour(background), int(values.number(degree, 0, 4))
            way = values.choice(mode, MODES)
            page.change(look=dataclasses.replace(page.settings.look, mode=way, sh_degree=bands, background=colour))

    for control in (mode, degree, background):
        control.on_update(redraw)

    @fov.on_update
    def _(_: Any) -> None:
        with page.lock:
            for client in page.server.get_clients().values():
                client.camera.fov = float(np.radians(values.number(fov, 10, 120)))

    @reset.on_click
    def _(event: Any) -> None:
        first = page.first
        page.look_from(event.client, first.camera(16, 9), float((first.target - first.position).norm()))

    @snapshot.on_click
    def _(event: Any) -> None:
        event.client.send_file_download("snapshot.png", page.snapshot(event.client), save_immediately=True)


def add_filter_panel(page: Page) -> None:
    """Opacity and size filters, and the crop box."""
    gui = page.server.gui
    filled = [cloud.cloud for cloud in page.clouds if len(cloud.cloud)]
    scales = torch.cat([cloud.log_scales.amax(1).cpu() for cloud in filled]).nan_to_num().exp()
    low = torch.stack([cloud.bounds()[0].cpu() for cloud in filled]).amin(0).nan_to_num().tolist()
    high = torch.stack([cloud.bounds()[1].cpu() for cloud in filled]).amax(0).nan_to_num().tolist()
    with gui.add_folder("Filter and crop", expand_by_default=False):
        opacity = gui.add_slider("Min opacity", 0.0, 1.0, 0.01, 0.0)
        largest = gui.add_slider(
            "Max size, %", 0.0, 100.0, 0.1, 100.0, hint="Keep this percentage of the Gaussians, the smallest ones."
        )
        crop = gui.add_checkbox("Crop box", False)
        low, high = rounded_out(low, high)
        lower = gui.add_vector3("Low corner", low, step=0.05)
        upper = gui.add_vector3("High corner", high, step=0.05)
        left = gui.add_markdown(f"{sum(map(len, filled)):,} Gaussians left")
    ordered = scales.sort().values

    def filtered(_: Any) -> None:
        with page.lock:
            fraction = values.number(largest, 0, 100) / 100
            limit = None if fraction >= 1 else float(ordered[int(fraction * (len(ordered) - 1))])
            box = (values.vector(lower), values.vector(upper)) if crop.value else None
            page.change(edits=editing.Edits(values.number(opacity, 0, 1), limit, box))
            left.content = f"{len(page.cloud()):,} Gaussians left"

    for control in (opacity, largest, crop, lower, upper):
        control.on_update(filtered)


def rounded_out(low: Sequence[float], high: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The box from ``low`` to ``high``, enlarged to corners of so few digits that the panel's fields show them."""
    extent = max(b - a for a, b in zip(low, high, strict=True))
    digits = 2 - math.floor(math.log10(extent)) if extent > 0 else 3
    unit = 10.0**-digits
    return (
        tuple(round(math.floor(value / unit) * unit, max(digits, 0)) for value in low),
        tuple(round(math.ceil(value / unit) * unit, max(digits, 0)) for value in high),
    )


def add_save_panel(page: Page) -> None:
    """Saving what is left of the cloud into the served folder."""
    gui = page.server.gui
    with gui.add_folder("Save"):
        name = gui.add_text("Name", "edited.ply", hint="Its ending chooses the format: .ply, .spz, .sog, …")
        save = gui.add_button(
            "Save cloud", hint=f"The shown clouds, transformed, filtered and cropped, into {page.folder.name}/"
        )

    @save.on_click
    def _(event: Any) -> None:
        try:
            cloud = page.cloud()
            target = editing.save(cloud, page.folder, name.value)
        except InputError as error:
            event.client.add_notification("Not saved", str(error), color="red")
            return
        event.client.add_notification("Saved", f"{target.name}: {len(cloud):,} Gaussians", color="green")
