"""Photos of every usual kind come out as 8-bit sRGB, and what is done to their colours is said."""

import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms
from support.raw_photo import write_dng
from support.scene_models import make_model

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.images import decode, read_header
from splat.scene.pictures import colour, float_tiff, kinds

SIZE = (120, 160)  # height, width of the photos of `make_model`


def colours(seed: int = 0) -> np.ndarray:
    """(H, W, 3) smooth colours in [0, 1]."""
    y, x = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([x / SIZE[1], y / SIZE[0], 0.5 + 0.5 * np.sin((x + y) / 40 + seed)], -1)


def srgb_of(light: np.ndarray) -> np.ndarray:
    """The definition of IEC 61966-2-1, for each value in turn."""
    return np.vectorize(lambda v: 12.92 * v if v <= 0.0031308 else 1.055 * v ** (1 / 2.4) - 0.055)(light)


def write_float(path: Path, pixels: np.ndarray) -> None:
    assert cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels)


def renamed_scene(folder: Path, suffix: str, count: int = 9) -> list[Path]:
    """A scene of ``count`` photos that are to be written yet, under names with ``suffix``, and their paths."""
    plain = {4: ".png", 5: ".jpeg"}[len(suffix)]
    make_model(folder, names=[f"{k}{plain}" for k in range(count)], views=count)
    model = folder / "sparse/0/images.bin"
    model.write_bytes(model.read_bytes().replace(plain.encode() + b"\0", suffix.encode() + b"\0"))
    for k in range(count):
        (folder / f"images/{k}{plain}").unlink()
    return [folder / f"images/{k}{suffix}" for k in range(count)]


# ---- integers of 16 and 32 bits ----


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits(tmp_path, suffix, channels) -> None:
    truth = np.random.default_rng(0).integers(0, 1 << 16, (20, 30, channels), dtype=np.uint16)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), truth if channels == 1 else truth[..., [2, 1, 0, 3][:channels]])
    found = decode(path, turn=True, keep_alpha=True)
    truth = np.repeat(truth, 3, 2) if channels == 1 else truth
    assert found.dtype == np.uint8 and np.abs(found - truth / 257).max() <= 1
    assert read_header(path).has_alpha == (channels == 4)


def test_thirty_two_bits(tmp_path) -> None:
    truth = np.random.default_rng(0).integers(0, 1 << 32, (20, 30), dtype=np.uint32)
    cv2.imwrite(str(tmp_path / "a.tif"), truth)
    found = decode(tmp_path / "a.tif", turn=False, keep_alpha=False)
    assert np.abs(found[..., 0] - truth / 16843009).max() <= 1


# ---- floating point ----


@pytest.mark.parametrize("white", [1.0, 255.0, 65535.0])
@pytest.mark.parametrize("grey", [True, False])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_float_tiffs_by_the_range_of_the_scene(tmp_path, white, grey, kind) -> None:
    """A photo as dark as a tenth of the others is taken by the same white."""
    make_model(tmp_path, names=[f"{k}.tif" for k in range(9)])
    truth = {}
    for k in range(9):
        pixels = colours(k) * (0.1 if k == 4 else 1)
        truth[k] = pixels[..., :1].repeat(3, 2) if grey else pixels
        write_float(tmp_path / f"images/{k}.tif", ((pixels[..., 0] if grey else pixels) * white).astype(kind))
    scene = load_scene(tmp_path, progress=False)
    for k, view in enumerate(scene.views):
        assert np.abs(view.load().rgb.numpy() - truth[k] * 255).max() <= 0.51
    assert f"9 photos are of floating-point numbers: 0 is taken as black and {white:g} as white" in " ".join(
        scene.notes
    )


def test_float_tiffs_beyond_any_range_are_refused(tmp_path) -> None:
    make_model(tmp_path, names=[f"{k}.tif" for k in range(9)])
    for k in range(9):
        write_float(tmp_path / f"images/{k}.tif", (colours(k) * 1e6).astype(np.float32))
    with pytest.raises(InputError, match=r"\.tif holds floating-point values up to .* expected 0 to 1, to 255"):
        load_scene(tmp_path, progress=False)


