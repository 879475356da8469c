"""``splat render``: renders a run or a cloud to images or to a video."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

import tyro

from splat.cli.console import counter, parse, say
from splat.cli.inputs import LoadedCloud, on_device, open_cloud, open_scene
from splat.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from splat.camera import Camera
    from splat.cloud import GaussianCloud
    from splat.rendering import Rendering


@dataclass(frozen=True)
class Render:
    """Render a run or a cloud from the held-out views, from an orbit, or along a camera path."""

    path: tyro.conf.Positional[Path]
    """Run folder, or cloud file, to render."""
    out: tyro.conf.Positional[Path]
    """Folder for PNG images, or a file ending in .mp4 for a video."""
    along: str | None = None
    """Cameras to render: test (held-out views), all (every view), orbit, spiral, or a camera path file (nerfstudio's
    JSON); by default orbit for a video or where no scene is known, else test."""
    scene: Path | None = None
    """Scene with the photos and cameras; by default the one that the run was trained on."""
    what: Literal["rgb", "depth", "normal", "alpha"] = "rgb"
    """Colour, expected depth (near red, far blue), surface normals, or accumulated alpha."""
    up: tuple[float, float, float] = (0.0, -1.0, 0.0)
    """Up direction in world coordinates, for the orbit around a cloud without a scene."""
    frames: int = 240
    """Number of frames of an orbit or a spiral."""
    fps: float | None = None
    """Frame rate of the video, frames per second; by default 30, or that of the camera path."""
    width: int | None = None
    """Width of the images, pixels; by default that of the cameras."""
    appearance: Path | None = None
    """Photo of the scene whose appearance the images get, for runs trained with --appearance.features: an appearance
    embedding (NeRF in the Wild, Martin-Brualla et al. 2021) fitted to that photo."""
    background: tuple[float, float, float] | None = None
    """Background colour, red green blue from 0 to 1; by default as in training."""
    downscale: float | None = None
    """Divide the photos' width and height by this factor; by default as in the run."""
    max_side: int | None = None
    """Scale the photos down so that the longer side is at most this, pixels; by default as in the run."""
    backend: Literal["auto", "cpu", "cuda", "gsplat", "reference"] = "auto"
    """Rendering backend; auto is cuda where it works, else cpu."""


@dataclass(frozen=True)
class CameraShot:
    """One picture to draw: the name of its file, without ending, and its camera."""

    name: str
    camera: "Camera"


def run(arguments: Sequence[str]) -> None:
    """Run ``splat render``."""
    options = parse("render", Render, arguments)
    check(options)
    source = open_cloud(options.path)
    shots, fps = plan(options, source)
    if options.width is not None:
        shots = [CameraShot(shot.name, widened(shot.camera, options.width)) for shot in shots]
    source = replace(source, cloud=on_device(source.cloud, options.backend))
    if options.appearance is not None:
        source = with_appearance(options, source)
    pictures = draw(source.cloud, shots, source, options)
    with counter("rendering") as progress:
        if options.out.suffix.lower() == ".mp4":
            from splat.video import write_video

            write_video(options.out, counted(pictures, len(shots), progress), fps)
        else:
            write_pictures(options.out, shots, counted(pictures, len(shots), progress))
    say(f"{options.out}: {len(shots)} pictures, {shots[0].camera.width}×{shots[0].camera.height}")


def check(options: Render) -> None:
    """Refuse, before anything slow, what cannot be drawn or written."""
    if options.out.suffix.lower() == ".mp4":
        from splat.video import check_av

        check_av()
    elif options.out.suffix or options.out.is_file():
        raise InputError(f"{options.out} is neither a folder nor an .mp4 file; choose one of these to write to")
    for name in ("frames", "width", "fps"):
        value = getattr(options, name)
        if value is not None and not value > 0:
            raise InputError(f"--{name} is {value}, expected more than 0")
    if options.background is not None and not all(0 <= channel <= 1 for channel in options.background):
        raise InputError(f"--background is {options.background}, expected three numbers from 0 to 1")


def plan(options: Render, source: LoadedCloud) -> tuple[list[CameraShot], float]:
    """Which pictures to draw, and the pictures per second of a video."""
    from splat.viewpoints import paths as camera_paths

    known = options.scene is not None or source.config is not None
    along = options.along or ("orbit" if options.out.suffix.lower() == ".mp4" or not known else "test")
    fps = options.fps or 30.0
    if along in ("test", "all") or (along in ("orbit", "spiral") and known):
        scene = open_scene(source, options.scene, options.downscale, options.max_side)
        if along in ("test", "all"):
            views = scene.test_views if along == "test" else scene.views
            return [CameraShot(stem(view.name), view.camera) for view in views], fps
        cameras = getattr(camera_paths, along)(scene, options.frames)
    elif along == "orbit":
        cameras = orbit_of_cloud(source.cloud, options.frames, options.up)
    elif along == "spiral":
        raise InputError("a spiral follows the photos of a scene; name it with --scene FOLDER, or use --along orbit")
    else:
        cameras, path_fps = camera_paths.read(along, source.cloud.georeference)
        fps = options.fps or path_fps
    return [CameraShot(f"frame_{number:05}", camera) for number, camera in enumerate(cameras)], fps


