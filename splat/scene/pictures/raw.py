"""Raw files of cameras, developed with LibRaw. Needs the package rawpy.

White balance is the camera's, and brightness is left as the camera measured it: brightening each photo for itself would
make those of one scene differ.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from splat.errors import InputError
from splat.images import check_size

_SRGB = (2.4, 12.92)  # power and slope at black; LibRaw's own are those of BT.709
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flip → EXIF orientation


def header(path: Path) -> tuple[int, int, int]:
    """Width and height as developed before turning, and EXIF orientation. Raises InputError."""
    with _opened(path) as raw:
        sizes = raw.sizes
        return int(sizes.width), int(sizes.height), _ORIENTATIONS.get(int(sizes.flip), 1)


def read(path: Path, believed: int) -> np.ndarray:
    """(H, W, 3) uint8 sRGB, not turned. Raises InputError."""
    with _opened(path) as raw:
        check_size(path, int(raw.sizes.raw_width), int(raw.sizes.raw_height), path.stat().st_size, believed)
        return np.asarray(
            raw.postprocess(use_camera_wb=True, no_auto_bright=True, output_bps=8, user_flip=0, gamma=_SRGB)
        )


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        import rawpy
    except ImportError:
        raise InputError(f"{path} is a raw photo, which needs: pip install rawpy") from None
    try:
        with rawpy.imread(str(path)) as raw:
            yield raw
    except (rawpy.LibRawError, OSError, ValueError, MemoryError) as error:
        reason = error.args[0] if error.args else type(error).__name__
        reason = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise InputError(f"{path}: the raw photo cannot be developed ({reason}); convert it to JPEG or DNG") from error
