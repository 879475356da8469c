"""The boundary where files of strangers are read: the guard, JSON in bounds, pictures, and texts as they print."""

import io
import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from splat import InputError
from splat.images import open_image
from splat.reading import guarded, member, parse_json, read_bytes, require_file
from splat.text import printable


@pytest.mark.parametrize(
    "error",
    [
        ValueError("odd"),
        KeyError("odd"),
        IndexError("odd"),
        OverflowError("odd"),
        struct.error("odd"),
        zlib.error("odd"),
        EOFError("odd"),
        OSError("odd"),
        UnicodeDecodeError("utf-8", b"x", 0, 1, "odd"),
    ],
)
def test_damage_is_said_with_file_part_and_reason(error):
    with pytest.raises(InputError, match=r"a\.ply: .*odd") as caught, guarded("a.ply", "the header"):
        raise error
    assert caught.value.__cause__ is error


def test_deep_nesting_and_full_memory_are_said():
    with (
        pytest.raises(InputError, match="the header cannot be understood .*nested too deeply"),
        guarded("a", "the header"),
    ):
        json.loads("[" * 10**5)
    with pytest.raises(InputError, match="more memory than is free"), guarded("a", "the header"):
        raise MemoryError


@pytest.mark.parametrize("defect", [TypeError, AttributeError, AssertionError, RuntimeError])
def test_defects_of_a_reader_are_not_called_damage(defect):
    with pytest.raises(defect), guarded("a.ply", "the header"):
        raise defect


def test_json_in_bounds():
    assert parse_json(b'{"a": 1}', "f", "part") == {"a": 1}
    for data, said in (
        (b"[1]", "no object"),
        (b"{", "cannot be understood"),
        (b"\xff\xfe\xfd", "cannot be understood"),
    ):
        with pytest.raises(InputError, match=said):
            parse_json(data, "f", "part")
    with pytest.raises(InputError, match="too many entries"):
        parse_json(b'{"a": [' + b"{}," * 3_000_000 + b"0]}", "f", "part")


def test_members_are_of_their_kind():
    assert member({"a": 1}, "a", float) == 1 and member({}, "a", int, 7) == 7
    for holder, kind, said in (
        ({"a": True}, int, "'a' is True, expected a whole number"),
        ({"a": "1"}, float, "'a' is '1', expected a number"),
        ({"a": [1, 2]}, dict, "'a' is a list of 2, expected an object"),
        ({}, int, "'a' is missing"),
        (3, int, "3 stands where an object with 'a' was expected"),
        ({"a": 10**400}, str, "a number of 1,329 bits"),
    ):
        with pytest.raises(ValueError, match=said):
            member(holder, "a", kind)


def test_ordinary_files_alone(tmp_path):
    (tmp_path / "a").write_bytes(b"1234")
    assert read_bytes(tmp_path / "a", 4) == b"1234"
    for path, said in (
        (tmp_path / "b", "no such file"),
        (tmp_path, "is a folder"),
        (Path("/dev/zero"), "is a device"),
        (tmp_path / ("x" * 300), "File name too long"),
        (tmp_path / "a\0b", "null"),
    ):
        with pytest.raises(InputError, match=said):
            require_file(path)
    with pytest.raises(InputError, match="4 bytes are too many, expected at most 3"):
        read_bytes(tmp_path / "a", 3)


# ---- pictures ----


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "bmp"])
def test_pictures_of_known_formats_are_opened(suffix, tmp_path):
    path = tmp_path / f"a.{suffix}"
    Image.new("RGB", (30, 20), (200, 10, 10)).save(path)
    with open_image(path) as image:
        assert np.abs(np.asarray(image.convert("RGB")).astype(int) - (200, 10, 10)).max() < 8
    with open_image("a name", io.BytesIO(path.read_bytes())) as image:
        assert image.size == (30, 20)


def test_an_eps_posing_as_png_is_not_opened(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with Image.open(path) as image:  # what happens without the list
        assert image.format == "EPS"
    with pytest.raises(InputError, match="no picture in a known format"), open_image(path):
        pass


def png_of(width: int, height: int) -> bytes:
    """A PNG of zeros, without making its pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + width // 8)) for _ in range(height)) + packer.flush()
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def test_pictures_of_more_pixels_than_their_bytes_can_stand_for(tmp_path):
    (tmp_path / "mask.png").write_bytes(png_of(6000, 4000))
    with open_image(tmp_path / "mask.png") as image:
        assert not np.asarray(image).any()
    path = tmp_path / "bomb.png"
    for side in (12_000, 20_000):
        path.write_bytes(png_of(side, side))
        with pytest.raises(InputError, match=f"{side}×{side} pixels in .* bytes are too many"), open_image(path):
            pass
    path.write_bytes(png_of(8000, 8000))
    with open_image(path, believed=1 << 26) as image:
        assert image.size == (8000, 8000)


def test_damage_that_shows_while_decoding(tmp_path):
    path = tmp_path / "a.png"
    Image.effect_noise((80, 80), 50).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InputError, match=r"a\.png: the picture cannot be read"), open_image(path) as image:
        image.load()


# ---- texts ----


@pytest.mark.parametrize(
    "text, shown",
    [
        ("plain text", "plain text"),
        ("Größe 12\u2009345 → 象", "Größe 12\u2009345 → 象"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\nb\tc\r", "a\\nb\\tc\\r"),
        ("\x9b31m", "\\x9b31m"),
        ("gpj.\u202eexe", "gpj.\\u202eexe"),
        ("\udc80", "\\udc80"),
    ],
)
def test_printable(text, shown):
    assert printable(text) == shown