def with_appearance(options: Render, source: LoadedCloud) -> LoadedCloud:
    """``source`` in the colours of the photo ``--appearance``, on the background that suits them."""
    from splat.priors.wild.photo_appearance import view_of_photo, with_appearance_of

    scene = open_scene(source, options.scene, options.downscale, options.max_side)
    view = view_of_photo(scene, options.appearance)
    cloud, behind = with_appearance_of(source.cloud, view, source.render_options, options.backend)
    return replace(source, cloud=cloud, background=behind)


def stem(name: str) -> str:
    """A view's name as that of a file in one folder."""
    return str(PurePosixPath(name).with_suffix("")).replace("/", "_")


def widened(camera: "Camera", width: int) -> "Camera":
    """``camera`` at another width, its sides in the same proportion."""
    return camera.resized(width, max(1, round(camera.height * width / camera.width)))


def orbit_of_cloud(cloud: "GaussianCloud", frames: int, upwards: tuple[float, float, float]) -> list["Camera"]:
    """A circle, 20° above level, around the middle of a cloud of which nothing else is known."""
    import torch

    from splat.camera import Camera

    centres = cloud.means[cloud.finite()].double()
    up = torch.tensor(upwards, dtype=torch.float64)
    if len(centres) == 0 or float(up.norm()) == 0:
        raise InputError("there is nothing to turn around: the cloud is empty, or --up has no length")
    up = up / up.norm()
    ahead = torch.linalg.cross(up, torch.eye(3, dtype=torch.float64)[int(up.abs().argmin())])
    ahead = ahead / ahead.norm()
    right = torch.linalg.cross(ahead, up)
    middle = centres.median(0).values
    distances = (centres - middle).norm(dim=1).sort().values
    distance, height = 2.5 * max(float(distances[int(0.9 * (len(distances) - 1))]), 1e-6), math.radians(20)
    cameras = []
    for number in range(frames):
        angle = 2 * math.pi * number / frames
        level = math.cos(angle) * ahead + math.sin(angle) * right
        position = middle + distance * (math.cos(height) * level + math.sin(height) * up)
        cameras.append(Camera.look_at(position, middle, up, 960, 720))
    return cameras


# ---- pictures ----


def draw(
    cloud: "GaussianCloud", shots: Sequence[CameraShot], source: LoadedCloud, options: Render
) -> Iterator["np.ndarray"]:
    """The pictures one after the other, (H, W, 3) uint8."""
    from splat.rendering import render

    drawing = replace(
        source.render_options,
        background=options.background or source.background,
        depth=options.what == "depth",
        normal=options.what == "normal",
    )
    for shot in shots:
        yield show(render(cloud, shot.camera, options.backend, drawing), options.what)


def show(rendering: "Rendering", what: str) -> "np.ndarray":
    """One aspect of ``rendering`` as a picture, (H, W, 3) uint8."""
    import cv2
    import numpy as np

    if what == "rgb":
        picture = rendering.rgb
    elif what == "alpha":
        picture = rendering.alpha[..., None].expand(-1, -1, 3)
    elif what == "normal":
        length = rendering.normal.norm(dim=-1, keepdim=True).clamp_min(1e-9)
        # x right, y up, z towards the viewer, as normal maps are usually coloured.
        picture = 0.5 + 0.5 * rendering.normal / length * rendering.normal.new_tensor([1.0, -1.0, -1.0])
        picture = picture * (rendering.alpha[..., None] > 0)
    else:
        depth = rendering.depth.cpu().numpy()
        seen = depth > 0
        nearness = np.zeros_like(depth)
        nearness[seen] = 1 / depth[seen]
        low, high = np.quantile(nearness[seen], [0.01, 0.99]) if seen.any() else (0.0, 1.0)
        levels = (255 * np.clip((nearness - low) / max(high - low, 1e-12), 0, 1)).astype(np.uint8)
        colours = cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB)
        return colours * seen[..., None]
    return (picture.clamp(0, 1) * 255 + 0.5).byte().cpu().numpy()


def counted(pictures: Iterator["np.ndarray"], total: int, progress) -> Iterator["np.ndarray"]:
    """``pictures``, telling ``progress`` how many have been taken."""
    for number, picture in enumerate(pictures):
        yield picture
        progress(number + 1, total)


def write_pictures(folder: Path, shots: Sequence[CameraShot], pictures: Iterator["np.ndarray"]) -> None:
    """Write each picture as PNG into ``folder`` under the name of its shot."""
    from splat.images import write_image

    for shot, picture in zip(shots, pictures, strict=True):
        write_image(folder / f"{shot.name}.png", picture)
