"""Videos as scenes: which frames are taken, where they are kept, and what is said about broken files."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from splat.errors import InputError
from splat.scene import load_scene
from splat.scene.readers import video
from splat.scene.readers.video import frames_wanted, sharpest_frames


def write_video(path: Path, sharp: set[int], frames: int = 60) -> None:
    """Frames of one texture; all but those in ``sharp`` are blurred. The corner tells the frame's number."""
    texture = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 10.0, (160, 120))
    assert writer.isOpened()
    for k in range(frames):
        writer.write(texture if k in sharp else cv2.GaussianBlur(texture, (0, 0), 4))
    writer.release()


def test_the_sharpest_frames_are_taken(tmp_path) -> None:
    sharp = {7, 11, 28, 33, 49, 50}
    write_video(tmp_path / "a.mp4", sharp)
    assert video.count_frames(tmp_path / "a.mp4") == (60, 10.0)
    found = {index for index, _ in sharpest_frames(tmp_path / "a.mp4", 60, 6, lambda stage, fraction: None)}
    assert found <= sharp and len(found) == 6


def test_number_of_frames() -> None:
    assert frames_wanted(3000, 30.0) == 150  # 100 s
    assert frames_wanted(900, 30.0) == 60  # 30 s
    assert frames_wanted(150, 30.0) == 24  # 5 s
    assert frames_wanted(10, 30.0) == 10


def test_frames_are_kept_beside_the_video(tmp_path, monkeypatch) -> None:
    write_video(tmp_path / "walk.mp4", set(range(0, 60, 3)))
    calls = []

    def read_photos(root, folder, downscale, progress, kind, ordered, extra_notes, register):
        calls.append((folder, kind, ordered, extra_notes))
        raise InputError("enough")

    monkeypatch.setattr(video, "read_photos", read_photos)
    for path in (tmp_path / "walk.mp4", tmp_path):  # the file, or the folder that holds it
        with pytest.raises(InputError, match="enough"):
            load_scene(path, progress=False)
    folder, kind, ordered, notes = calls[0]
    assert folder == tmp_path / ".splat/walk.mp4.frames" and kind == "video" and ordered
    assert len(list(folder.glob("*.jpg"))) == 24 and "24 sharpest of 60 frames" in notes[0]
    assert calls[1] == calls[0]


def test_broken_videos(tmp_path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(InputError, match=r"broken.mp4 cannot be read as a video"):
        load_scene(tmp_path / "broken.mp4", progress=False)
    (tmp_path / "second.mov").write_bytes(b"")
    with pytest.raises(InputError, match="2 videos"):
        load_scene(tmp_path, progress=False)
