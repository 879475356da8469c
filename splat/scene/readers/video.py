"""A video as a scene: its sharpest frames become the photos."""

import dataclasses
import hashlib
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np

from splat.errors import InputError
from splat.files import write_json
from splat.reading import guarded, reason_of, require_file
from splat.scene.build import RawScene
from splat.scene.progress import Report, reporter
from splat.scene.readers.photo_folder import read_photos
from splat.scene.registration import CamerasUnknown, Unregistered
from splat.scene.sfm import result_cache

VIDEO_SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".avi", ".mkv", ".webm", ".mts", ".m2ts", ".3gp", ".wmv"})
FRAMES_PER_SECOND = 2.0
FEWEST, MOST = 24, 150  # frames taken from short and long videos
_CANDIDATES = 6  # frames looked at per frame taken
_LOOK_SIDE = 480  # pixels; sharpness is judged on a small copy
MOST_PIXELS = 1 << 26  # of a frame; 8K has half of that
_MAGIC_BYTES = 200
_QUALITY = 95  # JPEG
_HEAD = 1 << 20  # bytes of the file that enter the fingerprint


def find_video(folder: Path) -> Path | None:
    """The only video in ``folder``, or None. Raises InputError when there are several."""
    with guarded(folder, "the folder"):
        names = sorted(name for name in os.listdir(folder) if os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES)
    videos = [folder / name for name in names if os.path.isfile(folder / name)]
    if len(videos) > 1:
        raise InputError(
            f"{folder} holds {len(videos)} videos ({videos[0].name}, {videos[1].name}…); give one of them by its path"
        )
    return videos[0] if videos else None


def read_video(path: Path, downscale: float, progress: Report | bool, register: bool = True) -> RawScene:
    """Take frames from ``path`` (kept beside it in .splat/), then treat them as photos. Raises InputError.

    Args:
        register: take frames and find their cameras where nothing is cached; else `CamerasUnknown` is raised there.
    """
    if not register and _kept_frames(path)[2] is None:
        raise CamerasUnknown(_before_frames(path))
    folder, taken, frames = frame_folder(path, progress)
    notes = (f"took the {taken} sharpest of {frames} frames of {path.name}",)
    try:
        raw = read_photos(
            folder, folder, downscale, progress, "video", ordered=True, extra_notes=notes, register=register
        )
    except CamerasUnknown as error:
        raise CamerasUnknown(dataclasses.replace(error.facts, path=path)) from None
    return dataclasses.replace(raw, root=path)


def _kept_frames(path: Path, as_stored: bool = False) -> tuple[str, tuple[Path, Path], Path | None]:
    """The fingerprint of the video ``path``, folders that may hold frames of it, and the one that does."""
    fingerprint = _fingerprint(path) + ("-stored" if as_stored else "")
    candidates = result_cache.candidate_folders(path.parent, f"{path.name}.frames", fingerprint)
    return fingerprint, candidates, result_cache.find_result(candidates, fingerprint)


def frame_folder(path: Path, progress: Report | bool = False, as_stored: bool = False) -> tuple[Path, int, int]:
    """The folder with frames taken from the video ``path``, how many they are, and of how many.

    Args:
        as_stored: frames are not turned as the file says they are to be shown.

    Raises InputError.
    """
    fingerprint, candidates, folder = _kept_frames(path, as_stored)
    if folder is None:
        folder = result_cache.first_writable(candidates)
        with reporter(progress) as report:
            _extract(path, folder, fingerprint, report, as_stored)
    record = result_cache.read_record(folder)
    return folder, record["taken"], record["frames"]


