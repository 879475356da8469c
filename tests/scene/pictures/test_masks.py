"""Masks in every usual form keep the pixels they should, under every usual name; what fits no photo is said."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from support.scene_models import make_model

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.images import decode_mask
from splat.scene.masks import among_photos

KEEP = np.zeros((120, 160), bool)
KEEP[:, :80] = True
KEEP[30:50, 100:120] = True


def one_bit(path: Path) -> None:
    Image.fromarray(KEEP).save(path)


def zero_one(path: Path) -> None:
    Image.fromarray(KEEP.astype(np.uint8)).save(path)


def zero_255(path: Path) -> None:
    Image.fromarray(KEEP.astype(np.uint8) * 255).save(path)


def soft(path: Path) -> None:
    Image.fromarray(np.where(KEEP, 128, 127).astype(np.uint8)).save(path)


def labels(path: Path) -> None:
    Image.fromarray(np.where(KEEP, 3, 0).astype(np.uint8)).save(path)


def sixteen_bit(path: Path) -> None:
    cv2.imwrite(str(path), KEEP.astype(np.uint16) * 65535)


def sixteen_bit_255(path: Path) -> None:
    cv2.imwrite(str(path), KEEP.astype(np.uint16) * 255)


def sixteen_bit_one(path: Path) -> None:
    cv2.imwrite(str(path), KEEP.astype(np.uint16))


def sixteen_bit_labels(path: Path) -> None:
    cv2.imwrite(str(path), KEEP.astype(np.uint16) * 700)


def sixteen_bit_colour(path: Path) -> None:
    cv2.imwrite(str(path), (KEEP.astype(np.uint16) * 255)[..., None].repeat(3, 2))


def sixteen_bit_alpha(path: Path) -> None:
    pixels = np.zeros((*KEEP.shape, 4), np.uint16)
    pixels[..., 3] = KEEP * 65535
    cv2.imwrite(str(path), pixels)


def colour(path: Path) -> None:
    pixels = np.zeros((*KEEP.shape, 3), np.uint8)
    pixels[KEEP] = 0, 200, 30
    Image.fromarray(pixels).save(path)


def palette_of_colours(path: Path) -> None:
    """As PASCAL VOC stores its classes: the eighth is a dark red."""
    image = Image.fromarray(KEEP.astype(np.uint8) * 8)
    image.putpalette([0, 0, 0, *([128, 0, 0] * 7), 64, 0, 0])
    image.save(path)


def palette_of_greys(path: Path) -> None:
    Image.fromarray(KEEP.astype(np.uint8) * 255).convert("P").save(path)


def alpha_on(colour: int):
    def write(path: Path) -> None:
        pixels = np.full((*KEEP.shape, 4), colour, np.uint8)
        pixels[..., 3] = KEEP * 255
        Image.fromarray(pixels).save(path)

    return write


def grey_and_alpha(path: Path) -> None:
    """White on transparent black, as premultiplied exports are."""
    plane = Image.fromarray(KEEP.astype(np.uint8) * 255)
    Image.merge("LA", [plane, plane]).save(path)


def cut_out(path: Path) -> None:
    """The photo itself, dark in parts, on transparent ground."""
    pixels = np.random.default_rng(0).integers(0, 250, (*KEEP.shape, 4), dtype=np.uint8)
    pixels[..., 3] = KEEP * 255
    Image.fromarray(pixels).save(path)


def opaque_alpha(path: Path) -> None:
    pixels = np.full((*KEEP.shape, 4), 255, np.uint8)
    pixels[..., :3] = (KEEP * 255)[..., None]
    Image.fromarray(pixels).save(path)


FORMS = {
    "one bit": one_bit, "0/1": zero_one, "0/255": zero_255, "soft": soft, "labels": labels, "16 bit": sixteen_bit,
    "16 bit 0/255": sixteen_bit_255, "16 bit 0/1": sixteen_bit_one, "16 bit labels": sixteen_bit_labels,
    "16 bit colour": sixteen_bit_colour, "16 bit alpha": sixteen_bit_alpha,
    "colour": colour, "palette": palette_of_colours, "grey palette": palette_of_greys, "alpha on black": alpha_on(0),
    "alpha on white": alpha_on(255), "grey and alpha": grey_and_alpha, "cut-out": cut_out, "opaque": opaque_alpha,
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_every_form_keeps_the_same_pixels(tmp_path, form) -> None:
    path = tmp_path / "a.png"
    FORMS[form](path)
    np.testing.assert_array_equal(decode_mask(path, KEEP.shape, False, path), KEEP)
    np.testing.assert_array_equal(decode_mask(path, KEEP.shape, False, path, ignore=True), ~KEEP)


@pytest.mark.parametrize("form", ["16 bit colour", "16 bit", "16 bit alpha", "labels"])
def test_forms_of_tiff(tmp_path, form) -> None:
    path = tmp_path / "a.tif"
    FORMS[form](path)
    np.testing.assert_array_equal(decode_mask(path, KEEP.shape, False, path), KEEP)


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
def test_floating_point_masks(tmp_path, white) -> None:
    path = tmp_path / "a.tif"
    cv2.imwrite(str(path), np.where(KEEP, 0.6, 0.4).astype(np.float32) * np.float32(white))
    np.testing.assert_array_equal(decode_mask(path, KEEP.shape, False, path), KEEP)


def test_exr_masks_are_not_encoded(tmp_path) -> None:
    exr = pytest.importorskip("OpenEXR")
    facts = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage}
    with exr.File(facts, {"Y": np.where(KEEP, 0.55, 0.45).astype(np.float32)}) as file:
        file.write(str(tmp_path / "a.exr"))
    np.testing.assert_array_equal(decode_mask(tmp_path / "a.exr", KEEP.shape, False, tmp_path), KEEP)


def test_dark_noise_of_jpeg_is_no_label(tmp_path) -> None:
    path = tmp_path / "a.jpg"
    noise = np.random.default_rng(0).integers(0, 12, KEEP.shape, dtype=np.uint8)
    Image.fromarray(noise).save(path, quality=95)
    assert not decode_mask(path, KEEP.shape, False, path).any()


def test_masks_of_another_size_but_the_same_shape(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "masks").mkdir()
    for k in range(9):
        size = (160, 120) if k < 4 else (320, 240)
        Image.fromarray(KEEP).resize(size).save(tmp_path / f"masks/view_{k:03d}.png")
    scene = load_scene(tmp_path, progress=False)
    for view in (scene.views[0], scene.views[8]):
        np.testing.assert_array_equal(view.load().mask.numpy(), KEEP)
    assert "5 masks are of another size than the photo, and scaled to it" in scene.notes
    Image.fromarray(KEEP).resize((160, 100)).save(tmp_path / "masks/view_003.png")
    with pytest.raises(InputError, match=r"view_003\.png is 160×100 pixels but its image .* is 160×120"):
        load_scene(tmp_path, progress=False)


NAMES = ["{}.png", "{}.jpg", "{}.png.png", "{}.jpg.png", "{}_mask.png", "mask_{}.png", "{}-mask.png", "{}.mask.png"]


@pytest.mark.parametrize("folder", ["masks", "mask", "segmentation", "images/masks"])
@pytest.mark.parametrize("name", NAMES)
def test_names(tmp_path, folder, name) -> None:
    photos = [f"sub/view_{k}.jpg" if "jpg.png" in name else f"view_{k}.PNG" for k in range(9)]
    make_model(tmp_path, names=photos)
    for photo in photos:
        stem = Path(photo).stem
        path = tmp_path / folder / Path(photo).parent / name.replace("png.png", "PNG.png").format(stem)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(KEEP).save(path, quality=95)
    scene = load_scene(tmp_path, progress=False)
    for view in scene.views:
        assert (view.load().mask.numpy() == KEEP).mean() > 0.98  # JPEG's edges
    assert not any("mask" in note for note in scene.notes)


def test_masks_beside_their_photos(tmp_path) -> None:
    make_model(tmp_path)
    for k in range(9):
        name = (f"view_{k:03d}_mask.png", f"mask_view_{k:03d}.png")[k % 2]
        Image.fromarray(KEEP).save(tmp_path / "images" / name)
    scene = load_scene(tmp_path, progress=False)
    assert all((view.load().mask.numpy() == KEEP).all() for view in scene.views)
    photos = ["a.jpg", "b.jpg", "a_mask.png", "mask_b.png", "masks/x.png", "depths/a.png", "c_mask.png"]
    assert among_photos(photos) == ["a.jpg", "b.jpg", "c_mask.png"]


@pytest.mark.parametrize(
    "mode, keeps", [("object", KEEP), ("ignore", ~KEEP), ("none", None), (True, KEEP), (False, None)]
)
def test_what_white_means(tmp_path, mode, keeps) -> None:
    make_model(tmp_path)
    (tmp_path / "masks").mkdir()
    for k in range(9):
        Image.fromarray(KEEP).save(tmp_path / f"masks/view_{k:03d}.png")
    mask = load_scene(tmp_path, progress=False, masks=mode).views[0].load().mask
    assert (mask is None) if keeps is None else (mask.numpy() == keeps).all()
    with pytest.raises(InputError, match="the use of masks is 'inside', expected one of object, ignore, none"):
        load_scene(tmp_path, masks="inside")


@pytest.mark.parametrize("name", ["dynamic_masks/view_{:03d}.png", "images/dynamic_mask_view_{:03d}.png"])
def test_white_of_dynamic_masks_is_what_moves(tmp_path, name) -> None:
    make_model(tmp_path)
    for k in range(9):
        path = tmp_path / name.format(k)
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(KEEP).save(path)
    scene = load_scene(tmp_path, progress=False)
    assert all((view.load().mask.numpy() == ~KEEP).all() for view in scene.views)


def test_masks_of_no_photo_are_counted(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "masks").mkdir()
    for name in ("view_000.png", "other_1.png", "other_2.png"):
        Image.fromarray(KEEP).save(tmp_path / "masks" / name)
    notes = load_scene(tmp_path, progress=False).notes
    assert "1 of 9 images have a mask; the others are used whole" in notes
    assert "2 of 3 mask files belong to no photo, such as masks/other_1.png" in notes
    (tmp_path / "masks/view_000.png").unlink()
    notes = load_scene(tmp_path, progress=False).notes
    assert "2 of 2 mask files belong to no photo, such as masks/other_1.png" in notes
    assert not any("mask" in note for note in load_scene(tmp_path, progress=False, masks="none").notes)


def test_masks_that_leave_nothing_are_refused_at_once(tmp_path) -> None:
    make_model(tmp_path)
    (tmp_path / "masks").mkdir()
    for k in range(9):
        Image.new("L", (160, 120), 0).save(tmp_path / f"masks/view_{k:03d}.png")
    with pytest.raises(
        InputError, match=r"no pixel of any of the 7 photos .*masks/view_001\.png .*--masks ignore"
    ) as caught:
        load_scene(tmp_path, progress=False)
    assert "\n" not in str(caught.value)
    assert load_scene(tmp_path, progress=False, masks="ignore").views[0].load().mask.all()
    Image.fromarray(KEEP).save(tmp_path / "masks/view_004.png")
    assert load_scene(tmp_path, progress=False)


def test_photos_that_are_transparent_everywhere_are_refused(tmp_path) -> None:
    make_model(tmp_path, alpha=True)
    for path in (tmp_path / "images").iterdir():
        Image.new("RGBA", (160, 120), (9, 9, 9, 0)).save(path)
    with pytest.raises(InputError, match="are transparent everywhere; to use them as they are give --alpha none"):
        load_scene(tmp_path, progress=False)
    assert load_scene(tmp_path, progress=False, alpha="none").views[0].load().mask is None
