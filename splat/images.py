"""Opening pictures of strangers: formats that are expected, and no more pixels than their bytes can stand for."""

import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from splat.errors import InputError
from splat.files import write_bytes
from splat.reading import reason_of, require_file

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image

# Pillow knows forty more, some of which start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM", "AVIF")  # phones' MPO opens as JPEG
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
BELIEVED = 1 << 25  # pixels of a picture of one colour
PIXELS_PER_BYTE = 256  # of larger pictures


@contextmanager
def open_image(path: Path | str, file: BinaryIO | None = None, believed: int = BELIEVED) -> Iterator["Image.Image"]:
    """The picture ``path``, or in the open ``file``, then ``path`` is for messages; not decoded yet.

    Raises InputError when it is missing, damaged, in none of `FORMATS` or larger than its bytes can be; damage that
    shows only when the body of the ``with`` decodes the pixels is said in the same way. ``believed``: pixels that need
    no bytes to stand for them.
    """
    from PIL import Image, UnidentifiedImageError

    Image.MAX_IMAGE_PIXELS = None  # knows no file sizes: it would refuse the user's own panoramas
    size = require_file(path).stat().st_size if file is None else file.seek(0, 2)
    formats = FORMATS
    try:
        if file is not None:
            file.seek(0)
        formats += _plugin(path, file)
        with Image.open(path if file is None else file, formats=formats) as image:
            check_size(path, image.width, image.height, size, believed)
            yield image
    except UnidentifiedImageError:
        known = ", ".join(formats)
        raise InputError(f"{path}: it is no picture in a known format ({known}); convert it") from None
    except (
        OSError,  # Pillow's word for truncated data
        SyntaxError,  # and for a broken header
        ValueError,
        LookupError,
        ArithmeticError,
        EOFError,
        MemoryError,
        RuntimeError,  # of plugins, and NotImplementedError
        struct.error,
        zlib.error,
    ) as error:
        raise InputError(f"{path}: the picture cannot be read ({reason_of(error)}); copy it again") from error


def check_size(path: Path | str, width: int, height: int, size: int, believed: int = BELIEVED) -> None:
    """Raise InputError where a picture has more pixels than its ``size`` in bytes can stand for."""
    if width * height > max(believed, PIXELS_PER_BYTE * size):
        raise InputError(
            f"{path}: {width}×{height} pixels in {size:,} bytes are too many to be a photo; check the file"
        )


def _plugin(path: Path | str, file: BinaryIO | None) -> tuple[str, ...]:
    """The format of a picture that a package beside Pillow reads; that is loaded then. Raises InputError without it."""
    if file is None:
        with open(path, "rb") as opened:
            head = opened.read(12)
    else:
        head = file.read(12)
        file.seek(0)
    if head[4:8] == b"ftyp" and head[8:12] in _HEIF_BRANDS:
        try:
            import pillow_heif
        except ImportError:
            raise InputError(f"{path} is a HEIC photo, which needs: pip install pillow-heif") from None
        pillow_heif.register_heif_opener()
        return ("HEIF",)
    if head == b"\0\0\0\x0cJXL \r\n\x87\n" or head[:2] == b"\xff\n":
        try:
            import pillow_jxl  # noqa: F401  registers itself
        except ImportError:
            raise InputError(f"{path} is a JPEG XL photo, which needs: pip install pillow-jxl-plugin") from None
        return ("JXL",)
    return ()


def write_image(path: Path, pixels: "np.ndarray", **options: Any) -> None:
    """Write ``pixels`` (H, W[, 3]) uint8 to ``path`` in the format that its ending names; ``options`` are Pillow's.

    Raises InputError when it cannot be written. Pillow itself does not notice a write that is cut short.
    """
    from PIL import Image

    data = io.BytesIO()
    Image.fromarray(pixels).save(data, Image.registered_extensions()[path.suffix.lower()], **options)
    write_bytes(path, data.getvalue())
