"""Photos, masks and videos that are damaged or made to harm, and folders that hold too much."""

import os
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from support.scene_models import make_model

from splat.errors import InputError
from splat.scene import listing, load_scene
from splat.scene.images import decode, decode_mask, read_header
from splat.scene.readers import video

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n"


def refusal(path: Path, **options) -> str:
    with pytest.raises(InputError) as caught:
        load_scene(path, progress=False, **options)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    return text


def bomb(side: int) -> bytes:
    """A PNG of side × side grey pixels that are all 0."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side)) for _ in range(side)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_no_photo_starts_ghostscript(tmp_path, monkeypatch) -> None:
    make_model(tmp_path)
    started = []
    monkeypatch.setattr("PIL.EpsImagePlugin.Ghostscript", lambda *a, **k: started.append(a))
    path = tmp_path / "images/view_003.png"
    path.write_bytes(EPS)
    assert "view_003.png: it is no picture in a known format" in refusal(tmp_path)
    with pytest.raises(InputError, match="no picture in a known format"):
        decode(path, turn=False, keep_alpha=False)
    with pytest.raises(InputError, match="no picture in a known format"):
        decode_mask(path, (9, 9), False, path)
    assert not started


def test_bombs(tmp_path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(bomb(12_000))
    for read in (read_header, lambda path: decode(path, False, False)):
        with pytest.raises(InputError, match="12000×12000 pixels in .* bytes are too many"):
            read(path)
    path.write_bytes(bomb(6_000))
    with pytest.raises(InputError, match="6000×6000 pixels"):
        decode(path, False, False)
    assert not decode_mask(path, (6000, 6000), False, path).any()  # an empty mask is no bomb


def test_pipes_devices_and_folders_as_photos(tmp_path) -> None:
    make_model(tmp_path)
    path = tmp_path / "images/view_003.png"
    path.unlink()
    os.mkfifo(path)
    assert "view_003.png is a pipe" in refusal(tmp_path)
    path.unlink()
    path.symlink_to("/dev/zero")
    assert "view_003.png is a device" in refusal(tmp_path)
    path.unlink()
    path.mkdir()
    assert "view_003.png is a folder" in refusal(tmp_path)


def test_damaged_exif_harms_no_pixel(tmp_path) -> None:
    path = tmp_path / "a.jpg"
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (30, 20)).save(path, exif=exif)
    assert read_header(path).turned == (20, 30)
    data = bytearray(path.read_bytes())
    at = data.index(b"Exif\0\0") + 6
    data[at + 4 : at + 8] = b"\xff\xff\xff\xff"  # where the entries begin
    path.write_bytes(data)
    assert read_header(path).turned == (30, 20)
    assert decode(path, turn=True, keep_alpha=False).shape == (20, 30, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_as_pillow_turns(tmp_path, orientation) -> None:
    path = tmp_path / "a.png"
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(pixels).save(path, exif=exif)
    with PIL.Image.open(path) as image:
        truth = np.asarray(PIL.ImageOps.exif_transpose(image))
    np.testing.assert_array_equal(decode(path, turn=True, keep_alpha=False), truth)


def test_masks_by_their_brightest_channel(tmp_path) -> None:
    pixels = np.zeros((1, 4, 3), np.uint8)
    pixels[0, 1] = (0, 0, 200)
    pixels[0, 2] = (100, 100, 100)
    pixels[0, 3] = (128, 0, 0)
    path = tmp_path / "a.png"
    PIL.Image.fromarray(pixels).save(path)
    assert decode_mask(path, (1, 4), False, path).tolist() == [[False, True, False, True]]
    PIL.Image.fromarray(pixels.max(2)).save(path)
    assert decode_mask(path, (1, 4), False, path).tolist() == [[False, True, False, True]]


def test_folders_with_too_many_files(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(listing, "MOST_ENTRIES", 20)
    make_model(tmp_path)
    (tmp_path / "masks").mkdir()
    for k in range(21):
        (tmp_path / f"masks/{k}.txt").touch()
    assert "more than 20 files and folders" in refusal(tmp_path)


def test_hidden_files_and_loops_of_links(tmp_path) -> None:
    for name in ("a/1.png", "a/.2.png", ".b/3.png", "4.JPG", "5.txt", ".6/7/8.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    assert listing.list_images(tmp_path) == ["4.JPG", "a/1.png"]


# ---- earlier results beside the photos ----


@pytest.mark.parametrize("record", ["{", "[]", '{"fingerprint": 7}', "[" * 10**5])
def test_damaged_records_are_made_again(tmp_path, record) -> None:
    from splat.scene.sfm import result_cache

    (tmp_path / result_cache.RECORD).write_text(record)
    assert result_cache.find_result((tmp_path,), "abc") is None
    (tmp_path / result_cache.RECORD).write_text('{"fingerprint": "abc"}')
    assert result_cache.find_result((tmp_path,), "abc") == tmp_path


# ---- videos ----


def test_videos_that_are_none(tmp_path) -> None:
    path = tmp_path / "a.mp4"
    secret = tmp_path / "secret.txt"
    secret.write_text("x")
    for content in (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n" + str(secret).encode() + b"\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile secret.txt\n",
        b"",
        b"\0\0\0\x18ftypisom" + bytes(300),
    ):
        path.write_bytes(content)
        assert "a.mp4 cannot be read as a video" in refusal(path)
    path.unlink()
    os.mkfifo(path)
    assert "a.mp4 is a pipe" in refusal(path)


@pytest.mark.parametrize("suffix, code", [("mp4", "mp4v"), ("avi", "MJPG"), ("mkv", "mp4v")])
def test_containers_are_known(tmp_path, suffix, code) -> None:
    path = tmp_path / f"a.{suffix}"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*code), 10, (64, 48))
    for k in range(5):
        writer.write(np.full((48, 64, 3), 40 * k, np.uint8))
    writer.release()
    assert video.count_frames(path)[0] == 5


def test_large_frames_are_refused(tmp_path, monkeypatch) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    writer.release()
    monkeypatch.setattr(video, "MOST_PIXELS", 1000)
    with pytest.raises(InputError, match="frames of 3.07e\\+03 pixels"):
        video.count_frames(path)


def test_frames_wanted_of_absurd_rates() -> None:
    assert video.frames_wanted(1000, 1e-300) == video.MOST
    assert video.frames_wanted(10, 1e300) == 10
