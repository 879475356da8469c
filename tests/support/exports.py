"""One scene as other programs export it: the cameras and points of the tiny scene, each format by its documentation."""

import json
import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
import PIL.Image
from scipy.spatial.transform import Rotation

from splat.scene import load_scene, random_points
from support.json_scenes import ply
from support.tiny import tiny_cameras, tiny_cloud

WIDTH, HEIGHT = 64, 48
FOCAL, CX, CY = 70.0, 33.5, 22.25
CV_TO_GL = np.diag([1.0, -1.0, -1.0])
RAYS = np.random.default_rng(1).uniform(-0.4, 0.4, (50, 2))  # x/z, y/z
NAMES = [f"view_{index:02}.png" for index in range(8)]


@dataclass
class Truth:
    """poses (V, 4, 4) world-to-camera with OpenCV's axes, points (M, 3), colours (M, 3) uint8."""

    poses: np.ndarray
    xyz: np.ndarray
    rgb: np.ndarray

    def camera_to_world(self, index: int) -> np.ndarray:
        return np.linalg.inv(self.poses[index])


def truth() -> Truth:
    """The tiny scene; the first camera looks steeply down so that no two angles are alike."""
    poses = np.stack([camera.world_to_camera.double().numpy() for camera in tiny_cameras()])
    tilt = np.eye(4)
    tilt[:3, :3] = Rotation.from_euler("zx", [0.3, 0.1]).as_matrix()
    poses[0] = tilt @ poses[0]
    for pose in poses:
        u, _, v = np.linalg.svd(pose[:3, :3])
        pose[:3, :3] = u @ v
    cloud = tiny_cloud()
    colours = (255 * np.clip(0.5 + 0.28209479 * cloud.sh[:, 0].numpy(), 0, 1)).astype(np.uint8)
    return Truth(poses, cloud.means.double().numpy(), colours)


