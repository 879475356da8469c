"""Videos: H.264 in MP4, written frame by frame through PyAV."""

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from splat.errors import InputError
from splat.files import atomic_path

QUALITY = 18  # x264's constant rate factor: visually lossless; smaller is better and larger
BT709 = 1  # ffmpeg's number for ITU-R BT.709 primaries, transfer and matrix
LIMITED_RANGE = 1  # luma from 16 to 235


def check_av() -> None:
    """Raise InputError when the package that encodes videos is missing."""
    try:
        import av  # noqa: F401
    except ImportError as error:
        raise InputError(
            "writing MP4 needs the package 'av', which is not installed; install it with: pip install av, "
            "or write PNG pictures"
        ) from error


def write_video(
    path: str | Path, frames: Iterable[NDArray[np.uint8]], fps: float = 30.0, quality: int = QUALITY
) -> int:
    """Write ``frames`` to the MP4 file ``path``, which appears when the last one is done; returns their number.

    Frames are taken one at a time and not kept. Players want yuv420p with even sides: an odd last column or row is
    left out. Colours are tagged BT.709, so that they look as they did in the pictures.

    Args:
        frames: (H, W, 3) sRGB pictures, all of one size; at least 2×2.
        fps: frames per second.
        quality: constant rate factor, 0 (lossless) to 51.

    Raises:
        InputError: PyAV is missing, there are no frames, their size changes, or the file cannot be written.
    """
    check_av()
    import av

    if not (fps > 0 and 0 <= quality <= 51):
        raise InputError(
            f"a video with {fps} frames per second and quality {quality} was asked for; give > 0 and 0 to 51"
        )
    path, count, shape = Path(path), 0, None
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as file,
    ):
        stream = None
        for frame in frames:
            if stream is None:
                shape = frame.shape
                if len(shape) != 3 or shape[2] != 3 or min(shape[:2]) < 2:
                    raise InputError(f"{path}: a frame has shape {shape}, expected (H, W, 3) with at least 2×2 pixels")
                stream = _stream(file, shape, fps, quality)
            if frame.shape != shape:
                raise InputError(f"{path}: frame {count} has shape {frame.shape}, the first one {shape}; use one size")
            _encode(file, stream, frame)
            count += 1
        if stream is None:
            raise InputError(f"{path}: there are no frames to write; give at least one")
        file.mux(stream.encode())
    return count


def _stream(file, shape: tuple[int, ...], fps: float, quality: int):
    """The H.264 stream of an open PyAV container."""
    stream = file.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": str(quality)})
    stream.height, stream.width = (side - side % 2 for side in shape[:2])
    stream.pix_fmt = "yuv420p"
    context = stream.codec_context
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    return stream


def _encode(file, stream, frame: NDArray[np.uint8]) -> None:
    import av

    even = np.ascontiguousarray(frame[: stream.height, : stream.width])
    picture = av.VideoFrame.from_ndarray(even, format="rgb24").reformat(format="yuv420p", dst_colorspace="ITU709")
    file.mux(stream.encode(picture))
