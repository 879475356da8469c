"""Faces of wide photos, held against colours that are a known function of direction."""

import numpy as np
import pytest

from splat.scene.faces import AXES, MARGIN, Face, _extended, assemble, places_in_photo, rotated_view, split
from splat.scene.undistort import Lens, Pinhole, spherical
from splat.scene.wide_lens import bearings, project

PANORAMA = spherical("EQUIRECTANGULAR", 320, 160)
FISHEYE = Lens("OPENCV_FISHEYE", (62.0, 64.0, 102.0, 97.0, 0.01, 0.001, 0.002, -1e-4), 200, 200)
CASES = [(PANORAMA, np.pi), (FISHEYE, np.radians(95))]


def colour(directions: np.ndarray) -> np.ndarray:
    """(M, 3) levels of 0 to 255, smooth in the direction (M, 3)."""
    x, y, z = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).T
    waves = [np.sin(3 * x + 2 * y) + np.cos(3 * z), np.sin(4 * y - z) + np.cos(3 * x), 2 * np.cos(3 * z + 2 * x * y)]
    return 127 + 55 * np.stack(waves, 1)


def photo_of(lens: Lens, limit: float) -> np.ndarray:
    """(H, W, 3) float, black where the lens shows nothing."""
    width, height = lens.image_width or lens.width, lens.image_height or lens.height
    y, x = np.mgrid[:height, :width] + 0.5
    towards = bearings(lens, np.stack([x, y], -1).reshape(-1, 2))
    black = ~(np.arctan2(np.hypot(towards[:, 0], towards[:, 1]), towards[:, 2]) <= limit)
    return np.where(black[:, None], 0, np.nan_to_num(colour(towards))).reshape(height, width, 3)


def towards_pixels(face: Face) -> np.ndarray:
    """(h · w, 3) directions in the photo's axes, from the definition of a pinhole camera."""
    pinhole = face.pinhole
    y, x = np.mgrid[: pinhole.height, : pinhole.width] + 0.5
    local = np.stack([(x - pinhole.cx) / pinhole.fx, (y - pinhole.cy) / pinhole.fy, np.ones_like(x)], -1)
    right, down, forward = AXES[face.name]
    return (local[..., :1] * right + local[..., 1:2] * down + local[..., 2:] * forward).reshape(-1, 3)


def test_axes_are_rotations_onto_the_sides_of_a_cube() -> None:
    for axes in AXES.values():
        assert np.linalg.det(axes) == 1 and (axes @ axes.T == np.eye(3)).all()
    assert len({tuple(axes[2]) for axes in AXES.values()}) == 6
    assert tuple(AXES["right"][2]) == (1, 0, 0) and tuple(AXES["up"][2]) == (0, -1, 0)  # y points down


@pytest.mark.parametrize("factor", [1.0, 2.5])
@pytest.mark.parametrize(("lens", "limit"), CASES)
def test_a_face_shows_the_colours_of_its_directions(lens: Lens, limit: float, factor: float) -> None:
    photo = (photo_of(lens, limit) + 0.5).astype(np.uint8)
    faces = split(lens, limit, factor)
    assert [face.name for face in faces] == [name for name in AXES if lens is PANORAMA or name != "back"]
    for face in faces:
        towards = towards_pixels(face)
        expected = colour(towards).reshape(face.pinhole.height, face.pinhole.width, 3)
        seen = face.seen()
        # Two roundings to whole levels, and 0.5 for what shrinking averages.
        assert np.abs(face.gather(photo) - expected)[seen].max() < 2
        angle = np.arctan2(np.hypot(towards[:, 0], towards[:, 1]), towards[:, 2]).reshape(seen.shape)
        assert (angle[seen] < limit).all() and face.whole == bool(seen.all())
        pixels = project(lens, towards).reshape(*seen.shape, 2)
        inside = (np.abs(pixels - (lens.width / 2, lens.height / 2)) < (lens.width / 2 - 2, lens.height / 2 - 2)).all(
            -1
        )
        assert seen[inside & (angle < limit - 0.08)].all()  # a few pixels of the rim are lost at most


@pytest.mark.parametrize(("lens", "limit"), CASES)
def test_no_seam_between_faces_put_together(lens: Lens, limit: float) -> None:
    faces = split(lens, limit, 1.0)
    drawn = [(f, colour(towards_pixels(f)).reshape(f.pinhole.height, f.pinhole.width, 3)) for f in faces]
    photo, seen = assemble([(face, picture.astype(np.float32)) for face, picture in drawn])
    truth = photo_of(lens, limit)
    assert photo.shape == truth.shape
    assert np.abs(photo - truth)[seen].max() < 0.5  # of 255
    if lens is PANORAMA:
        assert seen.all()
    else:
        shown = truth.any(-1)
        assert not seen[~shown].any() and seen.sum() > 0.93 * shown.sum()
    partly, less = assemble([(drawn[0][0], drawn[0][1].astype(np.float32))])
    assert 0 < less.sum() < seen.sum() and np.array_equal(partly[less], photo[less])