def photos(folder: Path, names: list[str] | None = None, size: tuple[int, int] = (WIDTH, HEIGHT)) -> None:
    """Photos, each of another colour."""
    for index, name in enumerate(names or NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", size, (20 * index + 10, 90, 30)).save(folder / name)


def points(path: Path, scene: Truth) -> None:
    ply(path, scene.xyz, scene.rgb, "uchar", ("red", "green", "blue"))


def load(path: Path):
    """The scene in ``path``, no photo held out; where it has no points a hundred random ones, as more take long."""
    few = partial(random_points.random_points, count=100)
    with mock.patch.object(random_points, "random_points", few):
        return load_scene(path, progress=False, hold_out="none")


def first_lens(raw):
    return raw.views[0].lens


def same(loaded, scene: Truth, which: range | list[int] | None = None, tolerance: float = 1e-6) -> None:
    """Whether the loaded scene has the poses, by the numbers in the names of its photos, and the world of ``scene``."""
    numbers = [int("".join(c for c in Path(view.name).stem if c.isdigit())) for view in loaded.views]
    assert sorted(numbers) == list(which if which is not None else range(len(scene.poses)))
    origin = np.array(loaded.georeference.origin)
    for number, view in zip(numbers, loaded.views, strict=True):
        pose = view.camera.world_to_camera.double().numpy()
        centre = -pose[:3, :3].T @ pose[:3, 3] + origin
        assert np.abs(pose[:3, :3] - scene.poses[number][:3, :3]).max() < tolerance
        wanted = scene.camera_to_world(number)[:3, 3]
        assert np.abs(centre - wanted).max() < tolerance * max(1.0, np.abs(wanted).max() * 1e-3)


def same_lens(loaded, fx=FOCAL, fy=FOCAL, cx=CX, cy=CY) -> None:
    for view in loaded.views:
        camera = view.camera
        assert (camera.width, camera.height) == (WIDTH, HEIGHT)
        assert np.allclose([camera.fx, camera.fy, camera.cx, camera.cy], [fx, fy, cx, cy], atol=1e-6)


def same_points(loaded, scene: Truth, tolerance: float = 1e-6) -> None:
    assert loaded.points.measured
    assert np.abs(loaded.points.xyz.numpy() + loaded.georeference.origin - scene.xyz).max() < tolerance
    assert (loaded.points.rgb.numpy() == scene.rgb).all()


def brown(rays: np.ndarray, k: tuple, p_r: tuple[float, float]) -> np.ndarray:
    """Brown's polynomial; ``p_r`` go with r² + 2x² along x and r² + 2y² along y."""
    x, y = rays.T
    r2 = x * x + y * y
    radial = 1 + sum(c * r2 ** (n + 1) for n, c in enumerate(k))
    px, py = p_r
    return np.stack(
        [x * radial + px * (r2 + 2 * x * x) + 2 * py * x * y, y * radial + py * (r2 + 2 * y * y) + 2 * px * x * y], 1
    )


def at(distorted: np.ndarray, fx: float = FOCAL) -> np.ndarray:
    return distorted * (fx, FOCAL) + (CX, CY)


# ---- RealityScan ----

RC_HEADER = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"


def realityscan(path: Path, scene: Truth, lens: str = "0,0,0,0,0,0", header: str = RC_HEADER) -> None:
    """Angles from the matrix R = Rz(−heading) Rx(pitch) Ry(roll) of the OpenGL axes in the world."""
    rows = [header]
    for index, name in enumerate(NAMES):
        world = scene.camera_to_world(index)
        axes = world[:3, :3] @ CV_TO_GL
        heading = math.degrees(math.atan2(axes[0, 1], axes[1, 1]))
        pitch = math.degrees(math.asin(axes[2, 1]))
        roll = math.degrees(math.atan2(-axes[2, 0], axes[2, 2]))
        place = [*world[:3, 3], heading, pitch, roll, FOCAL * 36 / WIDTH, (CX - 32) / WIDTH, (CY - 24) / WIDTH]
        rows.append(f"{name},{','.join(f'{value:.15g}' for value in place)},{lens}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n")


# ---- Metashape ----


def metashape(
    path: Path,
    scene: Truth,
    kind: str = "frame",
    coefficients: str = "",
    transform: tuple[np.ndarray, np.ndarray, float] | None = None,
    reference: str = "",
    component: bool = False,
    changes: dict[int, str] | None = None,
) -> None:
    """Cameras whose own frame leads by ``transform`` (rotation, translation, scale) into that of ``scene``.

    ``changes`` puts other text in the place of a camera.
    """
    rotation, translation, scale = transform or (np.eye(3), np.zeros(3), 1.0)
    cameras = []
    for index, name in enumerate(NAMES):
        local = np.eye(4)
        world = scene.camera_to_world(index)
        local[:3, :3] = rotation.T @ world[:3, :3]
        local[:3, 3] = rotation.T @ (world[:3, 3] - translation) / scale
        belongs = ' component_id="0"' if component else ""
        entry = (
            f'<camera id="{index}" sensor_id="0" label="{Path(name).stem}"{belongs} enabled="true">'
            f"<transform>{_text(local)}</transform></camera>"
        )
        cameras.append((changes or {}).get(index, entry))
    move = (
        f'<transform><rotation locked="false">{_text(rotation)}</rotation><translation locked="false">'
        f'{_text(translation)}</translation><scale locked="false">{scale!r}</scale></transform>'
    )
    move = "" if transform is None else move
    components = f'<components><component id="0" label="C">{move}</component></components>' if component else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f"""<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1"><sensor id="0" label="unknown" type="{kind}"><resolution width="{WIDTH}" height="{HEIGHT}"/>
<calibration type="{kind}" class="initial"><resolution width="{WIDTH}" height="{HEIGHT}"/><f>1</f></calibration>
<calibration type="{kind}" class="adjusted"><resolution width="{WIDTH}" height="{HEIGHT}"/><f>{FOCAL}</f>
<cx>{CX - WIDTH / 2}</cx><cy>{CY - HEIGHT / 2}</cy>{coefficients}</calibration>
<covariance><params>f cx</params></covariance></sensor></sensors>{components}
<cameras next_id="8"><group id="0" label="g" type="folder">{"".join(cameras[:4])}</group>
{"".join(cameras[4:])}</cameras><reference>{reference}</reference>{"" if component else move}
<region><center>0 0 0</center></region></chunk></document>"""
    )


def _text(values: np.ndarray) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


# ---- OpenSfM ----


def opensfm(path: Path, scene: Truth, camera: dict | None = None, **more) -> list[dict]:
    """The list of reconstructions written: this scene's."""
    camera = camera or {
        "projection_type": "brown", "width": WIDTH, "height": HEIGHT, "focal_x": FOCAL / WIDTH,
        "focal_y": FOCAL / WIDTH, "c_x": (CX - WIDTH / 2) / WIDTH, "c_y": (CY - HEIGHT / 2) / WIDTH,
        "k1": 0.0, "k2": 0.0, "k3": 0.0, "p1": 0.0, "p2": 0.0,
    }  # fmt: skip
    shots = {
        name: {
            "rotation": Rotation.from_matrix(pose[:3, :3]).as_rotvec().tolist(),
            "translation": pose[:3, 3].tolist(),
            "camera": "v2 unknown",
        }
        for name, pose in zip(NAMES, scene.poses, strict=True)
    }
    places = {
        str(row): {"color": colour.astype(float).tolist(), "coordinates": place.tolist()}
        for row, (place, colour) in enumerate(zip(scene.xyz, scene.rgb, strict=True))
    }
    models = [{"cameras": {"v2 unknown": camera}, "shots": shots, "points": places, **more}]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(models))
    return models


# ---- OpenMVG ----


