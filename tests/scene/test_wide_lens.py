"""Directions and pixels of wide lenses: against pycolmap where it has them, against the models' formulas beyond."""

import numpy as np
import pycolmap
import pytest

from splat.scene.undistort import MODELS, SPHERICAL, Lens, spherical
from splat.scene.wide_lens import bearings, can_be_wide, density, field_of_view, is_wide, project, widest

SIZE = (400, 410)
LENSES = {
    "SIMPLE_FISHEYE": [125, 200, 207],
    "FISHEYE": [125, 130, 200, 207],
    "SIMPLE_RADIAL_FISHEYE": [125, 200, 207, 0.01],
    "RADIAL_FISHEYE": [125, 200, 207, 0.01, 0.001],
    "OPENCV_FISHEYE": [125, 130, 200, 207, 0.01, 0.001, 0.002, -1e-4],
    "THIN_PRISM_FISHEYE": [125, 130, 200, 207, 0.01, 0.001, 1e-3, -2e-3, 1e-3, 0, 1e-3, 3e-3],
    "RAD_TAN_THIN_PRISM_FISHEYE": [125, 130, 200, 207, 0.01, 1e-3, 3e-3, -1e-3, 1e-4, 0,
                                   1e-3, -2e-3, 1e-3, 3e-4, 2e-3, -1e-3],
    "FOV": [125, 130, 200, 207, 0.9],
    "EUCM": [125, 130, 200, 207, 0.6, 1.1],
    "SIMPLE_DIVISION": [125, 200, 207, -0.3],
    "DIVISION": [125, 130, 200, 207, -0.3],
    "EQUIRECTANGULAR": [400, 410],
}  # fmt: skip


def lens_of(model: str) -> Lens:
    return Lens(model, tuple(map(float, LENSES[model])), *SIZE)


def directions(count: int = 500) -> np.ndarray:
    """Unit vectors all around."""
    found = np.random.default_rng(0).normal(size=(count, 3))
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def test_every_model_that_can_be_wide_is_tried() -> None:
    assert set(LENSES) == {m for m in MODELS if "FISHEYE" in m or "DIVISION" in m} | {"FOV", "EUCM", SPHERICAL}
    assert all(can_be_wide(lens_of(model)) for model in LENSES)
    assert not can_be_wide(Lens("OPENCV", (40.0, 40.0, 200.0, 200.0, 0.1, 0.0, 0.0, 0.0), 400, 400))


@pytest.mark.parametrize("model", LENSES)
def test_projection_is_pycolmaps_ahead_and_has_an_inverse_all_around(model: str) -> None:
    lens, towards = lens_of(model), directions()
    camera = pycolmap.Camera(model=model, width=SIZE[0], height=SIZE[1], params=LENSES[model])
    pixels = project(lens, 3 * towards)
    ahead = towards[:, 2] > 0.05
    np.testing.assert_allclose(pixels[ahead], camera.img_from_cam(towards[ahead]), atol=1e-9)
    angle = np.arctan2(np.hypot(towards[:, 0], towards[:, 1]), towards[:, 2])
    seen = angle <= widest(lens)
    assert (np.isfinite(pixels).all(1) == seen).all()
    np.testing.assert_allclose(bearings(lens, pixels[seen]), towards[seen], atol=1e-9)
    smaller = lens.for_image(200, 205)
    np.testing.assert_allclose(project(smaller, towards[seen]), pixels[seen] / 2)
    np.testing.assert_allclose(bearings(smaller, pixels[seen] / 2), towards[seen], atol=1e-9)


def test_fisheyes_go_on_behind_by_their_polynomials() -> None:
    angle = np.radians([100, 130, 160])
    across = np.array([0.6, -0.8])
    towards = np.stack([0.6 * np.sin(angle), -0.8 * np.sin(angle), np.cos(angle)], 1)
    k = LENSES["OPENCV_FISHEYE"][4:]
    radius = angle * (1 + k[0] * angle**2 + k[1] * angle**4 + k[2] * angle**6 + k[3] * angle**8)
    expected = radius[:, None] * across * (125, 130) + (200, 207)
    np.testing.assert_allclose(project(lens_of("OPENCV_FISHEYE"), towards), expected)
    np.testing.assert_allclose(project(lens_of("SIMPLE_FISHEYE"), towards), angle[:, None] * across * 125 + (200, 207))


def test_where_a_panorama_has_each_direction() -> None:
    lens = spherical("SPHERE", 400, 200)
    towards = np.array([[0, 0, 1], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [1, 1, 0]])
    found = project(lens, towards)
    np.testing.assert_allclose(found, [[200, 100], [300, 100], [100, 100], [200, 200], [200, 0], [300, 150]])
    assert spherical("OPENCV", 400, 200) is None


def test_a_polynomial_ends_where_it_folds() -> None:
    lens = Lens("SIMPLE_RADIAL_FISHEYE", (125.0, 200.0, 207.0, -0.1), *SIZE)
    fold = 1 / np.sqrt(0.3)  # θ − 0.1 θ³ is largest there
    assert fold - np.radians(0.6) < widest(lens) <= fold
    assert np.isnan(project(lens, np.array([[np.sin(fold + 0.01), 0, np.cos(fold + 0.01)]]))).all()


def test_field_of_view_and_what_counts_as_wide() -> None:
    def fisheye(degrees: float) -> Lens:
        return Lens("SIMPLE_FISHEYE", (400 / np.radians(degrees), 200.0, 100.0), 400, 200)

    assert np.degrees(field_of_view(fisheye(150))) == pytest.approx(150, abs=1)
    assert not is_wide(fisheye(118)) and is_wide(fisheye(122))
    assert not is_wide(fisheye(150), limit=np.radians(58)) and is_wide(spherical(SPHERICAL, 4, 2))
    assert density(fisheye(150)) == pytest.approx(400 / np.radians(150), rel=1e-6)
