"""Opening pictures of strangers: formats that are expected, and no more pixels than their bytes can stand for."""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from splat.errors import InputError
from splat.reading import reason_of, require_file

if TYPE_CHECKING:
    from PIL import Image

# Pillow knows forty more, some of which start other programs (EPS: Ghostscript).
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF", "PPM")  # phones' MPO opens as JPEG
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
    try:
        if file is not None:
            file.seek(0)
        with Image.open(path if file is None else file, formats=FORMATS) as image:
            pixels = image.width * image.height
            if pixels > max(believed, PIXELS_PER_BYTE * size):
                raise InputError(
                    f"{path}: {image.width}×{image.height} pixels in {size:,} bytes are too many to be a photo; "
                    "check the file"
                )
            yield image
    except UnidentifiedImageError:
        known = ", ".join(FORMATS)
        raise InputError(f"{path}: it is no picture in a known format ({known}); convert it") from None
    except (
        OSError,  # Pillow's word for truncated data
        SyntaxError,  # and for a broken header
        ValueError,
        LookupError,
        ArithmeticError,
        EOFError,
        MemoryError,
        NotImplementedError,
        struct.error,
        zlib.error,
    ) as error:
        raise InputError(f"{path}: the picture cannot be read ({reason_of(error)}); copy it again") from error
