"""The panels beside the picture."""

import dataclasses
from typing import Any

import numpy as np
import torch

from splat.cloud import matrix_to_quaternion
from splat.errors import InputError
from splat.viewer import edits as editing
from splat.viewer.drawing import MODES

COMPARISONS = ("off", "slider", "blend", "side by side", "difference")


def add_panels(page: Any) -> None:
    """Add every panel to ``page`` (a `splat.viewer.page.Page`)."""
    page.server.gui.configure_theme(dark_mode=True, show_logo=False, show_share_button=False, control_width="medium")
    clouds(page)
    drawing(page)
    filters(page)
    if page.scene is not None:
        photos(page)
    files(page)


def clouds(page: Any) -> None:
    """Names, sizes and a check box for each cloud."""
    gui = page.server.gui
    with gui.add_folder("Clouds"):
        for entry in page.entries:
            box = gui.add_checkbox(entry.name, entry.shown, hint=f"{len(entry.cloud):,} Gaussians")
            gui.add_markdown(f"{len(entry.cloud):,} Gaussians · {entry.nbytes / 1e6:.1f} MB")
            box.on_update(lambda event, entry=entry: page.show_entry(entry, event.target.value))


def drawing(page: Any) -> None:
    """Renderer, mode, SH degree, background and field of view."""
    gui, look = page.server.gui, page.settings.look
    with gui.add_folder("Picture"):
        renderer = gui.add_dropdown("Renderer", ("server", "browser"), initial_value=page.settings.renderer)
        note = gui.add_markdown("", visible=False)
        mode = gui.add_dropdown("Mode", MODES, initial_value=look.mode)
        degree = gui.add_slider("SH degree", 0, 4, 1, look.sh_degree)
        background = gui.add_rgb("Background", tuple(round(255 * channel) for channel in look.background))
        fov = gui.add_slider("Field of view", 10.0, 120.0, 1.0, round(page.first.fov))
        reset = gui.add_button("First view")

    @renderer.on_update
    def _(_: Any) -> None:
        page.change(renderer=renderer.value)
        count = len(page.cloud())
        note.visible = renderer.value == "browser"
        note.content = "The browser shows colour without view dependence." + (
            f" Of {count:,} Gaussians it gets the {editing.BROWSER_LIMIT:,} that matter most."
            if count > editing.BROWSER_LIMIT
            else ""
        )

    def redraw(_: Any) -> None:
        colour = tuple(channel / 255 for channel in background.value)
        changed = dataclasses.replace(page.settings.look, mode=mode.value, sh_degree=degree.value, background=colour)
        page.change(look=changed)

    for control in (mode, degree, background):
        control.on_update(redraw)

    @fov.on_update
    def _(_: Any) -> None:
        for client in page.server.get_clients().values():
            client.camera.fov = float(np.radians(fov.value))

    @reset.on_click
    def _(event: Any) -> None:
        camera = event.client.camera
        camera.position, camera.look_at = page.first.position.numpy(), page.first.target.numpy()
        camera.up_direction = page.first.up.numpy()


def filters(page: Any) -> None:
    """Opacity and size filters, and the crop box."""
    gui = page.server.gui
    filled = [entry.cloud for entry in page.entries if len(entry.cloud)]
    scales = torch.cat([cloud.log_scales.amax(1).cpu() for cloud in filled]).nan_to_num().exp()
    low = torch.stack([cloud.bounds()[0].cpu() for cloud in filled]).amin(0).nan_to_num().tolist()
    high = torch.stack([cloud.bounds()[1].cpu() for cloud in filled]).amax(0).nan_to_num().tolist()
    with gui.add_folder("Filter and crop", expand_by_default=False):
        opacity = gui.add_slider("Min opacity", 0.0, 1.0, 0.01, 0.0)
        largest = gui.add_slider(
            "Max size, %", 0.0, 100.0, 0.1, 100.0, hint="Keep this share of the Gaussians: the smallest ones."
        )
        crop = gui.add_checkbox("Crop box", False)
        lower = gui.add_vector3("Low corner", tuple(low), step=0.05)
        upper = gui.add_vector3("High corner", tuple(high), step=0.05)
        left = gui.add_markdown(f"{sum(map(len, filled)):,} Gaussians left")
    ordered = scales.sort().values

    def filtered(_: Any) -> None:
        share = largest.value / 100
        limit = None if share >= 1 else float(ordered[int(share * (len(ordered) - 1))])
        box = (tuple(lower.value), tuple(upper.value)) if crop.value else None
        page.change(edits=editing.Edits(opacity.value, limit, box))
        left.content = f"{len(page.cloud()):,} Gaussians left"

    for control in (opacity, largest, crop, lower, upper):
        control.on_update(filtered)


