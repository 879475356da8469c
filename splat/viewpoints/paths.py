"""Camera paths for videos: around a scene, through given cameras, and from a file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from splat.camera import Camera
from splat.coordinates import AT_ZERO, FARTHEST, Georeference
from splat.errors import InputError
from splat.files import write_json
from splat.reading import member, parse_json, read_bytes, reason_of, typed
from splat.scene.scene import Scene
from splat.viewpoints.splines import hermite, hermite_rotations

# A scene is photographed from all around when no gap between neighbouring cameras is wider than this.
WIDEST_GAP = math.radians(100)

LARGEST_SIDE = 1 << 14  # pixels, of the pictures of a path file
MOST_FRAMES = 100_000  # of a path file: an hour
SMALLEST_FOV = 1e-3  # degrees


@dataclass(frozen=True)
class Surround:
    """How the cameras of a scene stand around what they look at.

    Attributes:
        focus, up, ahead, right: (3,) float64; a point, and unit axes: ahead and right lie level.
        azimuth: (V,) radians from ahead towards right. elevation: (V,) radians above level. distance: (V,) from focus.
        arc: (first, last) azimuth between which cameras stand; 2π apart when they stand all around.
        camera: typical intrinsics.
    """

    focus: Tensor
    up: Tensor
    ahead: Tensor
    right: Tensor
    azimuth: Tensor
    elevation: Tensor
    distance: Tensor
    arc: tuple[float, float]
    camera: Camera

    @property
    def all_around(self) -> bool:
        """Whether cameras stand on every side."""
        return self.arc[1] - self.arc[0] > 2 * math.pi - 1e-9

    def at(self, azimuth: float, elevation: float, distance: float) -> Camera:
        """The camera there, facing the focus."""
        level = math.cos(azimuth) * self.ahead + math.sin(azimuth) * self.right
        position = self.focus + distance * (math.cos(elevation) * level + math.sin(elevation) * self.up)
        aimed = Camera.look_at(position, self.focus, self.up, self.camera.width, self.camera.height)
        return self.camera.replace(world_to_camera=aimed.world_to_camera)


def surround(scene: Scene) -> Surround:
    """Measure how the cameras of ``scene`` stand around its focus."""
    up = scene.up / scene.up.norm()
    arms = scene.positions - scene.focus
    distance = arms.norm(dim=1).clamp_min(1e-12)
    height = (arms @ up / distance).clamp(-1, 1)
    level = arms - (arms @ up)[:, None] * up
    ahead = level[level.norm(dim=1).argmax()]
    if ahead.norm() < 1e-9 * distance.max():  # every camera stands straight above or below the focus
        ahead = torch.linalg.cross(up, torch.eye(3, dtype=up.dtype)[int(up.abs().argmin())])
    ahead = ahead / ahead.norm()
    right = torch.linalg.cross(ahead, up)
    azimuth = torch.atan2(level @ right, level @ ahead)
    focals = torch.tensor([view.camera.fx / view.camera.width for view in scene.views])
    typical = scene.views[int((focals - focals.median()).abs().argmin())].camera
    centred = typical.replace(cx=typical.width / 2, cy=typical.height / 2)
    return Surround(scene.focus, up, ahead, right, azimuth, torch.asin(height), distance, _arc(azimuth), centred)


def _arc(azimuth: Tensor) -> tuple[float, float]:
    """The shortest arc that holds all azimuths; the full circle if that leaves no wide gap."""
    order = azimuth.sort().values
    gaps = torch.cat([order[1:] - order[:-1], order[:1] + 2 * math.pi - order[-1:]])
    widest = int(gaps.argmax())
    if gaps[widest] < WIDEST_GAP:
        return float(order[0]), float(order[0]) + 2 * math.pi
    first = float(order[(widest + 1) % len(order)])
    return first, first + 2 * math.pi - float(gaps[widest])


def orbit(scene: Scene, frames: int = 240, turns: float = 1.0) -> list[Camera]:
    """Around the focus at the typical distance and height of the photos; closed, so that a video may loop.

    Where photos were taken from one side only, it swings to and fro between the outermost ones instead.
    """
    around = surround(scene)
    elevation, distance = float(around.elevation.median()), float(around.distance.median())
    return [around.at(_azimuth(around, i / _count(frames), turns), elevation, distance) for i in range(frames)]


def spiral(scene: Scene, frames: int = 360, turns: float = 2.0) -> list[Camera]:
    """Like `orbit`, while height and distance go once from the lower photos to the upper ones and back."""
    around = surround(scene)
    low, high = (float(q) for q in around.elevation.quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)))
    cameras = []
    for i in range(frames):
        fraction = 0.5 - 0.5 * math.cos(2 * math.pi * i / _count(frames))
        elevation = low + (high - low) * fraction
        # The distance at which the photos of about this height were taken.
        weight = torch.exp(-(((around.elevation - elevation) / max(0.3 * (high - low), 0.05)) ** 2))
        distance = float((weight * around.distance).sum() / weight.sum())
        cameras.append(around.at(_azimuth(around, i / _count(frames), turns), elevation, distance))
    return cameras


def _azimuth(around: Surround, fraction: float, turns: float) -> float:
    """Where the camera is after ``fraction`` of the path."""
    first, last = around.arc
    if around.all_around:
        return 2 * math.pi * turns * fraction
    # A pendulum: from the middle to one side, the other, and back.
    return (first + last) / 2 + (last - first) / 2 * 0.9 * math.sin(2 * math.pi * fraction * max(1, round(turns)))


def through(cameras: Sequence[Camera], frames: int = 240, closed: bool = False) -> list[Camera]:
    """A smooth path through ``cameras`` in their order, at an even pace.

    Positions follow a Catmull-Rom spline, rotations its counterpart on the sphere (Kim, Kim and Shin, "A general
    construction scheme for unit quaternion curves", 1995); both have no jumps in speed. Focal lengths and principal
    points go along; pictures have the size of the first camera.

    Args:
        cameras: at least two.
        closed: go on from the last to the first; the path then ends one frame before it begins again.
    """
    if len(cameras) < 2:
        raise InputError(f"a path was asked for through {len(cameras)} camera; give at least two")
    keys = [*cameras, cameras[0]] if closed else list(cameras)
    first = cameras[0]
    keys = [camera.resized(first.width, first.height) for camera in keys]
    camera_to_world = torch.stack([camera.camera_to_world.to(torch.float64) for camera in keys])
    knots = _knots(camera_to_world)
    length = float(knots[-1])
    times = torch.linspace(0, length, frames + 1 if closed else frames, dtype=torch.float64)[:frames]
    intrinsics = torch.tensor([[c.fx, c.fy, c.cx, c.cy] for c in keys], dtype=torch.float64)
    values = hermite(torch.cat([camera_to_world[:, :3, 3], intrinsics], 1), knots, times, closed)
    rotations = hermite_rotations(camera_to_world[:, :3, :3], knots, times, closed)
    path = []
    for rotation, value in zip(rotations, values, strict=True):
        world_to_camera = torch.eye(4, dtype=torch.float64)
        world_to_camera[:3, :3] = rotation.T
        world_to_camera[:3, 3] = -rotation.T @ value[:3]
        fx, fy, cx, cy = value[3:].tolist()
        path.append(Camera(fx, fy, cx, cy, first.width, first.height, world_to_camera))
    return path


def _knots(camera_to_world: Tensor) -> Tensor:
    """(K,) times at which the keys are met, so that the pace is even: way gone, plus what turning the head takes."""
    steps = (camera_to_world[1:, :3, 3] - camera_to_world[:-1, :3, 3]).norm(dim=1)
    relative = camera_to_world[:-1, :3, :3].transpose(1, 2) @ camera_to_world[1:, :3, :3]
    turns = torch.acos(((relative.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1))
    unit = steps.mean() if steps.mean() > 0 else torch.ones((), dtype=torch.float64)
    times = steps / unit + 0.5 * turns
    # Equal neighbours still need a little time, or the spline divides by zero.
    return torch.cat(
        [torch.zeros(1, dtype=torch.float64), times.clamp_min(1e-3 * float(times.max()) + 1e-12).cumsum(0)]
    )


def _count(frames: int) -> int:
    if frames < 1:
        raise InputError(f"a path of {frames} frames was asked for; give at least 1")
    return frames


# ---- files ----


def write(path: str | Path, cameras: Sequence[Camera], fps: float = 30.0, place: Georeference = AT_ZERO) -> None:
    """Write a camera path as JSON in nerfstudio's layout (camera-to-world with OpenGL axes, vertical field of view).

    Args:
        place: what the ``cameras`` are relative to; the file holds world coordinates.
    """
    first = cameras[0]
    cameras = [camera.about(place, AT_ZERO) for camera in cameras]
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    frames = [
        {
            "camera_to_world": (camera.camera_to_world.to(torch.float64) @ flip).reshape(-1).tolist(),
            "fov": math.degrees(2 * math.atan(camera.height / (2 * camera.fy))),
            "aspect": camera.width / camera.height,
        }
        for camera in cameras
    ]
    content = {
        "render_width": first.width, "render_height": first.height, "fps": fps, "seconds": len(cameras) / fps,
        "camera_type": "perspective", "camera_path": frames,
    }  # fmt: skip
    write_json(path, content)


def read(path: str | Path, place: Georeference = AT_ZERO) -> tuple[list[Camera], float]:
    """Cameras and frames per second of a path file as nerfstudio (and `write`) make it.

    Args:
        place: what the cameras are to be relative to.

    Raises InputError when the file is missing or is not such a path.
    """
    path = Path(path)
    content = parse_json(read_bytes(path), path, "its text")
    try:
        width, height = member(content, "render_width", int), member(content, "render_height", int)
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise ValueError(f"its pictures are of {width:g}×{height:g} pixels, possible are 1 to {LARGEST_SIDE}")
        fps = float(member(content, "fps", float, 30.0))
        if not 0 < fps <= 1000:
            raise ValueError(f"'fps' is {fps}, possible are up to 1000")
        frames = member(content, "camera_path", list)
        if not 1 <= len(frames) <= MOST_FRAMES:
            raise ValueError(f"it has {len(frames):,} frames, possible are 1 to {MOST_FRAMES:,}")
        return [_camera(frame, width, height).about(AT_ZERO, place) for frame in frames], fps
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is no camera path ({reason_of(error)}); expected JSON with render_width, render_height and "
            "camera_path: a list of camera_to_world (16 numbers) and fov (degrees)"
        ) from error


def _camera(frame: object, width: int, height: int) -> Camera:
    """The camera of one entry of camera_path. Raises ValueError."""
    fov = float(member(frame, "fov", float))
    if not SMALLEST_FOV <= fov < 180:
        raise ValueError(f"a field of view is {fov}°")
    focal = 0.5 * height / math.tan(math.radians(fov) / 2)
    if focal < 1e-9 * height:
        raise ValueError(f"a field of view is {fov}°")
    matrix = _matrix(member(frame, "camera_to_world", list))
    world_to_camera = torch.eye(4, dtype=torch.float64)
    world_to_camera[:3, :3] = matrix[:3, :3].T
    world_to_camera[:3, 3] = -matrix[:3, :3].T @ matrix[:3, 3]
    return Camera(focal, focal, width / 2, height / 2, width, height, world_to_camera)


def _matrix(numbers: list) -> Tensor:
    """(4, 4) OpenCV camera-to-world of 16 numbers, row by row, with OpenGL axes. Raises ValueError."""
    if len(numbers) != 16:
        raise ValueError(f"a camera_to_world has {len(numbers)} numbers")
    given = [float(typed(number, float, "an entry of a camera_to_world")) for number in numbers]
    matrix = torch.tensor(given, dtype=torch.float64).reshape(4, 4)
    if not bool((matrix.abs() <= FARTHEST).all()) or numbers[12:] != [0, 0, 0, 1]:
        raise ValueError("a camera_to_world has impossible numbers")
    rotation = matrix[:3, :3]
    if not torch.allclose(rotation @ rotation.T, torch.eye(3, dtype=torch.float64), atol=1e-3) or rotation.det() < 0:
        raise ValueError("a camera_to_world is not a rotation and a translation")
    return matrix @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