def openmvg(path: Path, scene: Truth, model: str = "pinhole", coefficients: dict | None = None, **more) -> dict:
    """What is written: views of two intrinsics of one kind, as the second of which has its type by number alone."""
    data = {
        "width": WIDTH,
        "height": HEIGHT,
        "focal_length": FOCAL,
        "principal_point": [CX, CY],
        **(coefficients or {}),
    }
    pixels = [(scene.xyz @ pose[:3, :3].T + pose[:3, 3]) @ _matrix().T for pose in scene.poses]
    written = {
        "sfm_data_version": "0.3",
        "root_path": "C:\\photos\\images",
        "views": [
            _pointer(index, {"local_path": "", "filename": name, "width": WIDTH, "height": HEIGHT, "id_view": index,
                             "id_intrinsic": index % 2, "id_pose": index}, {"polymorphic_id": 1073741824})
            for index, name in enumerate(NAMES)
        ],
        "intrinsics": [
            _pointer(0, data, {"polymorphic_id": 2147483649, "polymorphic_name": model}),
            _pointer(1, data, {"polymorphic_id": 1}),
        ],
        "extrinsics": [
            {"key": index, "value": {"rotation": pose[:3, :3].tolist(),
                                     "center": (-pose[:3, :3].T @ pose[:3, 3]).tolist()}}
            for index, pose in enumerate(scene.poses)
        ],
        "structure": [
            {"key": row, "value": {"X": place.tolist(), "observations": [
                {"key": view, "value": {"id_feat": 0, "x": (pixels[view][row, :2] / pixels[view][row, 2]).tolist()}}
                for view in range(len(NAMES))
            ]}}
            for row, place in enumerate(scene.xyz)
        ],
        "control_points": [],
        **more,
    }  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(written, indent=4))
    return written


def _matrix() -> np.ndarray:
    return np.array([[FOCAL, 0, CX], [0, FOCAL, CY], [0, 0, 1]])


def _pointer(key: int, data: dict, kind: dict) -> dict:
    return {"key": key, "value": {**kind, "ptr_wrapper": {"id": 2147483650 + key, "data": data}}}


# ---- recorders ----


def polycam(folder: Path, scene: Truth, corrected: bool = True) -> None:
    """A capture in ``folder``, with photos and depth."""
    before = "corrected_" if corrected else ""
    keyframes = folder / "keyframes"
    (keyframes / f"{before}cameras").mkdir(parents=True, exist_ok=True)
    photos(keyframes / f"{before}images", [f"10{index}.jpg" for index in range(8)])
    for index in range(8):
        world = scene.camera_to_world(index).copy()
        world[:3, :3] = world[:3, :3] @ CV_TO_GL
        values = {f"t_{i}{j}": world[i, j] for i in range(3) for j in range(4)}
        values |= {"fx": FOCAL, "fy": FOCAL, "cx": CX, "cy": CY, "width": WIDTH, "height": HEIGHT, "blur_score": 90.0}
        (keyframes / f"{before}cameras" / f"10{index}.json").write_text(json.dumps(values))


def record3d(folder: Path, scene: Truth, each: bool = True, count: int = 8) -> None:
    """An unpacked .r3d in ``folder``; more frames than cameras go round again."""
    poses = []
    for index in range(count):
        world = scene.camera_to_world(index % 8)
        turn = Rotation.from_matrix(world[:3, :3] @ CV_TO_GL).as_quat()
        poses.append([*turn.tolist(), *world[:3, 3].tolist()])
    values = {"w": WIDTH, "h": HEIGHT, "K": [FOCAL, 0, 0, 0, FOCAL, 0, CX, CY, 1], "fps": 60, "poses": poses}
    if each:
        values |= {"K": [1, 0, 0, 0, 1, 0, 1, 1, 1], "perFrameIntrinsicCoeffs": [[FOCAL, FOCAL, CX, CY]] * count}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata").write_text(json.dumps(values))
    photos(folder / "rgbd", [f"{index}.jpg" for index in range(count)])


def stray_scanner(folder: Path, scene: Truth, each: bool = True, count: int = 40) -> None:
    """A recording in ``folder`` whose frames go round the cameras of ``scene``."""
    import cv2

    folder.mkdir(parents=True, exist_ok=True)
    video = cv2.VideoWriter(str(folder / "rgb.mp4"), cv2.VideoWriter_fourcc(*"mp4v"), 30, (WIDTH, HEIGHT))
    rows = ["timestamp, frame, x, y, z, qx, qy, qz, qw" + (", fx, fy, cx, cy" if each else "")]
    for index in range(count):
        video.write(np.random.default_rng(index).integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8))
        world = scene.camera_to_world(index % 8)
        pose = [*world[:3, 3].tolist(), *Rotation.from_matrix(world[:3, :3]).as_quat().tolist()]
        values = [*pose, *([FOCAL, FOCAL, CX, CY] if each else [])]
        rows.append(f"{index / 30}, {index:06}, " + ", ".join(map(repr, values)))
    video.release()
    (folder / "odometry.csv").write_text("\n".join(rows) + "\n")
    matrix = [[FOCAL, 0, CX], [0, FOCAL, CY], [0, 0, 1]] if not each else np.eye(3)
    (folder / "camera_matrix.csv").write_text("\n".join(", ".join(map(str, row)) for row in matrix))