def photos(page: Any) -> None:
    """The photos' cameras: frusta, jumping to one, and comparing photo and picture."""
    gui, views = page.server.gui, page.scene.views
    names = tuple(view.name for view in views)
    with gui.add_folder("Photos"):
        choice = gui.add_dropdown("Photo", names, initial_value=names[0])
        jump = gui.add_button("Go to photo")
        how = gui.add_dropdown("Compare", COMPARISONS, initial_value="off")
        share = gui.add_slider("Slider", 0.0, 1.0, 0.01, 0.5)
        frusta = gui.add_checkbox("Show cameras", False)
    nodes = [_frustum(page, number) for number in range(len(views))]

    @jump.on_click
    def _(event: Any) -> None:
        go_to(page, event.client, names.index(choice.value))

    def compared(_: Any) -> None:
        page.change(view=names.index(choice.value), compare=how.value, share=share.value)

    for control in (choice, how, share):
        control.on_update(compared)

    @frusta.on_update
    def _(_: Any) -> None:
        for node in nodes:
            node.visible = frusta.value


def _frustum(page: Any, number: int) -> Any:
    camera = page.scene.views[number].camera
    pose = camera.camera_to_world.double()
    return page.server.scene.add_camera_frustum(
        f"/cameras/{number}",
        fov=2 * float(np.arctan(0.5 * camera.height / camera.fy)),
        aspect=camera.width / camera.height,
        scale=0.05 * page.scene.extent,
        color=(255, 170, 60),
        wxyz=matrix_to_quaternion(pose[:3, :3]).numpy(),
        position=pose[:3, 3].numpy(),
        visible=False,
    )


def go_to(page: Any, client: Any, number: int) -> None:
    """Put a browser's camera where the photo ``number`` was taken."""
    camera = page.scene.views[number].camera
    position, forward = camera.position.double(), camera.forward.double()
    distance = max(float((page.scene.focus.double() - position) @ forward), 1e-2 * page.scene.extent)
    with client.atomic():
        client.camera.position = position.numpy()
        client.camera.look_at = (position + distance * forward).numpy()
        client.camera.up_direction = -camera.world_to_camera[1, :3].double().numpy()
        client.camera.fov = 2 * float(np.arctan(0.5 * camera.height / camera.fy))


def files(page: Any) -> None:
    """Snapshots, and saving what is left of the cloud into the served folder."""
    gui = page.server.gui
    with gui.add_folder("Files"):
        snapshot = gui.add_button("Snapshot (PNG)")
        name = gui.add_text("Name", "edited.ply", hint="Its ending chooses the format: .ply, .spz, .sog, …")
        save = gui.add_button("Save cloud", hint=f"The shown clouds, filtered and cropped, into {page.folder.name}/")

    @snapshot.on_click
    def _(event: Any) -> None:
        event.client.send_file_download("snapshot.png", page.snapshot(event.client))

    @save.on_click
    def _(event: Any) -> None:
        try:
            cloud = page.cloud()
            target = editing.save(cloud, page.folder, name.value)
        except InputError as error:
            event.client.add_notification("Not saved", str(error), color="red")
            return
        event.client.add_notification("Saved", f"{target.name}: {len(cloud):,} Gaussians", color="green")
