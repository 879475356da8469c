"""MP4 files, decoded again."""

import sys

import numpy as np
import pytest

from splat.errors import InputError
from splat.video import write_video

av = pytest.importorskip("av")


def frames(count=10, height=96, width=128):
    """A smooth picture that moves, with patches of plain colours."""
    y, x = np.mgrid[:height, :width]
    for i in range(count):
        picture = np.stack([x * 255 / width, y * 255 / height, (x + 4 * i) % width * 100 / width], -1)
        picture[:40, :40] = (200, 30, 40)
        picture[:40, 40:80] = (20, 120, 190)
        yield picture.astype(np.uint8)


def decode(path):
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        pictures = [
            frame.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for frame in file.decode(stream)
        ]
        context = stream.codec_context
        return pictures, (context.name, context.pix_fmt, context.colorspace, float(stream.average_rate))


def test_frames_survive(tmp_path):
    assert write_video(tmp_path / "a.mp4", frames(), fps=25) == 10
    pictures, facts = decode(tmp_path / "a.mp4")
    assert facts == ("h264", "yuv420p", 1, 25.0)
    assert len(pictures) == 10
    for picture, original in zip(pictures, frames(), strict=True):
        error = picture.astype(float) - original
        assert 10 * np.log10(255**2 / (error**2).mean()) > 32
        assert np.abs(picture[15:25, 15:25].mean((0, 1)) - (200, 30, 40)).max() < 4
        assert np.abs(picture[15:25, 55:65].mean((0, 1)) - (20, 120, 190)).max() < 4


def test_odd_sides_lose_their_last_pixel(tmp_path):
    write_video(tmp_path / "a.mp4", frames(3, 97, 129))
    pictures, _ = decode(tmp_path / "a.mp4")
    assert pictures[0].shape == (96, 128, 3)


def test_fractional_rates_are_kept(tmp_path):
    write_video(tmp_path / "a.mp4", frames(3), fps=30000 / 1001)
    assert decode(tmp_path / "a.mp4")[1][3] == pytest.approx(30000 / 1001)


def test_nothing_half_written_is_left(tmp_path):
    def changing():
        yield from frames(2)
        yield np.zeros((10, 10, 3), np.uint8)

    with pytest.raises(InputError, match="frame 2 has shape"):
        write_video(tmp_path / "a.mp4", changing())
    with pytest.raises(InputError, match="no frames"):
        write_video(tmp_path / "a.mp4", [])
    with pytest.raises(InputError, match="expected \\(H, W, 3\\)"):
        write_video(tmp_path / "a.mp4", [np.zeros((10, 10), np.uint8)])
    assert list(tmp_path.iterdir()) == []


def test_without_the_package_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match="pip install av"):
        write_video(tmp_path / "a.mp4", frames(1))
