"""Every camera model against its definition: by pycolmap's projection, by OpenCV's, and by a picture."""

import cv2
import numpy as np
import pytest
import torch
from support.scene_models import CAMERAS, SIZE, make_model

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.scene import photo_count
from splat.scene.undistort import MODELS, Lens

DISTORTED = [name for name in CAMERAS if "PINHOLE" not in name]


def lens_of(model: str) -> Lens:
    return Lens(model, tuple(float(p) for p in CAMERAS[model]), *SIZE)


@pytest.mark.parametrize("model", CAMERAS)
def test_keypoints_are_pinhole_projections(tmp_path, model: str) -> None:
    _, xyz = make_model(tmp_path, model)
    scene = load_scene(tmp_path)
    assert len(scene.points) == len(xyz)
    np.testing.assert_allclose(scene.points.xyz.numpy(), xyz, atol=1e-12)
    total = 0
    for view in scene.views:
        ids, xy = view.keypoints()
        projected, depth = view.camera.project(torch.from_numpy(xyz)[ids])
        assert (depth > 0).all()
        assert (projected - xy).norm(dim=1).lt(0.05).all()
        total += len(ids)
    assert total > 0.5 * len(xyz) * photo_count(scene.views) * (0.5 if "FISHEYE" not in model else 1)


@pytest.mark.parametrize("model", DISTORTED)
def test_image_of_a_pattern_undistorts_to_the_pinhole_picture(model: str) -> None:
    def pattern(rays: np.ndarray) -> np.ndarray:
        return 128 + 60 * np.sin(5 * rays[..., 0] + 1) + 60 * np.cos(6 * rays[..., 1] - 2 * rays[..., 0])

    lens = lens_of(model)
    width, height = SIZE
    grid = np.stack(np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5), -1).reshape(-1, 2)
    rays = lens.rays(grid)
    distorted = np.where(np.isfinite(rays).all(1), pattern(np.nan_to_num(rays)), 0)
    image = np.clip(distorted, 0, 255).round().astype(np.uint8).reshape(height, width)
    target = lens.pinhole()
    assert target.width > 0.5 * width and target.height > 0.5 * height
    x = (np.arange(target.width) + 0.5 - target.cx) / target.fx
    y = (np.arange(target.height) + 0.5 - target.cy) / target.fy
    expected = pattern(np.stack(np.meshgrid(x, y), -1))
    difference = np.abs(lens.undistort(image).astype(float) - expected)
    # Half a pixel of shift would be 2 to 4 grey levels in the mean.
    assert difference.mean() < 0.6
    assert difference.max() < 8


@pytest.mark.parametrize("model", DISTORTED)
def test_no_pixel_comes_from_outside(model: str) -> None:
    lens = lens_of(model)
    target = lens.pinhole()
    x = (np.array([0, target.width]) - target.cx) / target.fx
    y = (np.array([0, target.height]) - target.cy) / target.fy
    u, v = np.linspace(*x, 300), np.linspace(*y, 300)
    border = [np.stack([u, np.full_like(u, side)], 1) for side in y] + [
        np.stack([np.full_like(v, side), v], 1) for side in x
    ]
    pixels = lens.distort(np.concatenate(border))
    assert (pixels > -0.51).all() and (pixels < np.array(SIZE) + 0.51).all()
    assert 0 <= target.cx <= target.width and 0 <= target.cy <= target.height


def test_agrees_with_opencv() -> None:
    rays = np.random.default_rng(1).uniform(-0.4, 0.4, (200, 2))
    solid = np.concatenate([rays, np.ones((200, 1))], 1)
    zero = np.zeros(3)
    for model in ("OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE"):
        fx, fy, cx, cy, *coefficients = CAMERAS[model]
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
        if model == "OPENCV_FISHEYE":
            pixels, _ = cv2.fisheye.projectPoints(solid[:, None], zero, zero, matrix, np.array(coefficients))
        else:
            pixels, _ = cv2.projectPoints(solid, zero, zero, matrix, np.array(coefficients))
        np.testing.assert_allclose(lens_of(model).distort(rays), pixels[:, 0], atol=1e-6)


def test_scaled_image_keeps_each_axis_exact() -> None:
    lens = lens_of("OPENCV").for_image(80, 61)
    pixels = lens_of("OPENCV").distort(np.array([[0.1, -0.2]]))
    np.testing.assert_allclose(lens.distort(np.array([[0.1, -0.2]])), pixels * (80 / 160, 61 / 120))
    assert lens.pinhole().fy == pytest.approx(150 * 61 / 120)


def test_wide_fisheye_is_cut_at_a_sensible_angle() -> None:
    lens = Lens("OPENCV_FISHEYE", (300.0, 300.0, 500.0, 500.0, 0.0, 0.0, 0.0, 0.0), 1000, 1000)  # 190° across
    target = lens.pinhole()
    angle = 2 * np.degrees(np.arctan(0.5 * target.width / target.fx))
    assert 100 < angle < 121


def test_zero_distortion_is_a_pinhole() -> None:
    lens = Lens("OPENCV", (140.0, 150.0, 77.0, 63.0, 0.0, 0.0, 0.0, 0.0), 160, 120)
    assert not lens.distorts
    assert (lens.pinhole().width, lens.pinhole().cx) == (160, 77.0)


def test_absurd_distortion_is_refused() -> None:
    lens = Lens("SIMPLE_RADIAL", (10.0, 80.0, 60.0, -4.0), 160, 120)
    with pytest.raises(InputError, match="SIMPLE_RADIAL"):
        lens.pinhole()


def test_all_named_models_are_supported() -> None:
    wanted = set(CAMERAS)
    assert wanted <= set(MODELS) and "EQUIRECTANGULAR" in MODELS
