"""OpenEXR files: linear light, in the primaries that the file names. Needs the package openexr."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.images import check_size
from splat.scene.pictures.colour import from_primaries

MAGIC = b"\x76\x2f\x31\x01"
_LARGEST = 1 << 20  # pixels a side


@dataclass(frozen=True)
class ExrHeader:
    """Size of the picture (the display window), whether it has alpha, and whether it is more than one grey channel."""

    width: int
    height: int
    alpha: bool
    colour: bool


def header(path: Path) -> ExrHeader:
    """The facts of ``path``. Raises InputError."""
    known = _open(path, header_only=True).header()
    (left, top, right, bottom), _ = _windows(path, known)
    names = {channel.name for channel in known["channels"]}
    return ExrHeader(right - left, bottom - top, "A" in names, {"R", "G", "B"} <= names)


def read(path: Path, believed: int) -> np.ndarray:
    """(H, W, 1, 3 or 4) float32 linear light: grey, sRGB primaries, straight alpha last. Raises InputError."""
    facts = _open(path, header_only=True).header()
    shown, stored = _windows(path, facts)
    for left, top, right, bottom in (shown, stored):
        check_size(path, right - left, bottom - top, path.stat().st_size, believed)
    channels = _open(path).channels()
    names = "RGB" if {"R", "G", "B"} <= channels.keys() else "Y" if "Y" in channels else ""
    if not names:
        raise InputError(
            f"{path} has the channels {', '.join(sorted(channels)[:8])}, expected R, G and B, or Y; export them so"
        )
    if names == "Y" and {"RY", "BY"} & channels.keys():
        raise InputError(f"{path} stores colours as luminance and chroma; save it with the channels R, G and B")
    wanted = [*names, *("A" if "A" in channels else "")]
    size = (stored[3] - stored[1], stored[2] - stored[0])
    planes = [np.asarray(channels[name].pixels, np.float32) for name in wanted]
    if any(plane.shape != size for plane in planes):
        raise InputError(f"{path} has channels of several sizes; save it without subsampling")
    pixels = _in_window(np.stack(planes, -1), stored, shown)
    if "A" in wanted:  # colours are stored times alpha
        alpha = pixels[..., -1:]
        pixels[..., :-1] = np.where(alpha > 0, pixels[..., :-1] / np.maximum(alpha, 1e-6), pixels[..., :-1])
    if names == "RGB" and "chromaticities" in facts:
        try:
            matrix = from_primaries(np.asarray(facts["chromaticities"], np.float64))
        except (ValueError, TypeError, ZeroDivisionError) as error:
            raise InputError(f"{path} names colours that cannot be ({error}); export it again") from error
        pixels[..., :3] = pixels[..., :3] @ matrix.T.astype(np.float32)
    return pixels if names == "RGB" or len(wanted) == 1 else pixels[..., [0, 0, 0, 1]]


def _open(path: Path, header_only: bool = False) -> Any:
    try:
        import OpenEXR
    except ImportError:
        raise InputError(f"{path} is an OpenEXR picture, which needs: pip install openexr") from None
    try:
        file = OpenEXR.File(str(path), separate_channels=True, header_only=header_only)
        file.header()
    except (RuntimeError, ValueError, OSError, MemoryError, TypeError, IndexError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path}: the picture cannot be read ({reason}); copy it again") from error
    return file


def _windows(path: Path, facts: dict[str, Any]) -> tuple[tuple[int, int, int, int], tuple[int, int, int, int]]:
    """Left, top, right, bottom (exclusive) of what is shown and of what is stored."""
    windows = []
    for name in ("displayWindow", "dataWindow"):
        (left, top), (right, bottom) = (map(int, corner) for corner in facts[name])
        if not (0 <= right - left < _LARGEST and 0 <= bottom - top < _LARGEST):
            raise InputError(f"{path} says that its picture has no size that can be; export it again")
        windows.append((left, top, right + 1, bottom + 1))
    return windows[0], windows[1]


def _in_window(pixels: np.ndarray, stored: tuple[int, int, int, int], shown: tuple[int, int, int, int]) -> np.ndarray:
    """``pixels`` of the window ``stored`` as the window ``shown`` has them; 0 where nothing is stored."""
    if stored == shown:
        return pixels
    result = np.zeros((shown[3] - shown[1], shown[2] - shown[0], pixels.shape[2]), np.float32)
    left, top = max(stored[0], shown[0]), max(stored[1], shown[1])
    right, bottom = min(stored[2], shown[2]), min(stored[3], shown[3])
    if left < right and top < bottom:
        result[top - shown[1] : bottom - shown[1], left - shown[0] : right - shown[0]] = pixels[
            top - stored[1] : bottom - stored[1], left - stored[0] : right - stored[0]
        ]
    return result
