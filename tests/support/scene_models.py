"""Small COLMAP scenes with exactly known geometry, written with pycolmap's own writer."""

from pathlib import Path

import numpy as np
import PIL.Image
import pycolmap

from splat.camera import Camera

SIZE = (160, 120)
# Distortion strong enough to matter (some ten pixels in the corners) for every camera model.
CAMERAS: dict[str, list[float]] = {
    "SIMPLE_PINHOLE": [140, 82, 58],
    "PINHOLE": [140, 150, 77, 63],
    "SIMPLE_RADIAL": [140, 82, 58, -0.12],
    "RADIAL": [140, 82, 58, 0.15, -0.05],
    "OPENCV": [140, 150, 77, 63, -0.2, 0.06, 0.004, -0.006],
    "FULL_OPENCV": [140, 150, 77, 63, -0.2, 0.06, 0.004, -0.006, 0.01, 0.02, -0.01, 0.005],
    "OPENCV_FISHEYE": [70, 75, 77, 63, 0.05, -0.01, 0.004, -0.001],
    "SIMPLE_RADIAL_FISHEYE": [70, 82, 58, 0.03],
    "RADIAL_FISHEYE": [70, 82, 58, 0.04, -0.008],
    "THIN_PRISM_FISHEYE": [70, 75, 77, 63, 0.05, -0.01, 0.002, -0.003, 0.004, -0.001, 0.002, 0.001],
    "FOV": [100, 105, 77, 63, 0.9],
}


def ring_poses(count: int, radius: float = 4.0) -> list[np.ndarray]:
    """(4, 4) world-to-camera matrices on a circle around the z axis, looking slightly down at the origin."""
    import torch

    poses = []
    for k in range(count):
        angle = 2 * np.pi * k / count
        position = torch.tensor([radius * np.cos(angle), radius * np.sin(angle), 1.0])
        up = torch.tensor([0.0, 0.0, 1.0])
        poses.append(Camera.look_at(position, torch.zeros(3), up, 10, 10).world_to_camera.numpy())
    return poses


def make_model(
    root: Path,
    model: str = "PINHOLE",
    views: int = 9,
    points: int = 60,
    size: tuple[int, int] = SIZE,
    params: list[float] | None = None,
    names: list[str] | None = None,
    poses: list[np.ndarray] | None = None,
    text: bool = False,
    image_size: tuple[int, int] | None = None,
    alpha: bool = False,
) -> tuple[pycolmap.Reconstruction, np.ndarray]:
    """Write ``root``/sparse/0 and ``root``/images; returns the model and its points (M, 3) by id."""
    rng = np.random.default_rng(0)
    xyz = rng.uniform(-0.8, 0.8, (points, 3))
    model_params = params if params is not None else CAMERAS[model]
    reconstruction = pycolmap.Reconstruction()
    camera = pycolmap.Camera(camera_id=1, model=model, width=size[0], height=size[1], params=model_params)
    reconstruction.add_camera_with_trivial_rig(camera)
    poses = poses or ring_poses(views)
    names = names or [f"view_{k:03d}.png" for k in range(len(poses))]
    tracks = [pycolmap.Track() for _ in range(points)]
    for k, (pose, name) in enumerate(zip(poses, names, strict=True)):
        local = xyz @ pose[:3, :3].T + pose[:3, 3]
        pixels = np.asarray(camera.img_from_cam(local))
        seen = [m for m in range(points) if (pixels[m] > 0).all() and (pixels[m] < size).all()]
        for index, m in enumerate(seen):
            tracks[m].add_element(k + 1, index)
        image = pycolmap.Image(
            name=name,
            camera_id=1,
            image_id=k + 1,
            points2D=pycolmap.Point2DList([pycolmap.Point2D(pixels[m]) for m in seen]),
        )
        reconstruction.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
        path = root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        width, height = image_size or size
        pixels = rng.integers(0, 255, (height, width, 4 if alpha else 3), dtype=np.uint8)
        PIL.Image.fromarray(pixels).save(path)
    for m in range(points):
        reconstruction.add_point3D(xyz[m], tracks[m], rng.integers(0, 255, 3, dtype=np.uint8))
    folder = root / "sparse/0"
    folder.mkdir(parents=True, exist_ok=True)
    if text:
        reconstruction.write_text(str(folder))
    else:
        reconstruction.write_binary(str(folder))
    return reconstruction, xyz