def test_not_a_number_is_black_and_a_hot_pixel_no_range(tmp_path) -> None:
    pixels = np.full(SIZE, 0.5, np.float32)
    pixels[0, 0], pixels[0, 1], pixels[0, 2] = np.nan, 900, -3
    write_float(tmp_path / "a.tif", pixels)
    found = decode(tmp_path / "a.tif", False, False)[0, :4, 0]
    assert found.tolist() == [0, 255, 0, 128]


def test_a_profile_of_floating_point_photos_is_said_not_to_be_followed(tmp_path) -> None:
    make_model(tmp_path, names=[f"{k}.tif" for k in range(9)])
    for k in range(9):
        image = Image.fromarray(colours(k)[..., 0].astype(np.float32))
        image.save(tmp_path / f"images/{k}.tif", icc_profile=profile("exchanged"))
    notes = " ".join(load_scene(tmp_path, progress=False).notes)
    assert "9 photos are of floating-point numbers with a colour profile, which is not followed" in notes


def test_float_tiffs_are_turned_once(tmp_path) -> None:
    pixels = colours()[:20, :30, 0].astype(np.float32)
    for orientation in range(1, 9):
        path = tmp_path / f"{orientation}.tif"
        image, exif = Image.fromarray(pixels), Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif)
        byte = Image.fromarray(colour.to_bytes(pixels))
        byte.getexif()[0x0112] = orientation
        from PIL import ImageOps

        truth = np.asarray(ImageOps.exif_transpose(byte))
        assert read_header(path).turned == truth.shape[::-1]
        np.testing.assert_array_equal(decode(path, True, False)[..., 0], truth)
        np.testing.assert_array_equal(decode(path, False, False)[..., 0], np.asarray(byte))


def test_damaged_float_tiffs_and_bombs(tmp_path, capfd) -> None:
    path = tmp_path / "a.tif"
    write_float(path, colours().astype(np.float32))
    data = path.read_bytes()
    for end in (9, 40, len(data) // 2, len(data) - 3):
        path.write_bytes(data[:end])
        with pytest.raises(InputError, match=r"a\.tif"):
            decode(path, False, False)
    (tmp_path / "b.tif").write_bytes(data)
    with pytest.raises(InputError, match="too many to be a photo"):
        float_tiff.read(tmp_path / "b.tif", float_tiff.FloatTiff(1 << 20, 1 << 20, 1, 32, 1, None), 1 << 25)
    assert "ERROR" not in capfd.readouterr().err


# ---- OpenEXR ----


def write_exr(path: Path, channels: dict[str, np.ndarray], **header) -> None:
    exr = pytest.importorskip("OpenEXR")
    facts = {"compression": exr.ZIP_COMPRESSION, "type": exr.scanlineimage, **header}
    with exr.File(facts, {name: np.ascontiguousarray(plane) for name, plane in channels.items()}) as file:
        file.write(str(path))


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_exr_is_linear_and_becomes_srgb(tmp_path, kind) -> None:
    light = colours().astype(kind)
    light[0, 0] = 7.5  # brighter than white
    for path in renamed_scene(tmp_path, ".exr"):
        write_exr(path, {"RGB": light})
    scene = load_scene(tmp_path, progress=False)
    truth = srgb_of(np.clip(light.astype(np.float64), 0, 1)) * 255
    assert np.abs(scene.views[3].load().rgb.numpy() - truth).max() <= 0.51
    assert "9 photos are of linear light (OpenEXR): encoded as sRGB, and cut above 1" in scene.notes


def test_exr_alpha_grey_windows_and_primaries(tmp_path) -> None:
    light = colours().astype(np.float32)
    alpha = np.full(SIZE, 0.5, np.float32)
    write_exr(tmp_path / "a.exr", {"RGBA": np.concatenate([light * 0.5, alpha[..., None]], 2)})
    found = decode(tmp_path / "a.exr", False, keep_alpha=True)
    assert np.abs(found[..., :3] - srgb_of(light) * 255).max() <= 0.51 and (found[..., 3] == 128).all()
    assert read_header(tmp_path / "a.exr").has_alpha
    write_exr(tmp_path / "y.exr", {"Y": light[..., 0]})
    assert np.abs(decode(tmp_path / "y.exr", False, False) - srgb_of(light[..., :1]) * 255).max() <= 0.51
    height, width = SIZE
    window = ((0, 0), (width + 9, height + 4))
    write_exr(tmp_path / "w.exr", {"RGB": light}, displayWindow=window, dataWindow=((0, 0), (width - 1, height - 1)))
    found = decode(tmp_path / "w.exr", False, False)
    assert found.shape == (height + 5, width + 10, 3) and not found[height:].any() and not found[:, width:].any()
    wide = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06, 0.3127, 0.3290)
    write_exr(tmp_path / "s.exr", {"RGB": light}, chromaticities=wide)
    assert np.abs(decode(tmp_path / "s.exr", False, False) - srgb_of(light) * 255.0).max() <= 1
    write_exr(tmp_path / "p.exr", {"RGB": light}, chromaticities=DISPLAY_P3)
    truth = np.clip(light @ np.array(FROM_DISPLAY_P3).T, 0, 1)
    assert np.abs(decode(tmp_path / "p.exr", False, False) - srgb_of(truth) * 255.0).max() <= 2