def _before_frames(path: Path) -> Unregistered:
    """What a video that no frames were taken of yet says of itself."""
    frames, rate = count_frames(path)
    with _opened(path) as video:
        size = tuple(int(video.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    wanted = frames_wanted(frames, rate)
    note = f"{wanted} of {frames} frames ({frames / rate:.1f} s at {rate:g} per second) would be taken"
    return Unregistered("video", path, wanted, {size: wanted}, notes=(note,))


def _fingerprint(path: Path) -> str:
    with guarded(path, "the file"), open(require_file(path), "rb") as file:
        head = file.read(_HEAD)
    settings = f"{path.stat().st_size} {FRAMES_PER_SECOND} {FEWEST} {MOST} {_CANDIDATES}"
    return hashlib.blake2b(head + settings.encode(), digest_size=16).hexdigest()


def _extract(path: Path, folder: Path, fingerprint: str, report: Report, as_stored: bool) -> None:
    """Write the sharpest frame of each interval as JPEG."""
    frames, rate = count_frames(path)
    with result_cache.atomic_folder(folder) as work:
        taken = 0
        for index, frame in sharpest_frames(path, frames, frames_wanted(frames, rate), report, as_stored):
            name = str(work / f"frame_{index:06d}.jpg")
            if not cv2.imwrite(name, frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]):
                raise InputError(f"cannot write {name}; free some space")
            taken += 1
        if taken < 3:
            raise InputError(f"the video {path} has {taken} readable frames, expected at least 3; record a longer one")
        write_json(work / result_cache.RECORD, {"fingerprint": fingerprint, "frames": frames, "taken": taken})


def frames_wanted(frames: int, rate: float) -> int:
    """How many of ``frames`` at ``rate`` per second to take: two a second, but neither too few nor too many."""
    return min(frames, max(FEWEST, math.ceil(min(MOST, frames / rate * FRAMES_PER_SECOND))))


@contextmanager
def _opened(path: Path) -> Iterator[cv2.VideoCapture]:
    """``path`` opened by OpenCV, and closed. Raises InputError where it is no video file, or damaged.

    The decoder would also take a playlist that names other files and addresses, and a path that is a pattern or begins
    with a protocol; so containers are known by their first bytes, and the path is absolute.
    """
    with guarded(path, "the file"), open(require_file(path), "rb") as file:
        head = file.read(_MAGIC_BYTES)
    if not is_container(head):
        raise InputError(f"{path} cannot be read as a video; convert it to MP4 (H.264), or give a folder of photos")
    video = cv2.VideoCapture(os.path.abspath(path))
    try:
        yield video
    except cv2.error as error:
        raise InputError(f"the video {path} is damaged ({reason_of(error)}); convert it to MP4 (H.264)") from error
    finally:
        video.release()


def is_container(head: bytes) -> bool:
    """Whether a file that begins with ``head`` is a video container: MP4 and its kin, Matroska, AVI, ASF or MPEG."""
    return (
        head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
        or head[:4] in (b"\x1a\x45\xdf\xa3", b"\x30\x26\xb2\x75", b"\x00\x00\x01\xba", b"\x00\x00\x01\xb3")
        or (head[:4] == b"RIFF" and head[8:12] == b"AVI ")
        or any(len(head) > at + size and head[at] == head[at + size] == 0x47 for at, size in ((0, 188), (4, 192)))
    )


def count_frames(path: Path) -> tuple[int, float]:
    """Number of frames and frames per second. Raises InputError when ``path`` is no readable video."""
    with _opened(path) as video:
        if not video.isOpened():
            raise InputError(f"{path} cannot be read as a video; convert it to MP4 (H.264), or give a folder of photos")
        size = video.get(cv2.CAP_PROP_FRAME_WIDTH) * video.get(cv2.CAP_PROP_FRAME_HEIGHT)
        if not size <= MOST_PIXELS:
            raise InputError(f"{path} has frames of {size:.3g} pixels, at most {MOST_PIXELS:.3g} are read; shrink it")
        frames, rate = int(video.get(cv2.CAP_PROP_FRAME_COUNT)), float(video.get(cv2.CAP_PROP_FPS))
        if frames <= 0:  # some containers do not say
            frames = 0
            while video.grab():
                frames += 1
    if frames == 0:
        raise InputError(f"the video {path} has no readable frame; convert it to MP4 (H.264)")
    return frames, rate if math.isfinite(rate) and rate > 0 else 30.0


def sharpest_frames(
    path: Path, frames: int, wanted: int, report: Report, as_stored: bool = False
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (index, BGR frame) of the sharpest candidate in each of ``wanted`` equal intervals."""
    interval = frames / wanted
    step = max(1, int(interval / _CANDIDATES))
    best: tuple[float, int, np.ndarray] | None = None
    current = index = 0
    with _opened(path) as video:
        if as_stored:
            video.set(cv2.CAP_PROP_ORIENTATION_AUTO, 0)
        while video.grab():
            if int(index / interval) != current:
                if best is not None:
                    yield best[1], best[2]
                best, current = None, int(index / interval)
                report("taking frames", index / frames)
            if index % step == 0 or best is None:
                ok, frame = video.retrieve()
                if ok:
                    score = sharpness(frame)
                    if best is None or score > best[0]:
                        best = score, index, frame
            index += 1
    if best is not None:
        yield best[1], best[2]
    report("taking frames", 1.0)


def sharpness(frame: np.ndarray) -> float:
    """Variance of the Laplacian of a small grey copy: falls with motion blur and bad focus."""
    scale = min(1.0, _LOOK_SIDE / max(frame.shape[:2]))
    small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), cv2.CV_32F).var())