def test_pixels_per_degree_in_the_middle_are_the_photos() -> None:
    front = split(PANORAMA, np.pi, 1.0)[0].pinhole
    assert front.fx == pytest.approx(320 / (2 * np.pi)) and front.fx == front.fy
    assert front.width == 2 * (np.ceil(front.fx) + MARGIN)
    half = split(PANORAMA, np.pi, 2.0)[0]
    assert half.pinhole.fx == pytest.approx(front.fx / 2) and half.picture == (160, 80)


@pytest.mark.parametrize(("lens", "limit"), CASES)
def test_each_keypoint_lands_on_one_face(lens: Lens, limit: float) -> None:
    towards = np.random.default_rng(1).normal(size=(300, 3))
    xy = project(lens, towards)
    width, height = lens.width, lens.height
    inside = (xy > 0).all(1) & (xy < (width, height)).all(1)
    inside &= np.arctan2(np.hypot(towards[:, 0], towards[:, 1]), towards[:, 2]) < limit
    times = np.zeros(300, int)
    for face in split(lens, limit, 1.0):
        at = face.keypoints(xy)
        own = np.isfinite(at).all(1)
        times += own
        local = towards[own] @ AXES[face.name].T
        pinhole = face.pinhole
        expected = local[:, :2] / local[:, 2:] * (pinhole.fx, pinhole.fy) + (pinhole.cx, pinhole.cy)
        np.testing.assert_allclose(at[own], expected, atol=1e-6)
    assert (times[inside] == 1).all() and (times <= 1).all()


def test_a_mask_is_kept_where_all_that_a_pixel_stands_for_is() -> None:
    mask = np.ones((160, 320), np.uint8)
    mask[60:100, 140:180] = 0  # ahead
    front, right, *_ = split(PANORAMA, np.pi, 2.5)
    kept = front.gather(mask, nearest=True)
    y, x = kept.shape[0] // 2, kept.shape[1] // 2
    assert kept[y, x] == 0 and kept[0, 0] == 1 and right.gather(mask, nearest=True).all()
    towards = project(PANORAMA, towards_pixels(front)).reshape(*kept.shape, 2)
    well_inside = (np.abs(towards - (160, 80)) < 19).all(-1)
    well_outside = (np.abs(towards - (160, 80)) > 23).any(-1)
    assert not kept[well_inside].any() and kept[well_outside].all()


def test_pose_keeps_the_centre() -> None:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = AXES["left"] @ AXES["up"], (1, 2, 3)
    for face in split(PANORAMA, np.pi, 1.0):
        turned = face.world_to_camera(pose)
        np.testing.assert_allclose(-turned[:3, :3].T @ turned[:3, 3], -pose[:3, :3].T @ pose[:3, 3])
        np.testing.assert_allclose(turned[2, :3], AXES[face.name][2] @ pose[:3, :3])


def test_places_in_the_photo_follow_the_camera_of_the_face() -> None:
    face = split(FISHEYE, np.radians(95), 1.0)[1]
    camera = face.pinhole.camera(np.eye(4))
    places = places_in_photo(face, camera)
    expected = project(FISHEYE, towards_pixels(face)).reshape(places.shape) / 200
    np.testing.assert_allclose(places[face.seen()], expected[face.seen()], atol=1e-6)
    strided = places_in_photo(face, camera.strided(2, 1, 0))
    np.testing.assert_allclose(strided, places[0::2, 1::2], atol=1e-6)


def test_a_view_over_the_seam_and_the_poles() -> None:
    photo = (photo_of(PANORAMA, np.pi) + 0.5).astype(np.uint8)
    pinhole = Pinhole(160.0, 160.0, 20.3, 20.7, 40, 40)
    y, x = np.mgrid[:40, :40] + 0.5
    rays = np.stack([(x - 20.3) / 160, (y - 20.7) / 160, np.ones_like(x)], -1).reshape(-1, 3)
    for name in ("back", "up", "down"):
        turned = np.array([[0.8, 0.6, 0], [-0.6, 0.8, 0], [0, 0, 1]]) @ AXES[name]
        view = rotated_view(PANORAMA, turned, pinhole, photo)
        assert np.abs(view - colour(rays @ turned).reshape(view.shape)).max() < 1.5


def test_put_together_each_pixel_is_a_mean_over_its_area() -> None:
    """Noise in a face stays where the photo has pixels as large as the face, and fades where they are larger."""
    front = split(PANORAMA, np.pi, 1.0)[0]
    noise = np.random.default_rng(0).normal(size=(front.pinhole.height, front.pinhole.width, 3)).astype(np.float32)
    photo, _ = assemble([(front, noise)])
    middle, corner = photo[70:90, 150:170].std(), photo[47:53, 121:127].std()
    assert middle > 0.65 and corner < 0.6 * middle


def test_over_a_pole_a_panorama_goes_on_half_a_turn_further() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (160, 320, 3), dtype=np.uint8)
    wider = _extended(photo, PANORAMA)
    assert wider.shape == (160 + 2 * MARGIN, 320 + 2 * MARGIN, 3)
    for column in (0, 100, 319):
        assert np.array_equal(wider[MARGIN - 2, MARGIN + column], photo[1, (column + 160) % 320])
        assert np.array_equal(wider[-MARGIN + 1, MARGIN + column], photo[-2, (column + 160) % 320])
    assert np.array_equal(wider[MARGIN:-MARGIN, -1], photo[:, MARGIN - 1])
