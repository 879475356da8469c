"""Focal lengths from EXIF data, against the lens formula and in the database that structure from motion begins from."""

import math

import numpy as np
import PIL.Image
import pycolmap
import pytest
from PIL.TiffImagePlugin import IFDRational

from splat.scene.sfm.exif_focal import focal_pixels
from splat.scene.sfm.photo_preparation import prepare
from splat.scene.sfm.reconstruct import match_photos, quiet

FOCAL, EQUIVALENT, RESOLUTION, UNIT, WIDTH, HEIGHT = 0x920A, 0xA405, 0xA20E, 0xA210, 0xA002, 0xA003
TAGS = {"focal": FOCAL, "f35": EQUIVALENT, "resolution": RESOLUTION, "unit": UNIT, "width": WIDTH, "height": HEIGHT}


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, None),
        ({"focal": 50.0}, None),  # of a sensor of unknown size
        ({"f35": 50}, 50 * math.hypot(600, 400) / math.hypot(36, 24)),
        ({"f35": 26, "focal": 4.25}, 26 * math.hypot(600, 400) / math.hypot(36, 24)),
        ({"f35": 0, "focal": 4.25}, None),  # 0 means unknown
        # 36 mm of 6000 pixels, shrunk to 600: 50 mm are 50 / 36 of the width, whatever the unit.
        ({"focal": 50.0, "resolution": 6000 / 36, "unit": 4, "width": 6000}, 600 * 50 / 36),
        ({"focal": 50.0, "resolution": 60000 / 36, "unit": 3, "width": 6000}, 600 * 50 / 36),
        ({"focal": 50.0, "resolution": 6000 / 36 * 25.4, "width": 4000, "height": 6000}, 600 * 50 / 36),
        ({"focal": 50.0, "resolution": 600 / 36, "unit": 4}, 600 * 50 / 36),
        ({"focal": 50.0, "resolution": 6000 / 36, "unit": 4}, None),  # shrunk, and it does not say from what
        ({"focal": "x", "f35": float("nan")}, None),
        ({"focal": 50.0, "resolution": 10.0, "unit": 9}, None),
    ],
)
def test_focal_length_in_pixels(told: dict, expected: float | None) -> None:
    found = focal_pixels({TAGS[name]: value for name, value in told.items()}, 600, 400)
    assert found == (expected if expected is None else pytest.approx(expected))
    assert focal_pixels({TAGS[name]: value for name, value in told.items()}, 400, 600) == found  # portrait


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".avif"])
def test_structure_from_motion_begins_from_it(tmp_path, suffix: str) -> None:
    """Also where COLMAP does not read it (PNG, copies), or reads ten times as much (the photo was shrunk)."""
    shrunk = {FOCAL: IFDRational(50), RESOLUTION: IFDRational(2400, 36), UNIT: 4, WIDTH: 2400, HEIGHT: 1600}
    misread = {FOCAL: IFDRational(50), RESOLUTION: IFDRational(2400, 36), UNIT: 4}
    noise = np.random.default_rng(0).integers(0, 255, (160, 240, 3), dtype=np.uint8)
    for index, tags in enumerate(({EQUIVALENT: 50}, shrunk, misread)):
        exif = PIL.Image.Exif()
        exif[0x0110] = f"Camera {index}"
        exif.get_ifd(0x8769).update(tags)
        PIL.Image.fromarray(noise).save(tmp_path / f"{index}{suffix}", exif=exif)
    names = [f"{index}{suffix}" for index in range(3)]
    photos = prepare(tmp_path, names, {}, tmp_path / "work")
    with quiet():
        database = match_photos(tmp_path / "work", photos, False, lambda *_: None)
    with pycolmap.Database.open(database) as opened:
        cameras = [opened.read_camera(opened.read_image_with_name(photo.alias).camera_id) for photo in photos]
    assert [camera.has_prior_focal_length for camera in cameras] == [True, True, False]
    expected = [50 * math.hypot(240, 160) / math.hypot(36, 24), 240 * 50 / 36, 1.2 * 240]
    assert [camera.focal_length for camera in cameras] == pytest.approx(expected)