DISPLAY_P3 = (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.3127, 0.3290)
FROM_DISPLAY_P3 = [[1.2249, -0.2247, 0.0], [-0.0420, 1.0419, 0.0], [-0.0196, -0.0786, 1.0979]]
"""The matrix that CSS Color 4 has, from linear Display P3 to linear sRGB."""


def test_primaries_of_display_p3() -> None:
    np.testing.assert_allclose(colour.from_primaries(np.array(DISPLAY_P3)), FROM_DISPLAY_P3, atol=2e-3)


def test_exr_damage_and_odd_channels(tmp_path) -> None:
    write_exr(tmp_path / "z.exr", {"Z": np.ones(SIZE, np.float32)})
    with pytest.raises(InputError, match=r"z\.exr has the channels Z, expected R, G and B, or Y"):
        decode(tmp_path / "z.exr", False, False)
    write_exr(tmp_path / "a.exr", {"RGB": colours().astype(np.float32)})
    data = (tmp_path / "a.exr").read_bytes()
    for damaged in (data[:4], data[:100], data[: len(data) // 2], data[:-60] + b"\xff" * 60):
        (tmp_path / "a.exr").write_bytes(damaged)
        with pytest.raises(InputError, match=r"a\.exr"):
            decode(tmp_path / "a.exr", False, False)


# ---- raw, HEIC, AVIF, JPEG XL ----


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_raw_is_developed(tmp_path, orientation) -> None:
    pytest.importorskip("rawpy")
    light = np.full((64, 96, 3), 0.2)
    light[:, 48:] = 0.6, 0.3, 0.1
    write_dng(tmp_path / "a.dng", light, orientation)
    header = read_header(tmp_path / "a.dng")
    assert (header.width, header.height, header.orientation, header.kind) == (96, 64, orientation, "raw")
    found = decode(tmp_path / "a.dng", turn=False, keep_alpha=False)
    assert np.abs(found[32, 20] - srgb_of(np.array([0.2] * 3)) * 255).max() <= 2
    assert np.abs(found[32, 76] - srgb_of(np.array([0.6, 0.3, 0.1])) * 255).max() <= 3
    turned = decode(tmp_path / "a.dng", turn=True, keep_alpha=False)
    np.testing.assert_array_equal(turned, np.rot90(found, {1: 0, 3: 2, 6: 3, 8: 1}[orientation]))
    (tmp_path / "b.dng").write_bytes(b"nonsense" * 50)
    with pytest.raises(InputError, match=r"b\.dng: the raw photo cannot be developed"):
        read_header(tmp_path / "b.dng")


@pytest.mark.parametrize("suffix", [".heic", ".avif", ".jxl"])
def test_formats_of_phones_and_the_web(tmp_path, suffix) -> None:
    kind = kinds.kind_of(suffix)
    if not kind.installed:
        pytest.skip(f"needs {kind.package}")
    if suffix == ".heic":
        import pillow_heif

        pillow_heif.register_heif_opener()
    if suffix == ".jxl":
        import pillow_jxl  # noqa: F401
    for path in renamed_scene(tmp_path, suffix):
        Image.fromarray(colour.to_bytes(colours())).save(path, quality=95)
    scene = load_scene(tmp_path, progress=False)
    assert np.abs(scene.views[0].load().rgb.numpy() - colours() * 255).mean() < 4
    path.write_bytes(path.read_bytes()[:90])
    with pytest.raises(InputError, match="picture"):
        decode(path, False, False)


# ---- colour ----


def profile(name: str) -> bytes:
    """A profile that Pillow can make: sRGB with its first and second primary exchanged, or sRGB itself."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    if name == "sRGB":
        return data
    return data.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_profiles_are_followed(tmp_path, suffix) -> None:
    make_model(tmp_path, names=[f"{k}{suffix}" for k in range(9)])
    pixels = np.zeros((*SIZE, 3), np.uint8)
    pixels[:] = 200, 60, 30
    for k in range(9):
        named = {} if k == 0 else {"icc_profile": profile("sRGB" if k == 1 else "exchanged")}
        Image.fromarray(pixels).save(tmp_path / f"images/{k}{suffix}", **named, quality=95)
    scene = load_scene(tmp_path, progress=False)
    for view, expected in zip(scene.views, [(200, 60, 30)] * 2 + [(60, 200, 30)] * 7, strict=True):
        assert np.abs(view.load().rgb[50, 50].numpy() - np.array(expected, float)).max() <= 5
    (note,) = [note for note in scene.notes if "colour profile" in note]
    assert note.startswith("7 photos are with the colour profile ") and note.endswith("converted to sRGB")


def test_profiles_with_transparency_and_damage(tmp_path) -> None:
    pixels = np.zeros((9, 9, 4), np.uint8)
    pixels[:] = 200, 60, 30, 77
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profile("exchanged"))
    found = decode(tmp_path / "a.png", False, keep_alpha=True)
    assert np.abs(found[4, 4].astype(int) - (60, 200, 30, 77)).max() <= 1
    Image.fromarray(pixels).save(tmp_path / "b.png", icc_profile=b"nonsense" * 30)
    assert read_header(tmp_path / "b.png").profile == "damaged"
    np.testing.assert_array_equal(decode(tmp_path / "b.png", False, keep_alpha=True), pixels)


@pytest.mark.parametrize("gamma", [1.0, 0.45455])
def test_linear_png(tmp_path, gamma) -> None:
    from PIL import PngImagePlugin

    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", round(gamma * 100000).to_bytes(4, "big"))
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(3, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png", pnginfo=info)
    found = decode(tmp_path / "a.png", False, False)[0, :, 0]
    truth = srgb_of(np.arange(256) / 255) * 255 if gamma == 1 else np.arange(256)
    assert np.abs(found - truth).max() <= 0.51


def test_modes(tmp_path) -> None:
    """Grey, grey with alpha, palettes with transparency, one bit, CMYK and Lab, against the definitions."""
    rgb = colour.to_bytes(colours())
    grey = Image.fromarray(rgb[..., 0])
    grey.save(tmp_path / "l.png")
    Image.merge("LA", [grey, grey]).save(tmp_path / "la.png")
    grey.point(lambda v: 255 * (v > 99)).convert("1").save(tmp_path / "1.png")
    assert (decode(tmp_path / "l.png", False, False) == rgb[..., :1]).all()
    found = decode(tmp_path / "la.png", False, True)
    assert (found == rgb[..., :1]).all() and found.shape[2] == 4
    assert (decode(tmp_path / "1.png", False, False)[..., 0] == 255 * (rgb[..., 0] > 99)).all()
    palette = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    palette.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9, 80, 90, 100])
    palette.save(tmp_path / "p.png", transparency=2)
    assert read_header(tmp_path / "p.png").has_alpha
    found = decode(tmp_path / "p.png", False, True).reshape(-1, 4).tolist()
    assert [pixel[3] for pixel in found] == [255, 255, 0, 255, 255, 255] and found[5][:3] == [80, 90, 100]
    cmyk = np.stack([*(255 - rgb).transpose(2, 0, 1), np.zeros(SIZE, np.uint8)], -1)
    for name in ("c.jpg", "c.tif"):
        Image.fromarray(cmyk, "CMYK").save(tmp_path / name, quality=98)
        assert np.abs(decode(tmp_path / name, False, False).astype(int) - rgb).mean() < 3
    lab = ImageCms.profileToProfile(
        Image.fromarray(rgb), ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
    )
    lab.save(tmp_path / "lab.tif")
    assert np.abs(decode(tmp_path / "lab.tif", False, False).astype(int) - rgb).mean() < 3


# ---- what is not read ----


def test_kinds_that_are_not_read_are_counted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(kinds, "find_spec", lambda name: None)
    make_model(tmp_path)
    for name in ("a.HEIC", "b.HEIC", "c.dng", "view_001.dng", "d.psd", "e.txt", "depth_3.exr"):
        (tmp_path / "images" / name).write_bytes(b"x")
    notes = [note for note in load_scene(tmp_path, progress=False).notes if "left out" in note]
    assert sorted(notes) == [
        "1 .dng photo is left out: other files of the same name are used",
        "1 .dng photo is left out: pip install rawpy, or convert them to JPEG",
        "1 .psd photo is left out: convert them to JPEG or PNG",
        "2 .HEIC photos are left out: pip install pillow-heif, or convert them to JPEG",
    ]
    shutil.rmtree(tmp_path / "sparse")
    for path in (tmp_path / "images").glob("*.png"):
        path.unlink()
    with pytest.raises(InputError, match=r"no photos that can be read here: .*2 \.HEIC photos are left out: pip"):
        load_scene(tmp_path, progress=False)


@pytest.mark.parametrize(
    "module, head, said",
    [
        ("pillow_heif", b"\0\0\0\x18ftypheic" + bytes(40), "a HEIC photo, which needs: pip install pillow-heif"),
        ("pillow_jxl", b"\xff\n" + bytes(40), "a JPEG XL photo, which needs: pip install pillow-jxl-plugin"),
        ("OpenEXR", b"\x76\x2f\x31\x01" + bytes(40), "an OpenEXR picture, which needs: pip install openexr"),
        ("rawpy", b"II*\0" + bytes(40), "a raw photo, which needs: pip install rawpy"),
    ],
)
def test_a_missing_package_is_named(tmp_path, monkeypatch, module, head, said) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / ("a.dng" if module == "rawpy" else "a.bin")
    path.write_bytes(head)
    with pytest.raises(InputError, match=said):
        read_header(path)


def test_one_of_each_name(tmp_path) -> None:
    names = ["a.HEIC", "a.jpg", "b.dng", "b.heic", "c.dng", "sub/a.heic", "d.jpg", "d.png"]
    assert kinds.without_twins(names) == ["a.jpg", "b.heic", "c.dng", "sub/a.heic", "d.jpg", "d.png"]


def test_the_numbers_of_colour() -> None:
    assert colour.to_bytes(np.array([-1, 0, 0.5, 1, 2, np.nan])).tolist() == [0, 0, 128, 255, 255, 0]
    values = np.linspace(0, 1, 50)
    np.testing.assert_allclose(colour.encoded(values), srgb_of(values), atol=1e-12)
    assert (
        float_tiff.white_of([0.2, 1.05]) == 1 and float_tiff.white_of([3]) == 255 and float_tiff.white_of([1e6]) is None
    )
